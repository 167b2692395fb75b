"""From a draft to a file that lints: what lint refuses is taken out, and listed where it came from.

Lint is the real function. What only adds to a job goes; where a job would do more, or something else, for lack of it,
the job becomes one that fails. So nothing runs that was held back before.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ci.convert.draft import Draft, DraftJob, Value
from ci.convert.foreign import Foreign
from ci.convert.yamltext import Owner, TooLargeError, Written, written
from ci.document import MAX_BYTES
from ci.errors import PipelineFileError
from ci.language.limits import MAX_JOBS
from ci.language.pipelines import EVERYTHING
from ci.parsing import parse_alone
from ci.problems import Problem

_ROUNDS: Final = 30
"""So often something is taken out. Each round deals with all that one look shows."""

_ADDS: Final = frozenset(
    {"caches", "timeout", "grace", "retry", "outputs", "reports", "limits", "user", "tty", "env", "secrets", "shell"}
)
"""Keys without which a job still does no more than it did: if it needs what they bring, it fails."""


class Settled(NamedTuple):
    """A file that lints. text: of the file. warnings: what lint says of it, printed."""

    text: str
    warnings: str


def settled(draft: Draft, foreign: Foreign, comment: list[str]) -> Settled:
    """Write the draft so that it lints; ``comment`` stands first. Raises PipelineFileError when nothing is left of it.

    What is listed by this is not in the comment: whoever wants it there writes the draft once more.
    """
    last = ""
    for _ in range(_ROUNDS):
        if not draft.jobs:
            raise foreign.refuse(None, "there is no job in this file that could be converted")
        if len(draft.jobs) > MAX_JOBS:
            place = list(draft.jobs.values())[MAX_JOBS].span
            raise foreign.refuse(place, f"a pipeline has at most {MAX_JOBS} jobs, and this is one more")
        _drop_lost_needs(draft, foreign)
        _heed_what_is_heard(draft)
        try:
            file = written(draft, comment)
            parsed = parse_alone(file.text.encode(), "converted")
        except TooLargeError:
            raise foreign.refuse(None, f"converted, the file has more than {MAX_BYTES} bytes") from None
        except PipelineFileError as error:
            found = [problem for problem in error.problems if problem.severity == "error"]
            last = found[0].message
            _take_out(draft, foreign, file, found)
            continue
        return Settled(file.text, parsed.problems.render())
    raise foreign.refuse(next(iter(draft.jobs.values())).span, f"what was made of this file does not lint: {last}")


def _take_out(draft: Draft, foreign: Foreign, file: Written, found: list[Problem]) -> None:
    done: set[Owner] = set()
    for problem in found:
        owner = file.owners.get(problem.span.start.line) if problem.span is not None else None
        if owner is None:
            raise foreign.refuse(None, f"what was made of this file does not lint: {problem.message}")
        if owner in done:
            continue
        done.add(owner)
        match owner.section:
            case "top":
                _take_out_of_top(draft, foreign, owner, problem.message)
            case "services":
                entry = draft.services.pop(owner.name, None)
                if entry is not None:
                    foreign.remark(entry.span, f"the service {owner.name} is not converted: {problem.message}")
                    _drop_service(draft, foreign, owner.name)
            case _:
                _take_out_of_job(draft.jobs.get(owner.name), foreign, owner, problem.message)


def _take_out_of_top(draft: Draft, foreign: Foreign, owner: Owner, why: str) -> None:
    entry = draft.top.get(owner.key)
    if entry is None:
        return
    if owner.key == "env" and isinstance(entry.value, dict) and owner.inner in entry.value:
        del entry.value[owner.inner]
        if not entry.value:
            del draft.top["env"]
        foreign.remark(entry.span, f"the variable {owner.inner} is not converted: {why}")
        return
    if owner.key == "on" and entry.value != "manual":
        draft.top["on"] = entry._replace(value="manual")
        foreign.remark(entry.span, f"what starts it is not converted: {why}", "until `on` says more, it is run by hand")
        return
    del draft.top[owner.key]
    foreign.remark(entry.span, f"`{owner.key}` is not converted: {why}")
    if owner.key == "concurrency":
        for job in draft.jobs.values():
            job.becomes_a_failure(f"the group of the whole run ({why})")


def _take_out_of_job(job: DraftJob | None, foreign: Foreign, owner: Owner, why: str) -> None:
    if job is None:
        return
    entry = job.keys.get(owner.key)
    if entry is not None and owner.key in _ADDS:
        if owner.key == "env" and isinstance(entry.value, dict) and owner.inner in entry.value:
            del entry.value[owner.inner]
            if not entry.value:
                del job.keys["env"]
            foreign.remark(entry.span, f"the variable {owner.inner} of {job.name} is not converted: {why}")
            return
        del job.keys[owner.key]
        foreign.remark(entry.span, f"`{owner.key}` of {job.name} is not converted: {why}")
        return
    place = entry.span if entry is not None else job.span
    foreign.remark(place, f"{job.name} is not converted, and fails: {why}")
    job.becomes_a_failure(why)
    if owner.key in ("needs", "after", "when"):
        # Without the condition it fails in every run: whatever comes after it does not run either.
        for key in ("needs", "after", "when"):
            job.keys.pop(key, None)


def _drop_lost_needs(draft: Draft, foreign: Foreign) -> None:
    """A job whose need is gone fails: it was to come after something that is not there."""
    for job in draft.jobs.values():
        lost = [name for name in job.needs if name.partition(" (")[0] not in draft.jobs]
        if lost:
            entry = job.keys.pop("needs")
            foreign.remark(entry.span, f"{job.name} needs {lost[0]}, which is not there; it fails")
            job.becomes_a_failure(f"it needs {lost[0]}")
            job.keys.pop("after", None)


def _heed_what_is_heard(draft: Draft) -> None:
    """Leave out of conditions the events to which the pipeline does not listen, but for those that hold a job back."""
    on = draft.top["on"].value if "on" in draft.top else list(EVERYTHING)
    heard = {on} if isinstance(on, str) else set() if isinstance(on, bool) else {str(name) for name in on}
    for job in draft.jobs.values():
        when = job.keys["when"].value if "when" in job.keys else []
        for facts in when if isinstance(when, list) else [when]:
            events = facts.get("event") if isinstance(facts, dict) else None
            left: list[Value] = [event for event in events if event in heard] if isinstance(events, list) else []
            if left and isinstance(facts, dict):
                facts["event"] = left if len(left) > 1 else left[0]


def _drop_service(draft: Draft, foreign: Foreign, name: str) -> None:
    for job in draft.jobs.values():
        entry = job.keys.get("services")
        if entry is not None and isinstance(entry.value, list) and name in entry.value:
            foreign.remark(entry.span, f"{job.name} has a service that is not converted; it fails")
            job.becomes_a_failure(f"the service {name}")
