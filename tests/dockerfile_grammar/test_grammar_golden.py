"""Golden cases: what ``python -m dockerfile_grammar`` prints, and what errors look like.

Each directory of ``golden`` has a Dockerfile and the JSON of its parse, each of ``errors`` a Dockerfile and the
rendered error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dockerfile_grammar import DockerfileError, parse
from dockerfile_grammar.dump import dump
from dockerfile_grammar.parsing import parse_parts

HERE = Path(__file__).parent
GOLDEN = sorted(path.name for path in (HERE / "golden").iterdir())
ERRORS = sorted(path.name for path in (HERE / "errors").iterdir())


@pytest.mark.parametrize("case", GOLDEN)
def test_parse_is_as_recorded(case: str) -> None:
    directory = HERE / "golden" / case
    expected = json.loads((directory / "result.json").read_text("utf-8"))
    assert dump(parse_parts((directory / "Dockerfile").read_bytes())) == expected


@pytest.mark.parametrize("case", ERRORS)
def test_error_is_as_recorded(case: str) -> None:
    directory = HERE / "errors" / case
    with pytest.raises(DockerfileError) as caught:
        parse((directory / "Dockerfile").read_bytes())
    assert caught.value.render() + "\n" == (directory / "error.txt").read_text("utf-8")


@pytest.mark.parametrize("case", [case for case in ERRORS if case.startswith("json-")])
def test_json_that_a_build_refuses_is_no_parse_either(case: str) -> None:
    directory = HERE / "errors" / case
    with pytest.raises(DockerfileError) as caught:
        parse_parts((directory / "Dockerfile").read_bytes())
    assert caught.value.render() + "\n" == (directory / "error.txt").read_text("utf-8")


def test_every_instruction_has_a_golden_case() -> None:
    results = [json.loads((HERE / "golden" / case / "result.json").read_text("utf-8")) for case in GOLDEN]
    names = {instruction["instruction"] for result in results for instruction in result["instructions"]}
    assert len(names) == 18
