"""After a boot: what its policy wants to run is started, in the order of what needs what; looking starts nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine import restoring
from engine.engine import Engine
from engine.records import Row
from engine.restoring import in_order, restore, stop
from tests.engine.test_life import create
from tests.toolkit.bounds import eventually


def row(service: str, *needs: str) -> Row:
    labels = {
        "com.docker.compose.project": "p",
        "com.docker.compose.service": service,
        "com.docker.compose.depends_on": ",".join(f"{need}:service_started:false" for need in needs),
    }
    return Row(service, service, 0, "", "", "always", {"labels": labels})


def beside(name: str, other: str) -> Row:
    return Row(name, name, 0, "", "", "always", {"labels": {}, "network": f"container:{other}"})


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([row("web", "db", "cache"), row("db"), row("cache", "db")], [["db"], ["cache"], ["web"]]),
        ([row("a", "b"), row("b", "a"), row("c")], [["c"], ["a", "b"]]),
        ([row("a", "gone")], [["a"]]),
        ([row("a", "a")], [["a"]]),
        ([beside("a", "b"), row("b"), beside("c", "a")], [["b"], ["a"], ["c"]]),
        ([beside("a", "gone")], [["a"]]),
        ([], []),
    ],
)
def test_what_is_needed_comes_first(rows: list[Row], groups: list[list[str]]) -> None:
    assert [[each.id for each in group] for group in in_order(rows, {})] == groups


def test_what_a_container_is_linked_to_comes_before_it() -> None:
    rows = [row("web"), row("db"), row("cache")]
    links = {"web": ["db", "gone"], "db": ["cache"]}
    assert [[each.id for each in group] for group in in_order(rows, links)] == [["cache"], ["db"], ["web"]]


def test_after_a_boot_links_of_the_default_network_are_started_first(living: Engine) -> None:
    always = {"RestartPolicy": {"Name": "always"}, "NetworkMode": "bridge"}
    create(living, "db", "sleep", "1000", host=always)
    create(living, "web", "sleep", "1000", host={**always, "Links": ["db:store"]})
    for name in ("db", "web"):
        living.start(name)
    stop(living)
    eventually(lambda: not living.containers())
    assert len(restore(living)) == 2
    assert {each["Names"][0] for each in living.containers()} == {"/db", "/web"}


def test_after_a_boot_policies_are_kept_and_nothing_else_is_started(living: Engine) -> None:
    policies: dict[str, Any] = {
        name: {"RestartPolicy": {"Name": name}} for name in ("always", "unless-stopped", "on-failure", "no")
    }
    for name, host in policies.items():
        create(living, name, "sleep", "1000", host=host)
        living.start(name)
    create(living, "by-hand", "sleep", "1000", host={"RestartPolicy": {"Name": "unless-stopped"}})
    living.start("by-hand")
    living.stop("by-hand", timeout_s=0)
    create(living, "never-started", "true", host={"RestartPolicy": {"Name": "always"}})
    passing = create(living, "passing", "sleep", "1000", host={"AutoRemove": True})
    living.start("passing")
    stop(living)  # as the host goes down
    assert living.containers() == []
    with living.keepers.nursery() as nursery:
        nursery.ask("end")
    eventually(lambda: not (living.places.run / "nursery.sock").exists())
    shutil.rmtree(living.places.run)  # as a boot leaves it
    assert living.containers() == []
    started = restore(living)
    up = sorted(found["Names"][0] for found in living.containers())
    assert up == ["/always", "/on-failure", "/unless-stopped"]
    assert len(started) == 3
    assert not living.places.container(passing).exists()
    assert restore(living) == []


@pytest.mark.parametrize("words", [[], ["restart"], ["start", "/a", "/b"]])
def test_program_says_how_it_is_called(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("sys.argv", ["shiplap-restore", *words])
    with pytest.raises(SystemExit, match="usage: shiplap-restore start"):
        restoring.main()


@pytest.mark.parametrize(("word", "done"), [("start", "restore"), ("stop", "stop")])
def test_program_starts_and_stops_what_is_in_a_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str, done: str
) -> None:
    called: list[tuple[str, Path]] = []
    for name in ("restore", "stop"):
        monkeypatch.setattr(restoring, name, lambda engine, name=name: called.append((name, engine.places.root)))
    monkeypatch.setattr("sys.argv", ["shiplap-restore", word, str(tmp_path / "root")])
    restoring.main()
    assert called == [(done, tmp_path / "root")]
