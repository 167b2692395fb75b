"""What a job reported, as data: between the job, its run, and the database of a service."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

CaseOutcome: TypeAlias = Literal["passed", "failed", "error", "skipped"]

FAILED: Final = ("failed", "error")


class Case(Struct, frozen=True, array_like=True):
    """One test.

    suite: the class, module or file that it belongs to.
    name: with its parameters.
    message: why it failed, or was skipped.
    output: what it printed, and where it failed; only of tests that failed.
    is_flaky: it failed, and passed when it was tried again in the same job.
    """

    suite: str
    name: str
    outcome: CaseOutcome
    seconds: float = 0.0
    message: str = ""
    output: str = ""
    is_flaky: bool = False

    @property
    def has_failed(self) -> bool:
        return self.outcome in FAILED


class Reports(Struct, frozen=True, omit_defaults=True):
    """What one attempt of a job reported.

    cases: of all files, in their order.
    coverage: in per cent; None: nothing was found.
    summary: a text for people.
    notes: what of it could not be read, or was cut, a sentence each.
    """

    cases: tuple[Case, ...] = ()
    coverage: float | None = None
    summary: str = ""
    notes: tuple[str, ...] = ()

    def ordered(self) -> list[Case]:
        """The tests, those that failed first, then those that are flaky, then all others as they came."""
        return sorted(self.cases, key=lambda case: (not case.has_failed, not case.is_flaky))

    def __bool__(self) -> bool:
        return bool(self.cases or self.coverage is not None or self.summary or self.notes)


class Tally(Struct, frozen=True, omit_defaults=True):
    """How many tests there were."""

    total: int = 0
    failed: int = 0
    skipped: int = 0
    flaky: int = 0
    seconds: float = 0.0


def tally(cases: tuple[Case, ...]) -> Tally:
    """Count. seconds: of all tests together, which is not how long the job took."""
    return Tally(
        len(cases),
        sum(case.has_failed for case in cases),
        sum(case.outcome == "skipped" for case in cases),
        sum(case.is_flaky for case in cases),
        round(sum(case.seconds for case in cases), 3),
    )
