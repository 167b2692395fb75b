"""Planning: from the project's settings and a forge's event to the runs that are to be made. Pure."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from builder.errors import InvalidUrlError
from builder.remotes.giturls import check_ref
from ci.patterns import means, means_any
from pipelines.errors import InvalidRequestError
from pipelines.forges.events import (
    Event,
    Ignored,
    Payload,
    Ping,
    PullRequest,
    PullRequestClosed,
    Push,
    Repository,
    Tag,
)
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, RunRequest, Trigger
from pipelines.projects.repositories import repository_key

_FULL_COMMIT: Final = (40, 64)


class Build(msgspec.Struct, frozen=True):
    """An action: make a run. before: the commit that the branch was at until a push; empty: unknown, or none."""

    request: RunRequest
    trigger: Trigger
    before: str = ""


class Hold(msgspec.Struct, frozen=True):
    """An action: make a run if the commit has pipelines, for only these say whether a push has done it already.

    reason: why there is no run, where it has none.
    """

    request: RunRequest
    trigger: Trigger
    reason: str


class Await(msgspec.Struct, frozen=True):
    """An action: make a run once somebody has approved its commit."""

    request: RunRequest
    trigger: Trigger


class Close(msgspec.Struct, frozen=True):
    """An action: end the runs of a pull request, which are of no use any more."""

    pull_request: int


class Skip(msgspec.Struct, frozen=True):
    """No action, for this reason."""

    reason: str


Action: TypeAlias = Build | Hold | Await | Close | Skip


def is_about(settings: HookSettings, repository: Repository) -> bool:
    """Whether the payload's repository is the project's own."""
    own = repository_key(settings.repository)
    return bool(settings.repository) and any(repository_key(url) == own for url in repository.urls)


def plan(project: Project, payload: Payload) -> tuple[Action, ...]:
    """The actions for a payload: one for each event, in order."""
    return tuple(_action(project, event) for event in payload.events)


def by_hand(project: Project, branch: str, by: str, sender: str) -> Build:
    """The newest commit of a branch, built as a push of it would be. branch: empty is the default one.

    by, sender: who asks, see ``Trigger``. Raises InvalidRequestError.
    """
    if not project.hook.repository:
        raise InvalidRequestError(f"project {project.name} has no repository", hint="its settings have a field for it")
    try:
        check_ref(branch)
    except InvalidUrlError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    source = _source(project.hook)
    if branch:
        source = msgspec.structs.replace(source, ref=f"refs/heads/{branch}", branch=branch)
    return Build(_request(project, source), Trigger(by=by, branch=branch, sender=sender))


def lane(trigger: Trigger) -> tuple[str, str] | None:
    """The branch or pull request in which a newer run supersedes this one; None for runs that nothing supersedes."""
    if trigger.kind == "push":
        return "branch", trigger.branch
    if trigger.kind == "pull_request":
        return "pull request", str(trigger.pull_request)
    return None


def _action(project: Project, event: Event) -> Action:
    match event:
        case Push():
            return _push(project, event)
        case Tag():
            return _tag(project, event)
        case PullRequest():
            return _pull_request(project, event)
        case PullRequestClosed(number=number):
            return Close(number)
        case Ping():
            return Skip("pong: the webhook works")
        case Ignored(reason=reason):
            return Skip(reason)


def _push(project: Project, push: Push) -> Action:
    hook = project.hook
    if not means(hook.branches, push.branch):
        return Skip(f"branch {push.branch} is not among the project's branches")
    if push.paths is not None and not means_any(hook.paths, push.paths):
        return Skip("no file changed that the project's paths name")
    # Where the payload does not list the files, the worker finds them out from the fetched commits.
    unknown = push.paths is None and push.before and hook.paths
    source = msgspec.structs.replace(
        _source(hook),
        ref=push.commit,
        branch=push.branch,
        base=push.before if unknown else "",
        paths=hook.paths if unknown else (),
    )
    trigger = Trigger(
        "push", push.author, branch=push.branch, commit=push.commit, title=push.title, url=push.url,
        context=_status(project), default_branch=push.default_branch,
    )  # fmt: skip
    return Build(_request(project, source), trigger, push.before)


def _tag(project: Project, tag: Tag) -> Action:
    hook = project.hook
    if not means(hook.tags, tag.name):
        return Skip(f"tag {tag.name} is not among the project's tags")
    source = msgspec.structs.replace(_source(hook), ref=tag.commit or f"refs/tags/{tag.name}", tag=tag.name)
    context = _status(project, "tag") if tag.commit else ""
    trigger = Trigger("tag", tag.author, tag=tag.name, commit=tag.commit, title=tag.title, url=tag.url, context=context)
    return Build(_request(project, source), trigger)


def _pull_request(project: Project, pull: PullRequest) -> Action:
    hook = project.hook
    shown = f"pull request {pull.number}"
    if hook.pull_requests == "off":
        return Skip(f"{shown}: the project builds no pull requests")
    if pull.fork and hook.pull_requests != "approve":
        return Skip(f"{shown} comes from a fork, and the project builds none of these")
    if not means(hook.branches, pull.target):
        return Skip(f"{shown} goes to branch {pull.target}, which is not among the project's branches")
    is_pushed = not pull.fork and means(hook.branches, pull.branch)
    whole = len(pull.commit) in _FULL_COMMIT
    source = msgspec.structs.replace(
        _source(hook),
        url=pull.clone_url or hook.repository,
        ref=pull.commit if whole else f"refs/heads/{pull.branch}",
        commit="" if whole else pull.commit,
        trusted=not pull.fork,
        base=pull.base if hook.paths and len(pull.base) in _FULL_COMMIT else "",
        paths=hook.paths if len(pull.base) in _FULL_COMMIT else (),
        only_pipelines=is_pushed,
    )
    if pull.clone_url:  # somebody else's repository has no use for the key to the project's own
        source = msgspec.structs.replace(source, ssh_key="")
    trigger = Trigger(
        "pull_request", pull.author, branch=pull.branch, pull_request=pull.number, commit=pull.commit,
        title=pull.title, url=pull.url, fork=pull.fork, context="" if is_pushed else _status(project, "pr"),
        target=pull.target,
    )  # fmt: skip
    request = _request(project, source)
    if is_pushed:
        return Hold(request, trigger, f"{shown}: the push to branch {pull.branch} builds it")
    return Await(request, trigger) if pull.fork else Build(request, trigger)


def _source(hook: HookSettings) -> GitSource:
    return GitSource(hook.repository, subdirectory=hook.context, ssh_key=hook.ssh_key, known_hosts=hook.known_hosts)


def _request(project: Project, source: GitSource) -> RunRequest:
    hook = project.hook
    options = BuildOptions(file=hook.file, target=hook.target, build_args=hook.build_args)
    return RunRequest(source, project.name, options)


def _status(project: Project, kind: str = "") -> str:
    """The name of the commit's mark at the forge; empty where none can be set."""
    if not project.reports_status:
        return ""
    return f"{project.hook.status_context}/{kind}" if kind else project.hook.status_context
