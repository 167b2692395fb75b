"""Reports in words: one line for people who look at a whole run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ci.reports.model import Case, Reports, Tally, tally

_MOST_SHOWN: Final = 10


def tally_text(found: Tally) -> str:
    """``512 tests: 2 failed, 1 flaky, 3 skipped``."""
    counted = ((found.failed, "failed"), (found.flaky, "flaky"), (found.skipped, "skipped"))
    told = ", ".join(f"{count:,} {word}" for count, word in counted if count) or "all passed"
    return f"{found.total:,} test{'' if found.total == 1 else 's'}: {told}"


def case_name(case: Case) -> str:
    """A test's whole name."""
    return f"{case.suite} › {case.name}" if case.suite else case.name


def headline(reports: Reports) -> str:
    """What was counted; empty: nothing."""
    told = [tally_text(tally(reports.cases))] if reports.cases else []
    if reports.coverage is not None:
        told.append(f"coverage {reports.coverage:g} %")
    return "; ".join(told)


def failed_lines(reports: Reports) -> Iterator[str]:
    """The first tests that failed, a line each."""
    failed = [case for case in reports.cases if case.has_failed]
    for case in failed[:_MOST_SHOWN]:
        said = case.message.strip().partition("\n")[0]
        yield f"{case_name(case)}: {said}" if said else case_name(case)
    if len(failed) > _MOST_SHOWN:
        yield f"and {len(failed) - _MOST_SHOWN:,} more"


def blamed(reports: Reports | None) -> str:
    """For the message of a job that failed: which test is to be looked at first; empty: none failed."""
    if reports is None:
        return ""
    failed = [case for case in reports.cases if case.has_failed]
    if not failed:
        return ""
    return f"{len(failed):,} of {len(reports.cases):,} tests failed, first {next(failed_lines(reports))}"
