"""Which items of the build cache a filter means."""

from __future__ import annotations

import time

import pytest

from cli.commands.cache.filters import parse_filters
from cli.errors import CommandError
from images.cacheuse import CacheItem

_NOW = time.time()
LAYER = CacheItem("sha256:abc1", "layer", "RUN make", 10, _NOW - 7200, _NOW - 7200, shared=True, in_use=False)
MOUNT = CacheItem("go-mod", "mount", "cache mount go-mod", 20, _NOW - 60, _NOW - 60, shared=False, in_use=True)
MIRROR = CacheItem("abcd", "mirror", "mirror of r", 30, _NOW - 3590, _NOW - 3590, shared=False, in_use=False)
ITEMS = [LAYER, MOUNT, MIRROR]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the suite takes, it is the time at which things were made."""
    monkeypatch.setattr(time, "time", lambda: _NOW + 1)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ITEMS),
        (["inuse"], [MOUNT]), (["inuse=true"], [MOUNT]), (["inuse==1"], [MOUNT]), (["inuse="], [MOUNT]),
        (["inuse=false"], [LAYER, MIRROR]), (["inuse=0"], [LAYER, MIRROR]),
        (["shared"], [LAYER]), (["private"], [MOUNT, MIRROR]), (["private=false"], [LAYER]),
        (["type=layer"], [LAYER]), (["type==mount"], [MOUNT]), (["type=mirror"], [MIRROR]),
        (["id=abc"], [LAYER, MIRROR]), (["id=sha256:abc"], [LAYER]), (["id==abcd"], [MIRROR]), (["id=mod"], []),
        (["description=make"], [LAYER]), (["description==m"], [LAYER, MOUNT, MIRROR]),
        (["description~=^mirror"], [MIRROR]), (["description~=r$|make"], [LAYER, MIRROR]),
        (["until=1h"], [LAYER]), (["until=1m"], [LAYER, MOUNT, MIRROR]), (["until=3h"], []),
        (["private", "type=mount"], [MOUNT]), (["shared", "private"], []),
    ],
)  # fmt: skip
def test_filters_mean(texts: list[str], expected: list[CacheItem]) -> None:
    assert list(filter(parse_filters(texts), ITEMS)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("color=red", "--filter 'color=red' is not known"), ("inuse=maybe", "--filter 'inuse=maybe' is not known"),
        ("inuse~=true", "is not known"), ("until==1h", "is not known"), ("id=", "is not known"),
        ("id~=a", "is not known"), ("type=snapshot", "is not known"), ("type~=layer", "is not known"),
        ("description", "is not known"), ("", "--filter '' is not known"), ("TYPE=layer", "is not known"),
        ("description~=(", "--filter 'description~=(': missing ), unterminated subpattern"),
        ("until=soon", "--filter until= 'soon' is no duration"),
    ],
)  # fmt: skip
def test_filter_that_means_nothing_is_told_with_those_that_do(text: str, message: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_filters([text])
    assert message in refused.value.message
    if message.endswith("is not known"):
        assert str(refused.value.hint).startswith("filters: until=AGE, id=ID, type=layer|mount|cache|mirror")
