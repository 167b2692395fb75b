"""Every case of ``cases/``, built by Shiplap and by docker's BuildKit: the same image, or refused by both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential.casefile import Case, parse_cases, read_cases
from tests.differential.conftest import Bench
from tests.differential.outcomes import Outcome

_CASES = read_cases(Path(__file__).parent / "cases")
_COUNTED = {
    # theme: cases, of which both builders (or where it differs, Shiplap) refuse, of which differ
    "add": (31, 5, 1),
    "copy": (105, 24, 0),
    "metadata": (108, 26, 1),
    "mounts": (86, 15, 5),
    "ownership": (62, 8, 16),
    "remote": (53, 12, 6),
    "selection": (73, 15, 2),
    "stages": (117, 33, 6),
    "text": (177, 31, 7),
}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.theme}: {case.name}")
def test_same_as_buildkit(case: Case, both_builders: Bench, record_property: Callable[[str, object], None]) -> None:
    theirs, ours = both_builders.both(case)
    wrong = _difference(case, theirs, ours) or _not_as_pinned(case, ours, both_builders)
    record_property("differential", "wrong" if wrong else "differs" if case.differs else "same")
    assert not wrong, f"\n{case.dockerfile}\n{wrong}"


def _difference(case: Case, theirs: Outcome, ours: Outcome) -> str:
    """In what the builders do not agree, or for a case that has a reason for it, that they do."""
    if (theirs.image is None) != (ours.image is None):
        found = f"BuildKit {_said(theirs)}\nShiplap {_said(ours)}"
    else:
        found = "" if theirs.image is None else theirs.difference(ours, ("BuildKit", "Shiplap"))
    if case.differs:
        return "" if found else f"no difference, but the case has a reason for one: {case.differs}"
    return found


def _not_as_pinned(case: Case, ours: Outcome, bench: Bench) -> str:
    """In what Shiplap's outcome is not the one that the case has."""
    if case.rejects:
        words = bench.words(case.rejects)
        return "" if ours.image is None and words in ours.log else f"not refused by {words!r}: Shiplap {_said(ours)}"
    if ours.image is None:
        return f"Shiplap {_said(ours)}"
    if case.ours and (gained := bench.gained(ours)) != list(map(bench.words, case.ours)):
        return "\n".join(["the case has other lines than these:", *(f"@ours {line}" for line in gained)])
    return ""


def _said(outcome: Outcome) -> str:
    return "builds it" if outcome.image is not None else f"refuses it: {outcome.log[-800:]}"


def test_no_case_is_lost() -> None:
    """A case that goes away takes what it held with it: the numbers are changed by hand."""
    counted = {
        theme: (len(cases), sum(bool(case.rejects) for case in cases), sum(bool(case.differs) for case in cases))
        for theme in dict.fromkeys(case.theme for case in _CASES)
        if (cases := [case for case in _CASES if case.theme == theme])
    }
    assert counted == _COUNTED


def test_case_file_is_read_as_its_description_says() -> None:
    (case,) = parse_cases("t", "a comment\n=== n\n@rejects no x\n@file a x\\ny\n@arg A=1=2\n@mode a 600\nRUN true\n\n")
    assert (case.name, case.rejects, case.files, case.args) == ("n", "no x", {"a": "x\ny"}, {"A": "1=2"})
    assert (case.modes, case.dockerfile) == ({"a": 0o600}, "FROM base\nRUN true\n")


@pytest.mark.parametrize("options", ["@rejects\n", "@differs why\n", "@ours /x: file\n", "@nothing\n"])
def test_case_that_pins_nothing_is_no_case(options: str) -> None:
    with pytest.raises(ValueError, match=r"t: n: "):
        parse_cases("t", f"=== n\n{options}RUN true\n")
