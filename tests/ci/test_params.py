"""Parameters: what a file may say of them, what a value has to be, and that a value stays a value."""

from __future__ import annotations

import pytest

from ci.conditions import Event
from ci.errors import PipelineFileError
from ci.execution.variables import variables
from ci.model import Param
from ci.outcome import Given
from ci.params import MAX_VALUE, ParamError, fault, resolved
from ci.parsing import parse_pipeline
from ci.planning import Plan, plan

FILE = """
params:
  LEVEL: {type: choice, choices: [low, high], default: low, about: How much is tried}
  DRY: {type: boolean, default: true}
  COUNT: {type: number, default: 3}
  NAME: {default: nobody, pattern: '[^ ]*'}
jobs:
  one: {image: "alpine:3.${COUNT}", run: 'echo "$NAME"'}
  all: {image: "alpine:3", when: {params: {LEVEL: high, DRY: [false]}}, run: a}
  seen: {image: "alpine:3", inputs: [src], env: {WHO: "${NAME}"}, run: a}
"""


def planned(**params: str) -> Plan:
    return plan(parse_pipeline(FILE.encode()), Event("manual", "main", params=params))


def test_defaults_count_where_nobody_gives_a_value_and_conditions_see_them() -> None:
    found = planned()
    assert found.params == {"LEVEL": "low", "DRY": "true", "COUNT": "3", "NAME": "nobody"}
    assert [job.name for job in found.jobs] == ["one", "seen"]
    assert found.left_out == {"all": "it is not for LEVEL=low"}
    assert found.jobs[0].job.image is not None
    assert found.jobs[0].job.image.reference == "alpine:3.3"
    assert [job.name for job in planned(LEVEL="high", DRY="false").jobs] == ["one", "all", "seen"]


def test_every_job_has_them_as_variables_but_one_with_inputs_has_what_its_env_names() -> None:
    found = planned(NAME="$(reboot);'\"${one.X}")
    given = Given(facts=found.params)
    one, seen = (job.settled(found.params, {}) for job in found.jobs)
    of_one = dict(variables(one, "one", {}, given))
    assert (of_one["NAME"], of_one["DRY"]) == ("$(reboot);'\"${one.X}", "true")
    assert one.run == ('echo "$NAME"',), "a script is never changed"
    of_seen = dict(variables(seen, "seen", {}, given))
    assert of_seen["WHO"] == "$(reboot);'\"${one.X}", "a value that was put in is not looked at again"
    assert "NAME" not in of_seen


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"LEVEL": "middle"}, 'parameter LEVEL: expected low or high, and this is "middle"'),
        ({"DRY": "yes"}, "parameter DRY: expected true or false"),
        ({"COUNT": "3; reboot"}, "parameter COUNT: expected a number"),
        ({"COUNT": "1e9"}, "parameter COUNT: expected a number"),
        ({"COUNT": "\u0663"}, "parameter COUNT: expected a number"),
        ({"NAME": "a b"}, "does not match [^ ]*"),
        ({"NAME": "x" * (MAX_VALUE + 1)}, f"at most {MAX_VALUE} characters"),
        ({"NAME": "\0"}, "a parameter has no NUL"),
        ({"LEVLE": "low"}, 'the pipeline has no parameter "LEVLE"'),
        ({"PATH": "/evil"}, 'the pipeline has no parameter "PATH"'),
    ],
)
def test_value_that_is_none_is_told(given: dict[str, str], told: str) -> None:
    with pytest.raises(ParamError) as raised:
        planned(**given)
    assert told in str(raised.value)


def test_pattern_of_a_stranger_is_matched_in_linear_time() -> None:
    assert fault(Param("", pattern="(a*)*b"), "a" * 4000) is not None


def test_pipeline_without_parameters_takes_none() -> None:
    assert resolved({}, {}) == {}
    with pytest.raises(ParamError, match="no parameter"):
        resolved({}, {"A": "b"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{A: {type: number}}", "a parameter has no default"),
        ("{A: {type: number, default: x}}", 'expected a number, such as 3 or 0.5, and this is "x"'),
        ("{A: {type: choice, default: x}}", "a parameter has `choices` if its type is `choice`"),
        ("{A: {choices: [x], default: x}}", "a parameter has `choices` if its type is `choice`"),
        ("{A: {type: choice, choices: [x], default: y}}", 'expected x, and this is "y"'),
        ("{A: {type: boolean, default: true, pattern: x}}", "only a parameter whose type is `string`"),
        ("{A: {default: x, pattern: '('}}", "it is no regular expression"),
        ("{A: {type: list, default: x}}", "expected string, boolean, number or choice"),
        ("{SHIPLAP_RUN: {default: x}}", "SHIPLAP_RUN is set by Shiplap"),
        ("{A-B: {default: x}}", "expected the name of a variable"),
    ],
)
def test_what_is_no_parameter_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(PipelineFileError) as raised:
        parse_pipeline(f'params: {text}\njobs: {{a: {{image: "x:1", run: a}}}}\n'.encode())
    assert told in raised.value.render()


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("{params: {LEVL: low}}", "there is no parameter LEVL (did you mean LEVEL?)"),
        ("{params: {LEVEL: middle}}", 'expected low or high, and this is "middle"'),
    ],
)
def test_condition_on_what_no_parameter_has_is_told(when: str, told: str) -> None:
    with pytest.raises(PipelineFileError) as raised:
        parse_pipeline(FILE.replace("{params: {LEVEL: high, DRY: [false]}}", when).encode())
    assert told in raised.value.render()
