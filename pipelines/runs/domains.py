"""For whom a run is: its domain of ``core.trust``, from what the service and the repository's server know.

What the run's author wrote never counts. A branch or a tag counts where the project's own repository has it, as its
server or a signed payload says. A bare commit may be anybody's: forges hand out the commits of forks by their hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from core.trust import Domain, of_branch, of_fork, of_stranger, of_user, parse, protected
from pipelines.model import ContextSource, GitSource, HookSettings, Project, Run, Source, Trigger
from pipelines.owning.policies import RunAsks
from pipelines.projects.defaultnames import Origin
from pipelines.sources.senders import shown_sender

if TYPE_CHECKING:  # whoever submits runs fetches nothing
    from pipelines.sources.git import Checkout


def told(source: Source, project: str, trigger: Trigger) -> Domain | None:
    """The domain as far as the service knows it alone; None: the repository's server has to be asked.

    trigger: made by the service itself: from a session, a token, or a payload whose signature fits.
    """
    if trigger.fork:
        return of_fork(project, trigger.pull_request)
    if isinstance(source, ContextSource):
        return of_user(project, _who(trigger))
    if not source.trusted:
        return of_stranger(project, _who(trigger))
    match trigger.kind:
        case "tag":
            return protected(project)
        case "pull_request":
            return of_branch(project, trigger.branch)
        case "push" if trigger.default_branch:
            return _of_branch_named(project, trigger.branch, trigger.default_branch)
    return None


def domain_of(run: Run) -> Domain | None:
    """The domain that was settled, or that ``told`` gives; None: ``found`` has to say it."""
    return parse(run.project, run.domain) if run.domain else told(run.source, run.project, run.trigger)


def found(run: Run, source: GitSource, project: Project, checkout: Checkout) -> Domain:
    """The domain by what the repository's server said when the commit was fetched. checkout: with ``head``.

    What cannot be shown to be the project's own is only for whoever asked for it.
    """
    hook, ref, head = project.hook, checkout.found, checkout.head
    if run.trigger.kind == "push":
        return _of_branch_named(run.project, run.trigger.branch, head.branch)
    if _is_as_the_project_has_it(run, source, hook) and _is_as_the_server_says(source, checkout):
        if ref.branch:
            return _of_branch_named(run.project, ref.branch, head.branch)
        if ref.tag or ref.commit == head.commit:
            return protected(run.project)
    return of_user(run.project, _who(run.trigger))


def named_by(ref: str) -> tuple[str, str]:
    """The branch and the tag of a full ref; at most one of them is not empty."""
    kind, _, name = ref.removeprefix("refs/").partition("/")
    return (name if kind == "heads" else "", name if kind == "tags" else "")


def run_asks(run: Run, domain: Domain, branch: str, tag: str, pipeline: str = "") -> RunAsks:
    """The run as policies of secrets look at it. branch, tag: that it was found by, or that a payload names."""
    if domain.lane == "branch":
        branch, tag = domain.name, ""
    return RunAsks(domain, run.trigger.kind, "" if tag else branch, tag, pipeline)


def _who(trigger: Trigger) -> str:
    """The sender that a run by hand belongs to; ``by`` for runs that were queued before senders were noted."""
    return shown_sender(trigger.sender) or trigger.by


def _is_as_the_project_has_it(run: Run, source: GitSource, hook: HookSettings) -> bool:
    """Whether nobody could bend what the steps do: by another server, build arguments, or the addresses of hosts.

    What a bent run leaves in a cache mount would get into what the next run ships.
    """
    chosen, options = (source.url, source.known_hosts, run.options.build_args), run.options
    return chosen == (hook.repository, hook.known_hosts, hook.build_args) and not options.add_hosts


def _is_as_the_server_says(source: GitSource, checkout: Checkout) -> bool:
    """Whether the request names no branch and no tag beside its ref but those that the server has for it."""
    ref, head = checkout.found, checkout.head
    branch = ref.branch or (head.branch if ref.commit == head.commit else "")
    return source.branch in ("", branch) and source.tag in ("", ref.tag)


def origin(run: Run, domain: Domain, hook: HookSettings, checkout: Checkout) -> Origin:
    """The origin that the run's image may be named after: nothing that only its author says, only for whole images.

    A run by hand counts if it builds what the project's settings say: a branch's name does not stand for another
    target.
    """
    if domain.lane not in ("protected", "branch"):
        return Origin()
    is_default, commit, trigger = domain.lane == "protected", checkout.commit, run.trigger
    match trigger.kind:
        case "push":
            return Origin(trigger.branch, is_default, commit=commit)
        case "tag":
            return Origin(tag=trigger.tag, commit=commit)
        case "pull_request":
            return Origin(pull_request=trigger.pull_request, commit=commit)
    assert isinstance(run.source, GitSource)
    options = run.options
    asked = (run.source.subdirectory, options.file, options.target, options.platform)
    if asked != (hook.context, hook.file, hook.target, None):
        return Origin()
    found = checkout.found
    return Origin(found.branch, is_default and bool(found.branch), found.tag, commit=commit)


def origin_of_job(run: Run, domain: Domain, branch: str, tag: str, commit: str) -> Origin:
    """``origin`` of what a job of a pipeline builds: its file says how, and whoever began the run by hand cannot.

    branch, tag, commit: that the run was planned for.
    """
    if domain.lane not in ("protected", "branch"):
        return Origin()
    if run.trigger.kind == "pull_request":
        return Origin(pull_request=run.trigger.pull_request, commit=commit)
    if tag:
        return Origin(tag=tag, commit=commit)
    return Origin(branch, domain.lane == "protected" and bool(branch), commit=commit)


def unambiguous(source: GitSource, checkout: Checkout) -> GitSource:
    """The source with the full ref that its ref meant, so that a later attempt does not take a new branch for a tag."""
    return msgspec.structs.replace(source, ref=checkout.found.name) if source.ref else source


def _of_branch_named(project: str, branch: str, default: str) -> Domain:
    return protected(project) if branch == default else of_branch(project, branch)
