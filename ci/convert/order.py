"""Who needs whom, where another system has an order of steps or stages: as few needs as say the same."""

from __future__ import annotations

from collections.abc import Sequence

from ci.convert.draft import Draft, DraftJob, Value


def put_after(job: DraftJob, groups: Sequence[Sequence[DraftJob]]) -> None:
    """Let a job come after groups of jobs, the last of which comes right before it.

    A job that may be left out of a run is needed with ``?``; then what came before it is needed as well, back to a
    group that has a job of every run. Jobs for failures are never waited for: they are skipped when all goes well.
    """
    needs: list[Value] = []
    for group in reversed(groups):
        waited = [other for other in group if "after" not in other.keys]
        needs += [f"{other.name}?" if other.is_conditional else other.name for other in waited]
        if any(not other.is_conditional for other in waited):
            break
    if needs:
        job.put("needs", needs)


def fill_in_needs(job: DraftJob, wanted: Sequence[DraftJob]) -> None:
    """Let a job need others; of those that may be left out, as the other system does, only where they are there."""
    if wanted:
        needs: list[Value] = [f"{other.name}?" if other.is_conditional else other.name for other in wanted]
        job.put("needs", needs)


def with_matrix(draft: Draft) -> None:
    """Where all jobs have the same matrix, each needs the one with its own values."""
    for job in draft.jobs.values():
        matrix = job.keys.get("matrix")
        entry = job.keys.get("needs")
        if matrix is None or entry is None or not isinstance(entry.value, list):
            continue
        names = axes(matrix.value)
        own = ", ".join(f"${{{name}}}" for name in names)
        needs: list[Value] = []
        for need in entry.value:
            name = str(need).removesuffix("?")
            other = draft.jobs.get(name)
            has_same = other is not None and "matrix" in other.keys and axes(other.keys["matrix"].value) == names
            mark = "?" if str(need).endswith("?") else ""
            needs.append(f"{name} ({own}){mark}" if has_same else need)
        job.put("needs", needs, entry.span)


def axes(matrix: Value) -> list[str]:
    """The names of a matrix's lists, in order; of one that has only combinations, theirs."""
    if not isinstance(matrix, dict):
        return []
    lists = [name for name in matrix if name == name.upper()]
    include = matrix.get("include")
    if not lists and isinstance(include, list) and include and isinstance(include[0], dict):
        return list(include[0])
    return lists
