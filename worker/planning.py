"""Planning: the first job of a run whose repository has pipeline files, in the claim that would else build.

What asks anybody comes first: the fetch, the files, what changed, which directories there are. Then each pipeline is
planned for the run that it gets, purely, in the transaction that makes those runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final, NamedTuple, cast

from msgspec.structs import replace

from ci.conditions import Event
from ci.errors import PipelineFileError
from ci.graph import jobs_before
from ci.handover import nodes_of
from ci.language.shapes import Text
from ci.missingsecrets import missing_secrets
from ci.model import Concurrency, EventName, Param, ParamType, Schedule
from ci.params import ParamError
from ci.parsing import ParsedFile, parse_alone, parse_pipeline, pipeline_name
from ci.patterns import means
from ci.planning import PlannedJob, names, plan
from ci.source.commit import FetchedCommit
from ci.source.facts import commits_between, directories_of_tree, is_ancestor, merge_base, pipeline_files_of
from ci.source.objects import Objects
from core.platforms import Platform
from core.suggestions import suggestion
from pipelines.errors import InvalidRequestError
from pipelines.model import Run
from pipelines.runs.domains import named_by, run_asks
from pipelines.runs.gaterows import Changes, CommitTold, GateTerms
from pipelines.runs.graphs import RunPlan
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import PlannedRun, PlannedWork, Times
from pipelines.runs.queue import check_labels
from pipelines.sources.git import as_source_errors
from worker.building import Pipelined
from worker.fetching import fetched
from worker.parts import part_reader
from worker.retrying import take_over
from worker.work import Work

Planner = Callable[[int], PlannedRun]
"""Plans a pipeline for the run of a number, without asking anybody."""

_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
_SHOWN_COMMITS: Final = 100


class _Commit(NamedTuple):
    """What all pipelines of a commit are planned by. ref: its branch's or tag's full name; empty for neither."""

    id: str
    ref: str
    facts: dict[str, str]
    event: Event


class Pipelines(NamedTuple):
    """What is to be done with a commit.

    planners: of its pipelines by name, in the order of their files.
    times: when these run by themselves; None: the commit is not the default branch's newest, as far as anybody knows.
    """

    planners: list[tuple[str, Planner]]
    times: Times | None = None


def plan_pipelines(work: Work, found: Pipelined, writer: LogWriter) -> Pipelines:
    """The pipelines of the run's commit. Raises ShiplapErrors of all rooms below.

    A run that repeats another has only that one's pipeline, and whoever names one gets that alone.
    """
    run, service = work.claim.run, work.resources.service
    ref = _ref(run, found)
    writer.status(f"planning commit {found.checkout.commit}")
    default = run.trigger.default_branch or found.checkout.head.branch
    against = run.trigger.target or default
    with contextlib.ExitStack() as stack:
        commit = found.commit
        if commit is None:
            others = [f"{_HEADS}{against}"] if against else []
            commit = stack.enter_context(fetched(work, ref=ref, commit=found.checkout.commit, others=others))
        files = _files(commit)
        repeated = run.trigger.retry_of
        before = work.keeper.insist(lambda: service.pipelines.pipeline_of(repeated)) if repeated else ""
        only = before or run.trigger.pipeline
        chosen = [path for path in files if not only or pipeline_name(path) == only]
        if only and not chosen:
            hint = suggestion(only, map(pipeline_name, files))
            raise InvalidRequestError(f"commit {found.checkout.commit[:12]} has no pipeline {only!r}", hint=hint)
        planners = [
            (pipeline_name(path), _planner(work, found, commit, ref, path, files[path], writer)) for path in chosen
        ]
    if run.trigger.is_part:
        plans = [(name, take_over(work, found.domain, planner(run.number), writer)) for name, planner in planners]
        return Pipelines([(name, _again(plan)) for name, plan in plans])
    tells = found.domain.lane == "protected" and ref.startswith(_HEADS) and not run.trigger.retry_of
    return Pipelines(planners, {pipeline_name(path): _times(files[path], path) for path in files} if tells else None)


def _files(commit: FetchedCommit) -> dict[str, bytes]:
    return commit.read(lambda objects: pipeline_files_of(objects, commit.commit.tree))


def _times(data: bytes, path: str) -> Sequence[Schedule] | None:
    """When a pipeline runs by itself; None: the file is wrong, which its planning tells."""
    try:
        listens = parse_alone(data, path).pipeline.on
    except PipelineFileError:
        return None
    return listens["cron"].schedules if "cron" in listens else ()


def _again(planned: PlannedRun) -> Planner:
    """A plan of the run that is being planned, which repeats another's: no other run gets it."""
    return lambda _: planned


def _planner(
    work: Work, found: Pipelined, commit: FetchedCommit, ref: str, path: str, data: bytes, writer: LogWriter
) -> Planner:
    name = pipeline_name(path)
    about = RunPlan(path, commit.commit.id, ref)
    branch, tag = named_by(ref)
    asks = run_asks(work.claim.run, found.domain, branch, tag, name)
    sifted = work.held.sifted(asks)
    try:
        with as_source_errors():
            parsed = parse_pipeline(data, path, part_reader(work, commit, sifted.values))
    except PipelineFileError as error:
        wrong = PlannedRun(name, about, error=error.render(), summary=error.message)
        _tell(writer, path, wrong)
        return lambda _: wrong
    event = _event(work, found, commit, name, ref)
    about = replace(
        about,
        history=parsed.pipeline.source.history,
        submodules=parsed.pipeline.source.submodules,
        lfs=parsed.pipeline.source.lfs,
        stop_on_failure=parsed.pipeline.stop_on_failure,
        timeout_s=parsed.pipeline.timeout_s,
        statuses=str(parsed.pipeline.statuses),  # not a text that knows its place
    )
    changes = _changes(work, commit, name)

    def missing(jobs: Sequence[PlannedJob]) -> list[str]:
        bring = f"shiplap secret set --project {work.claim.run.project} NAME FILE"
        refused = sifted.refusals({secret for each in jobs for secret in each.job.secret_names}, asks)
        change = "" if asks.domain.is_fork else "shiplap secret policy"
        return missing_secrets(jobs, path, sifted.values, refused, bring=bring, change=change)

    planner = partial(
        _planned, name, about, parsed, event, _run_url(work), work.claim.run.worker_labels, changes, missing
    )
    _tell(writer, path, planner(work.claim.run.number))  # and asks whatever it has to ask
    return planner


def _planned(
    name: str,
    about: RunPlan,
    parsed: ParsedFile,
    event: Event,
    url: Callable[[int], str],
    labels: Sequence[str],
    changes: Callable[[str], Changes | None],
    missing: Callable[[Sequence[PlannedJob]], list[str]],
    number: int,
) -> PlannedRun:
    """A pipeline as it is run under a number.

    event: lacks what depends on that.
    changes: before a gate, by its job.
    missing: says which secrets jobs will not get.
    """
    facts = {**event.facts, "SHIPLAP_RUN": str(number), "SHIPLAP_URL": url(number)}
    about = replace(about, facts=facts)
    try:
        found = plan(parsed, replace(event, facts=facts))
        group = found.concurrency or Concurrency("")
        about = replace(about, facts={**found.params, **facts}, params=_declared(parsed))
        about = replace(about, group=str(group.group), group_limit=group.limit, when_busy=str(group.when_busy))
        about = replace(
            about,
            secrets=tuple(sorted({name for each in found.jobs for name in each.job.secret_names})),
            secret_jobs=tuple(str(each.name) for each in found.jobs if each.job.may_output_secrets),
        )
        nodes = nodes_of(found.jobs, group.group)
        before = jobs_before(nodes)

        def lacking(gate: str) -> tuple[str, ...]:
            return tuple(missing([each for each in found.jobs if gate in before[each.name]]))

        work = tuple(
            PlannedWork(node, planned.to_data(), _labels(planned, labels), gate=_terms(planned, changes, lacking))
            for node, planned in zip(nodes, found.jobs, strict=True)
        )
    except PipelineFileError as error:
        return PlannedRun(name, about, error=error.render(), summary=error.message)
    except (InvalidRequestError, ParamError) as error:
        return PlannedRun(name, about, error=error.message)
    left_out = {str(job): str(reason) for job, reason in found.left_out.items()}
    if found.reason and about.statuses == "jobs":  # each job has a mark, and somebody may wait for it
        left_out |= {str(job): str(found.reason) for job in names(parsed, event)}
    reason, is_run_otherwise = str(found.reason), found.is_run_otherwise
    whole = replace(about, left_out=left_out, reason=reason, is_run_otherwise=is_run_otherwise)
    return PlannedRun(name, whole, work, warnings=tuple(missing(found.jobs)))


def _terms(
    planned: PlannedJob, changes: Callable[[str], Changes | None], lacking: Callable[[str], tuple[str, ...]]
) -> GateTerms | None:
    """What a gate asks; None: the job is none. A text that names exports of other jobs is whole only when it asks.

    changes, lacking: what changed before a gate, and which secrets jobs after it will not get, by its job.
    """
    gate = planned.job.approve
    if gate is None:
        return None
    asked, by = gate.message, tuple(map(str, gate.by))
    is_open = isinstance(asked, Text) and asked.is_template
    return GateTerms(
        str(asked).strip(), is_open, by, gate.not_author, gate.timeout_s, changes(planned.name),
        missing=lacking(planned.name),
    )  # fmt: skip


def _changes(work: Work, commit: FetchedCommit, pipeline: str) -> Callable[[str], Changes | None]:
    """What changed since the run that was approved last, by the job of a gate. Each is asked once."""
    run, service = work.claim.run, work.resources.service

    @cache
    def since(gate: str) -> Changes | None:
        last = work.keeper.insist(lambda: service.gates.last_approved(run, pipeline, gate))
        return None if last is None else _between(commit, *last)

    return since


def _between(commit: FetchedCommit, run: int, before: str) -> Changes:
    def since(objects: Objects) -> Changes:
        own = commit.commit.id
        if not objects.has(before):
            return Changes(run, before, is_known=False)
        told, count = commits_between(objects, before, own, _SHOWN_COMMITS)
        commits = tuple(CommitTold(each.id, each.author, each.title) for each in told)
        return Changes(run, before, commits, count, len(objects.changed_paths(before, own)))

    return commit.read(since)


def _declared(parsed: ParsedFile) -> dict[str, Param]:
    """The parameters of a pipeline, without texts that know their places."""
    found = {}
    for name, param in parsed.pipeline.params.items():
        kind, choices = cast("ParamType", str(param.type)), tuple(map(str, param.choices))
        found[str(name)] = Param(str(param.default), kind, choices, str(param.pattern), str(param.about))
    return found


def _labels(planned: PlannedJob, of_run: Sequence[str]) -> tuple[str, ...]:
    """What a worker has to be called to get the job. Workers of this one's platform need no name for that."""
    job = planned.job
    wanted = [str(label) for label in job.workers]
    if job.platform and Platform.parse(str(job.platform)) != Platform.host():
        wanted.append(str(job.platform).replace("/", "-"))
    try:
        check_labels((*of_run, *wanted))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{planned.name}: {error.message}", hint=error.hint) from error
    return tuple(wanted)


def _event(work: Work, found: Pipelined, commit: FetchedCommit, pipeline: str, ref: str) -> Event:
    """What the run is of. Its questions are asked once."""
    run, trigger = work.claim.run, work.claim.run.trigger
    kind: EventName = trigger.kind
    branch = trigger.branch or ref.removeprefix(_HEADS) if not ref.startswith(_TAGS) else ""
    tag = trigger.tag or (ref.removeprefix(_TAGS) if ref.startswith(_TAGS) else "")
    facts = {
        **commit.facts(),
        "SHIPLAP_PROJECT": run.project,
        "SHIPLAP_EVENT": kind,
        "SHIPLAP_BRANCH": branch,
        "SHIPLAP_TARGET": trigger.target,
        "SHIPLAP_TAG": tag,
        "SHIPLAP_PULL_REQUEST": str(trigger.pull_request) if trigger.pull_request else "",
    }
    if trigger.title and kind == "pull_request":
        facts["SHIPLAP_TITLE"] = trigger.title.partition("\n")[0]
    if trigger.by and kind != "manual":
        facts["SHIPLAP_AUTHOR"] = trigger.by

    @cache
    def changed() -> Sequence[str] | None:
        base = _base(work, commit, pipeline, branch)
        return None if base is None else commit.read(lambda objects: objects.changed_paths(base, commit.commit.id))

    @cache
    def directories(pattern: str) -> tuple[str, ...]:
        return commit.read(lambda objects: directories_of_tree(objects, commit.commit.tree, pattern))

    return Event(
        kind,
        branch,
        trigger.target,
        tag,
        is_fork=trigger.fork or not run.is_trusted,
        facts=facts,
        changed=changed,
        directories=directories,
        title="" if trigger.retry_of else commit.commit.title,  # somebody wants it, whatever the title says
        params=trigger.params if kind == "manual" else {},
        runs_pushes=bool(found.project.hook.forge) and means(found.project.hook.branches, branch),
    )


def _base(work: Work, commit: FetchedCommit, pipeline: str, branch: str) -> str | None:
    """The commit with which to compare; None: everything counts as changed.

    What failed yesterday is not green today because only a comment changed: so the last success counts where it is an
    ancestor. Else it is what the branch was until the push; of a new or forced branch, and of a pull request, where it
    left the one that it goes to.
    """
    run, service = work.claim.run, work.resources.service
    if run.trigger.kind in ("tag", "manual", "cron"):
        return None
    own = commit.commit.id
    known = work.keeper.insist(lambda: service.pipelines.last_success(run, pipeline, branch, own))
    if known and run.is_trusted and commit.read(lambda objects: is_ancestor(objects, known, own)):
        return known
    if run.trigger.kind == "push":
        before = work.keeper.insist(lambda: service.pipelines.before(run, pipeline, branch))
        if before and before != own and commit.read(lambda objects: is_ancestor(objects, before, own)):
            return before
    other = next(iter(commit.fetched.others.values()), "")
    base = commit.read(lambda objects: merge_base(objects, other, own)) if other else None
    return None if base == own else base


def _ref(run: Run, found: Pipelined) -> str:
    checkout = found.checkout
    tag = run.trigger.tag or checkout.tag
    if tag:
        return f"{_TAGS}{tag}"
    branch = run.trigger.branch or checkout.branch
    return f"{_HEADS}{branch}" if branch else ""


def _run_url(work: Work) -> Callable[[int], str]:
    base = work.resources.service.settings.public_url.rstrip("/")
    return lambda number: f"{base}/runs/{number}" if base else ""


def _tell(writer: LogWriter, path: str, found: PlannedRun) -> None:
    if found.error:
        writer.status(f"{path} cannot be run:")
        for line in found.error.splitlines():
            writer.status(line)
        return
    writer.status(f"{path}: {len(found.jobs)} jobs" if found.jobs else f"{path}: nothing is run: {found.plan.reason}")
    for warning in found.warnings:
        writer.status(f"warning: {warning}")
    for name, reason in found.plan.left_out.items() if found.jobs else ():
        writer.status(f"{name} is left out: {reason}")
