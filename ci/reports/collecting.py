"""What a job reported, collected once its container has ended, whether it succeeded or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ci.model import ReportsWanted
from ci.reports.files import MOST_FILES, ReportUnreadable, Room, Written
from ci.reports.junit import MOST_CASES, JUnitError, Masking, TooManyCases, read_junit
from ci.reports.model import Case, Reports
from core.masking import Masker

MOST_SUMMARY: Final = 64 << 10
"""Bytes."""

MOST_OUTPUT: Final = 1 << 20
"""Characters of what tests printed, all together."""

_MOST_NOTES: Final = 20
_MOST_NOTE: Final = 300


def collect(wanted: ReportsWanted, written: Written, coverage: float | None, masker: Masker) -> Reports:
    """Read what the file asks for. What cannot be read becomes a note.

    written: what the job wrote into its workspace.
    coverage: what was found in its output.
    """
    notes: list[str] = []
    cases = _tests(wanted.junit, written, masker, notes) if wanted.junit else ()
    summary = _summary(wanted.summary, written, masker, notes) if wanted.summary else ""
    if wanted.coverage and coverage is None:
        notes.append("no coverage was found: `coverage` matched nothing in the output")
    shown = [masker.mask(note)[:_MOST_NOTE] for note in notes[:_MOST_NOTES]]
    if len(notes) > _MOST_NOTES:
        shown.append(f"and {len(notes) - _MOST_NOTES} more")
    return Reports(cases, coverage, summary, tuple(shown))


def _tests(wanted: Sequence[str], written: Written, masker: Masker, notes: list[str]) -> tuple[Case, ...]:
    found = written.find(wanted)
    if not found.paths:
        notes.append(f"no file that the job wrote is what `junit` names: {', '.join(wanted)}")
    if found.is_cut:
        notes.append(f"there are more than {MOST_FILES:,} files of reports: the others are left out")
    cases: list[Case] = []
    room, masking = Room(), Masking(masker.mask, masker.longest)
    for path in found.paths:
        try:
            cases.extend(read_junit(written.read(path, room), MOST_CASES - len(cases), masking))  # as far as it goes
        except TooManyCases:
            notes.append(f"there are more than {MOST_CASES:,} tests: those after {_shown(path)} are left out")
            break
        except (JUnitError, ReportUnreadable) as error:
            notes.append(f"{_shown(path)} cannot be read: {error}")
    return _within(cases, notes)


def _within(cases: list[Case], notes: list[str]) -> tuple[Case, ...]:
    """The tests, with as much of their output as is kept."""
    left = MOST_OUTPUT
    kept = []
    for case in cases:
        size = len(case.output) + len(case.message)
        if size > left:
            case = Case(case.suite, case.name, case.outcome, case.seconds, case.message[:200], "", case.is_flaky)
        else:
            left -= size
        kept.append(case)
    if any(before.output and not after.output for before, after in zip(cases, kept, strict=True)):
        notes.append("the output of some tests is left out: that of all is more than 1 MiB; the log has it")
    return tuple(kept)


def _summary(path: str, written: Written, masker: Masker, notes: list[str]) -> str:
    data = b""
    try:
        for chunk in written.read(path, Room()):
            data += chunk
            if len(data) > MOST_SUMMARY + masker.longest:
                break
    except ReportUnreadable as error:
        notes.append(f"the summary {_shown(path)} cannot be read: {error}")
        return ""
    if len(data) > MOST_SUMMARY:
        notes.append(f"the summary {_shown(path)} has more than {MOST_SUMMARY >> 10} KiB: its end is left out")
    return masker.mask(data[: MOST_SUMMARY + masker.longest].decode("utf-8", "replace"))[:MOST_SUMMARY]


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
