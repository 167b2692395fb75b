"""The table of versions: what a version does not have is left out, whatever the document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dockerapi.errors import ApiError
from dockerapi.versions import BEHAVIOURS, MEMBERS, NEWEST, OLDEST, Version, checked, has, shown, v

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "docker-compatibility.md"


def _with(path: list[str]) -> object:
    """A document that has this member."""
    if not path:
        return {"some": "thing"}
    name, *rest = path
    if name == "[]":
        return [_with(rest), _with(rest)]
    return {"any" if name == "*" else name: _with(rest), "other": 1}


@pytest.mark.parametrize("kind", MEMBERS)
def test_each_member_is_there_from_its_version_on_and_until_its_last(kind: str) -> None:
    for member in MEMBERS[kind]:
        path = member.path.split(".")
        document = _with(path)
        before = json.dumps(document)
        name = path[-1]
        for minor in range(24, 53):
            is_there = f'"{name}"' in json.dumps(shown(kind, document, v(minor)))
            around = [each for each in MEMBERS[kind] if member.path.startswith(f"{each.path}.")]
            expected = all(each.since <= v(minor) < each.until for each in (member, *around))
            assert is_there == expected, (kind, member, minor)
        assert json.dumps(document) == before


@pytest.mark.parametrize(
    "document", [None, [], {}, "x", {"NetworkSettings": None}, {"NetworkSettings": {"Networks": []}}]
)
@pytest.mark.parametrize("kind", MEMBERS)
def test_documents_without_the_member_stay_as_they_are(kind: str, document: object) -> None:
    assert shown(kind, document, v(52)) == document


def test_versions_are_compared_as_numbers() -> None:
    assert Version.parse("1.9") < Version.parse("1.24") < Version.parse("1.100") < Version.parse("2.0")
    assert checked(OLDEST) == OLDEST
    assert checked(NEWEST) == NEWEST
    for text in ("1.23", "1.53", "0.1", "2.0"):
        with pytest.raises(ApiError) as caught:
            checked(Version.parse(text))
        assert caught.value.status == 400


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "x.y", "1.99999", "１.2"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ApiError):
        Version.parse(text)


def test_the_page_names_each_behaviour_with_its_version() -> None:
    rows = re.findall(r"^\| (1\.\d+) \| (.+) \|$", _PAGE.read_text(), re.MULTILINE)
    assert {(version, what.replace("`", "")) for version, what in rows} == {
        (str(each.since), each.what) for each in BEHAVIOURS.values()
    }
    assert has("wait-conditions", v(30))
    assert not has("wait-conditions", v(29))
