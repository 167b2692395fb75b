"""What people read where msgspec would say ``Expected `int`, got `str` - at `$.priority```."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from pipelines.model import RunRequest
from pipelines.shapes import described, explain

SOURCE = '"source":{"type":"git","url":"x"}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "source is missing"),
        ("[]", "the body has to be an object, and is a list"),
        ("null", "the body has to be an object, and is null"),
        ('{"source":{"type":"git"}}', "source.url is missing"),
        ('{"source":{"type":"x"}}', "source.type is 'x'; it can be context or git"),
        ('{"source":{"type":"git","url":5}}', "source.url has to be a text, and is a whole number"),
        (f'{{{SOURCE},"priority":"a"}}', "priority has to be a whole number, and is a text"),
        (f'{{{SOURCE},"priorty":1}}', "there is no field priorty (did you mean priority?)"),
        (f'{{{SOURCE},"options":{{"tagz":[]}}}}', "there is no field options.tagz (did you mean tags?)"),
        (f'{{{SOURCE},"options":{{"zzz":[]}}}}', "there is no field options.zzz"),
        (f'{{{SOURCE},"options":{{"network":"host"}}}}', "options.network is 'host'; it can be default or none"),
        (f'{{{SOURCE},"options":{{"network":5}}}}', "options.network has to be default or none, and is a whole number"),
        (f'{{{SOURCE},"options":{{"tags":["a",1]}}}}', "options.tags[1] has to be a text, and is a whole number"),
        (
            f'{{{SOURCE},"options":{{"build_args":{{"A":1}}}}}}',
            "a value of options.build_args has to be a text, and is a whole number",
        ),
        (f'{{{SOURCE},"options":{{"add_hosts":[["a"]]}}}}', "options.add_hosts[0] has to have 2 entries"),
        (
            f'{{{SOURCE},"options":{{"platform":5}}}}',
            "options.platform has to be a text or null, and is a whole number",
        ),
        (f'{{{SOURCE},"secrets":{{"a":"%%"}}}}', "a value of secrets is no base64"),
    ],
)
def test_body(text: str, told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=RunRequest)
    assert explain(caught.value, RunRequest, "the body") == told


class Query(msgspec.Struct, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=3, pattern="^[a-z]+$", description="small letters")] = ""
    other: Annotated[str, msgspec.Meta(pattern="^x$")] | None = None
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("a",)
    numbers: dict[int, str] = {}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"limit": "x"}, "limit has to be a whole number, and is a text"),
        ({"limit": "0"}, "limit has to be a whole number, at least 1"),
        ({"limit": "501"}, "limit has to be a whole number, at most 500"),
        ({"name": ""}, "name has to have at least 1 character"),
        ({"name": "abcd"}, "name has to have at most 3 characters"),
        ({"name": "A"}, "name has to be small letters"),
        ({"other": "A"}, "other has to be of the form '^x$'"),
        ({"names": []}, "names has to have at least 1 entry"),
        ({"numbers": {"x": "y"}}, "a name in numbers has to be a whole number, and is a text"),
    ],
)
def test_query(value: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Query, strict=False)
    assert explain(caught.value, Query, "the query") == told


def test_a_type_says_what_it_is() -> None:
    assert described(Annotated[str, msgspec.Meta(description="a name: letters")]) == "a name: letters"
    assert described(Annotated[str, msgspec.Meta(description="a name")] | None) == "a name"
    assert described(str) == ""
