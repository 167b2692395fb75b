"""Planning a run that repeats some jobs of another one: the others' results are taken over, with their layers."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from ci.ends import JobOutcome, Published
from ci.takeover import Parts, parts_of
from core.digests import Digest
from core.trust import Domain
from images.kept import KeptThings
from pipelines.runs.graphs import RunPlan
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import PlannedRun, PlannedWork
from worker.keptrows import kept_name, kept_until, published_name
from worker.outputs import bring_from, bring_published
from worker.work import Work

_SHOWN: Final = 20


def take_over(work: Work, domain: Domain, found: PlannedRun, writer: LogWriter) -> PlannedRun:
    """A plan in which the jobs have results that need not be done again. What these made is kept for this run, too."""
    trigger, service = work.claim.run.trigger, work.resources.service
    other = trigger.retry_of
    known = work.keeper.insist(lambda: service.pipelines.results(other))
    if found.error or not known:
        writer.status(f"run {other} has no jobs whose results could be taken over")
        return found
    names = [planned.node.name for planned in found.jobs]
    missing = [name for name in trigger.redo if name not in names]
    if missing:
        return replace(found, jobs=(), error=f"run {other} cannot be repeated in part: there is no job {missing[0]!r}")
    if not trigger.redo:  # what failed: what that run had left out stays so
        names = [name for name in names if name in known]
    succeeded = {name: outcome for name in names if (outcome := known.get(name)) is not None}
    rows: dict[str, KeptThings] = {}
    approvals = {planned.node.name: _approval(work, other, planned) for planned in found.jobs if planned.gate}

    def is_here(name: str) -> bool:
        if name in approvals:
            return bool(approvals[name])
        row = _kept(work, domain, other, name, succeeded[name])
        if row is not None:
            rows[name] = row
        return row is not None

    nodes = [planned.node for planned in found.jobs]
    parts = parts_of([node for node in nodes if node.name in names], trigger.redo, succeeded, is_here=is_here)
    unknown = frozenset(node.name for node in nodes) - frozenset(names)
    parts = parts._replace(left_out=parts.left_out | unknown)
    made = parts.taken - approvals.keys()
    _keep(work, found.plan, {name: rows[name] for name in made if name in rows or is_here(name)})
    _tell(writer, other, parts, approvals)
    jobs = tuple(
        replace(planned, taken=_taken(work, domain, other, name, succeeded, approvals.get(name, "")))
        if name in parts.taken
        else planned
        for planned in found.jobs
        if (name := planned.node.name) not in parts.left_out
    )
    why = f"run {other} is repeated without it"
    left_out = {**found.plan.left_out, **{str(name): why for name in sorted(parts.left_out)}}
    return replace(found, jobs=jobs, plan=replace(found.plan, left_out=left_out, is_partial=bool(parts.left_out)))


def _kept(work: Work, domain: Domain, run: int, name: str, outcome: JobOutcome) -> KeptThings | None:
    """What a job of a run made, held by this session; None: neither this host nor the registry has all of it."""
    layers = (outcome.outputs,) if outcome.outputs is not None else ()
    images = (Digest.parse(outcome.image),) if outcome.image else ()
    if not layers and not images:
        return KeptThings("", (), (), 0.0)
    row = work.store.kept.get(kept_name(run, name))
    if row is not None and set(layers) <= set(row.layers) and set(images) <= set(row.images):
        return row
    return KeptThings("", layers, images, 0.0) if bring_from(work, domain, run, name, outcome) else None


def _keep(work: Work, plan: RunPlan, rows: dict[str, KeptThings]) -> None:
    """From before the transaction that tells of the run's jobs, as of what they make themselves."""
    until = kept_until(time.time() + plan.timeout_s, time.time())
    for name, row in rows.items():
        if row.layers or row.images:
            work.store.kept.keep(kept_name(work.claim.run.number, name), row.layers, row.images, until=until)


def _approval(work: Work, run: int, planned: PlannedWork) -> str:
    """Who approved a gate in another run, in words; empty: nobody did, or too long ago."""
    name, service = planned.node.name, work.resources.service
    found = work.keeper.insist(lambda: service.gates.approval(run, name))
    if found is None or found.decided_at + found.timeout_s <= time.time():
        return ""
    return f"approved by {found.by} in run {found.run}"


def _taken(
    work: Work, domain: Domain, run: int, name: str, succeeded: Mapping[str, JobOutcome], approval: str
) -> JobOutcome:
    """The result of a job of a run, as this run has it."""
    outcome = succeeded[name]
    return replace(
        outcome,
        state="reused",
        reused_from=outcome.reused_from or str(run),
        message=approval or outcome.message,
        published=tuple(each for each in outcome.published if _keep_published(work, domain, run, name, each)),
    )


def _keep_published(work: Work, domain: Domain, run: int, job: str, output: Published) -> bool:
    """Keep an output for people of a job of a run for this one, too, from now on. False: it is not here any more."""
    row = work.store.kept.get(published_name(run, job, output.name))
    is_here = row is not None and output.layer in row.layers
    if not is_here and not bring_published(work, domain, run, job, output.name):
        return False
    name = published_name(work.claim.run.number, job, output.name)
    work.store.kept.keep(name, [output.layer], until=time.time() + output.keep_s)
    return True


def _tell(writer: LogWriter, run: int, parts: Parts, gates: Collection[str]) -> None:
    for name in sorted(parts.gone):
        why = "its approval is too old" if name in gates else f"what it made in run {run} is not kept any more"
        writer.status(f"{name} is done again: {why}")
    for what, names in (("taken over", parts.taken), ("left out", parts.left_out)):
        if names:
            first, more = sorted(names)[:_SHOWN], len(names) - _SHOWN
            writer.status(f"{what} of run {run}: {', '.join(first)}" + (f" and {more} more" if more > 0 else ""))
