"""Every case of ``cases/``, built by Shiplap and by docker's BuildKit: the same image, or refused by both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.differential.casefile import Case, parse_cases, read_cases
from tests.differential.conftest import Bench

_CASES = read_cases(Path(__file__).parent / "cases")


@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.theme}: {case.name}")
def test_same_as_buildkit(case: Case, both_builders: Bench, record_property: Callable[[str, object], None]) -> None:
    theirs, ours = both_builders.both(case)
    wrong = ""
    if (theirs.image is None) != (ours.image is None):
        wrong = f"BuildKit: {_said(theirs.image, theirs.log)}\nShiplap: {_said(ours.image, ours.log)}"
    elif case.rejects and theirs.image is not None:
        wrong = "both accept it"
    elif not case.rejects and theirs.image is None:
        wrong = f"both refuse it: {ours.log}\nBuildKit: {theirs.log[-800:]}"
    elif theirs.image is not None:
        wrong = theirs.difference(ours, ("BuildKit", "Shiplap"))
    if case.differs:
        record_property("differential", "differs" if wrong else "wrong")
        assert wrong, f"no difference, but the case has a reason for one: {case.differs}"
    else:
        record_property("differential", "wrong" if wrong else "same")
        assert not wrong, f"\n{case.dockerfile}\n{wrong}"


def _said(image: object, log: str) -> str:
    return "builds it" if image is not None else f"refuses it: {log[-800:]}"


def test_there_are_enough_cases_of_every_theme() -> None:
    assert len(_CASES) >= 250


def test_case_file_is_read_as_its_description_says() -> None:
    (case,) = parse_cases("t", "a comment\n=== n\n@rejects\n@file a x\\ny\n@arg A=1=2\n@mode a 600\nRUN true\n\n")
    assert (case.name, case.rejects, case.files, case.args) == ("n", True, {"a": "x\ny"}, {"A": "1=2"})
    assert (case.modes, case.dockerfile) == ({"a": 0o600}, "FROM base\nRUN true\n")
