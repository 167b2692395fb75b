"""shiplap cache, the size that the cache keeps by itself, and --explain: as users see them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from cli.commands.cache.filters import parse_filters
from cli.errors import CommandError
from core.errors import SettingsError
from core.settings import CacheMax, Settings
from images.store import Store
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

BIG = "dd if=/dev/urandom of=/big bs=1M count=2"


@pytest.fixture
def project(shiplap: Shiplap, busybox_tar: Path, tmp_path: Path) -> Path:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


def build(shiplap: Shiplap, project: Path, *lines: str, tag: str = "app", **options: object) -> str:
    (project / "Dockerfile").write_text("\n".join((f"FROM {BUSYBOX_NAME}", *lines, "")))
    result = shiplap("build", "--progress", "plain", "-t", tag, "--explain", project, **options)  # type: ignore[arg-type]
    return result.stderr


def test_ls_names_steps_and_mounts_and_says_what_images_share(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, "RUN --mount=type=cache,target=/c echo kept > /c/f && echo made > /made")
    build(shiplap, project, f"RUN {BIG}", tag="other")
    shiplap("image", "rm", "other")
    table = shiplap("cache", "ls").stdout
    assert "[2/2] RUN --mount=type=cache,target=/c" in table
    items = {item["description"]: item for item in shiplap.json("cache", "ls", "--json")}
    assert items["cache mount /c"]["type"] == "mount"
    assert not items[f"[2/2] RUN {BIG}"]["shared"]
    assert items[f"[2/2] RUN {BIG}"]["size_bytes"] > 2 << 20
    assert [item["shared"] for name, item in items.items() if name.endswith("/made")] == [True]
    assert shiplap("cache", "ls", "-q", "--filter", "type=mount").stdout.count("\n") == 1
    assert shiplap("cache", "ls", "-q", "--filter", "description~=urandom.*big").stdout.count("\n") == 1
    assert shiplap("cache", "ls", "-q", "--filter", "until=1h").stdout == ""
    assert shiplap("cache", "ls", "-q", "--filter", "shared=false", "--filter", "private").stdout.count("\n") == 2


def test_du_adds_up(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, f"RUN {BIG}")
    usage = shiplap.json("cache", "du", "--json")
    assert usage["layers"]["count"] == 1
    assert usage["layers"]["shared_bytes"] == usage["layers"]["size_bytes"] > 2 << 20
    assert usage["total"]["size_bytes"] == sum(
        usage[k]["size_bytes"] for k in ("layers", "mounts", "mirrors", "snapshots")
    )
    assert "RECLAIMABLE" in shiplap("cache", "du").stdout


def test_prune_removes_what_images_do_not_share(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, "RUN echo kept > /kept")
    build(shiplap, project, f"RUN {BIG}", tag="other")
    shiplap("image", "rm", "other")
    refused = shiplap("cache", "prune", check=False)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert "Cache records removed: 1" in shiplap("cache", "prune", "-f").stdout
    assert [item["description"] for item in shiplap.json("cache", "ls", "--json")] == ["[2/2] RUN echo kept > /kept"]
    assert "0 executed, 1 cached" in build(shiplap, project, "RUN echo kept > /kept")
    shiplap("cache", "prune", "--all", "-f")
    assert shiplap.json("cache", "ls", "--json") == []
    assert shiplap("run", "--rm", "app", "cat", "/kept").stdout == "kept\n"


def test_prune_by_age_and_filter_takes_nothing_else(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, "RUN --mount=type=cache,target=/c echo x > /c/x", f"RUN {BIG}")
    shiplap("image", "rm", "app")
    assert "removed: 0" in shiplap("cache", "prune", "--older-than", "1h").stdout
    assert len(shiplap.json("cache", "ls", "--json")) == 3
    shiplap("cache", "prune", "--filter", "type=mount")
    assert [item["type"] for item in shiplap.json("cache", "ls", "--json")] == ["layer", "layer"]


def test_prune_to_a_size_takes_snapshots_and_then_the_least_recently_used(shiplap: Shiplap, project: Path) -> None:
    for number in (1, 2, 3):
        build(shiplap, project, f"RUN {BIG}; : {number}", f"RUN true {number}")
        shiplap("image", "rm", "app")
    before = shiplap.json("cache", "du", "--json")
    assert before["snapshots"]["count"] > 0
    shiplap("cache", "prune", "--max-used-space", str(before["layers"]["size_bytes"] + (64 << 10)))
    after = shiplap.json("cache", "du", "--json")
    assert after["snapshots"]["size_bytes"] < before["snapshots"]["size_bytes"]
    assert after["layers"] == before["layers"]
    shiplap("cache", "prune", "--keep-storage", "5m")  # docker's older word
    left = [item["description"] for item in shiplap.json("cache", "ls", "--json")]
    assert not any(": 1" in name for name in left)
    assert any(": 3" in name for name in left)
    excluded = shiplap("cache", "prune", "--max-used-space", "5m", "--older-than", "1h", check=False)
    assert "exclude each other" in excluded.stderr


def test_cache_keeps_its_size_by_itself_and_not_at_the_cost_of_the_build(shiplap: Shiplap, project: Path) -> None:
    small = {"SHIPLAP_CACHE_MAX": "5m"}
    for number in (1, 2, 3):
        build(shiplap, project, f"RUN {BIG}; : {number}", env=small)
        assert "0 executed" in build(shiplap, project, f"RUN {BIG}; : {number}", env=small)
    left = [item["description"] for item in shiplap.json("cache", "ls", "--json") if not item["shared"]]
    assert not any(": 1" in name for name in left)


def test_what_a_living_build_has_used_is_not_trimmed(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, f"RUN {BIG}")
    shiplap("image", "rm", "app")
    with Store.open(shiplap.root) as store, Store.open(shiplap.root) as other:
        (item,) = other.cache_use.items()
        assert not item.in_use
        key = store.database.one("SELECT key FROM records")[0]
        assert store.cache.get(key) is not None
        assert other.cache_use.trim(0).records == 0
        assert other.cache_use.items()[0].in_use
    with Store.open(shiplap.root) as store:
        assert store.cache_use.trim(0).records == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", CacheMax(None, 60)), ("none", CacheMax(None, 100)), ("40%", CacheMax(None, 40)), ("2g", CacheMax(2 << 30))],
)
def test_cache_max_is_a_size_a_part_or_none(text: str, expected: CacheMax) -> None:
    assert Settings.from_environ({"SHIPLAP_CACHE_MAX": text, "HOME": "/root"}).cache_max == expected


@pytest.mark.parametrize("text", ["0%", "101%", "much", "-1"])
def test_cache_max_that_is_none_of_these_is_an_error(text: str) -> None:
    with pytest.raises(SettingsError, match="SHIPLAP_CACHE_MAX"):
        Settings.from_environ({"SHIPLAP_CACHE_MAX": text})


@pytest.mark.parametrize("text", ["color=red", "until=soon", "type=snapshot", "description~=(", "inuse=maybe"])
def test_filter_that_is_not_known_is_said_to_be(text: str) -> None:
    with pytest.raises(CommandError, match="--filter"):
        parse_filters([text])


def test_explain_lists_what_changed(shiplap: Shiplap, project: Path) -> None:
    for name in ("a", "b"):
        (project / name).write_text(name)
    steps = ("ARG V=1", "COPY a b /src/", "RUN echo $V")
    assert "not built before" in build(shiplap, project, *steps)
    assert "nothing ran: the cache had every step" in build(shiplap, project, *steps)
    (project / "a").write_text("other")
    said = build(shiplap, project, "ARG V=2", *steps[1:])
    report = said[said.index("why these steps ran:") :]
    assert " [2/3] COPY a b /src/ (line 3)\n   - a changed\n" in report
    assert ' [3/3] RUN echo $V (line 4)\n   - ARG V changed: "1" → "2"\n' in report


def test_reasons_are_data_in_json_progress(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nENV A=1\nRUN true\n")
    shiplap("build", project)
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nENV A=2\nRUN true\n")
    lines = shiplap("build", "--progress", "json", project).stderr.splitlines()
    finished = [event for line in lines if (event := json.loads(line))["event"] == "finish"]
    assert [event["changes"] for event in finished if "changes" in event] == [
        [{"kind": "env", "name": "A", "old": "1", "new": "2"}]
    ]
    assert time.time() - finished[-1]["at"] < 60


def test_rm_removes_an_item_by_its_id_and_leaves_the_others(shiplap: Shiplap, project: Path) -> None:
    build(shiplap, project, "RUN --mount=type=cache,target=/c echo kept > /c/f", "RUN --mount=type=cache,target=/d :")
    one, other = shiplap("cache", "ls", "-q", "--filter", "type=mount").stdout.split()
    assert shiplap("cache", "rm", one).stdout.startswith("Total reclaimed space: ")
    assert shiplap("cache", "ls", "-q", "--filter", "type=mount").stdout.split() == [other]
    assert f"the build cache has no {one}" in shiplap("cache", "rm", other, one, check=False).stderr
    assert shiplap("cache", "ls", "-q", "--filter", "type=mount").stdout.split() == [other], "all, or nothing"
