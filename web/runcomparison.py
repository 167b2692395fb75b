"""What two runs differ in: how long they took, what was asked for, and the commits between. For pages and the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pipelines.model import Run, Step
from pipelines.runs.jobs import JobView
from pipelines.runs.trail import CommitSeen, line_of
from web.backing import service

_MOST_ROWS: Final = 400


class Took(msgspec.Struct, frozen=True):
    """How long something of two runs took, in seconds; None: it was not there, or did not run."""

    name: str
    old: float | None
    new: float | None


def older_first(one: int, other: int) -> tuple[Run, Run]:
    """Two runs by their numbers. Raises NotFoundError."""
    older, newer = sorted((one, other))
    return service().runs.get(older), service().runs.get(newer)


def times(old: Run, new: Run) -> list[Took]:
    """How long the runs took, and their jobs; of builds alone their steps. By name, in the newer one's order."""
    rows = [Took("the whole run", _lasted(old), _lasted(new))]
    jobs = [service().jobs.list(run.number) for run in (old, new)]
    if all(len(each) == 1 for each in jobs):
        steps = [service().runs.steps(run.number) for run in (old, new)]
        return [*rows, *_joined(*({step_name(each): _step_took(each) for each in its} for its in steps))]
    return [*rows, *_joined(*({each.name: _job_took(each) for each in its} for its in jobs))]


def _joined(old: Mapping[str, float | None], new: Mapping[str, float | None]) -> list[Took]:
    names = list(dict.fromkeys((*new, *old)))[:_MOST_ROWS]
    return [Took(name, old.get(name), new.get(name)) for name in names]


def _lasted(run: Run) -> float | None:
    return run.finished_at - run.started_at if run.finished_at and run.started_at else None


def _job_took(job: JobView) -> float | None:
    return job.finished_at - job.started_at if job.finished_at and job.started_at else None


def _step_took(step: Step) -> float | None:
    return step.duration_s if step.state in ("done", "failed") else None


def step_name(step: Step) -> str:
    """What a step does, without where it stands."""
    label = step.name.partition("] ")
    return label[2] if step.name.startswith("[") and label[2] else step.name


def asked_otherwise(old: Run, new: Run) -> list[tuple[str, str, str]]:
    """What was asked for otherwise: name, before, after."""
    found: list[dict[str, str]] = []
    for run in (old, new):
        options, pipeline = run.options, service().jobs.pipeline(run.number)
        its = {
            "Dockerfile": options.file or "",
            "target": options.target,
            "platform": options.platform or "",
            "cache": "not used" if options.no_cache else "",
            "pipeline": pipeline.name if pipeline else "",
        }
        its |= {f"build argument {name}": value for name, value in options.build_args.items()}
        its |= {f"parameter {name}": value for name, value in (pipeline.values if pipeline else {}).items()}
        found.append(its)
    names = dict.fromkeys((*found[0], *found[1]))
    return [
        (name, found[0].get(name, ""), found[1].get(name, ""))
        for name in names
        if found[0].get(name, "") != found[1].get(name, "")
    ]


def commits_between(old: Run, new: Run) -> Sequence[CommitSeen]:
    """The commits between two runs of one branch, or of a fork's pull request, as far as they had runs."""
    older, newer = sorted((old, new), key=lambda run: run.number)
    if old.project != new.project or line_of(old.trigger) != line_of(new.trigger) or not old.trigger.branch:
        return ()
    return service().trails.between(old.project, old.trigger, older.number, newer.number)
