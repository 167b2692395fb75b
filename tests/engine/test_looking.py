"""Lists of containers: docker's filters, and what is shown of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.keeper import records
from engine import looking, state
from engine.engine import Engine
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError
from engine.places import Places
from engine.state import State
from engine.times import NEVER
from images.store import Store
from tests.engine.conftest import put_image, small_layer

SINCE = "2026-11-28T10:00:00Z"


def _health(status: str) -> dict[str, Any]:
    return {"status": status, "failing_streak": 0, "log": []}


PORTS = [{"address": "::", "protocol": "tcp", "port": 8080, "to_port": 80}]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """From the oldest: new, up, paused, over, wrong, begun. What became of them is said here."""
    folder = tmp_path_factory.mktemp("looking")
    with Store.open(folder / "root") as store:
        put_image(store, "app", [small_layer(store, motd="hello")], cmd=("serve",), labels={"of": "image"})
    with Engine(Places(folder / "root", folder / "run")) as engine, pytest.MonkeyPatch.context() as patched:
        patched.setattr(looking, "read", _made(engine))
        yield engine


def _made(engine: Engine) -> Callable[[Path], State]:
    bodies: dict[str, dict[str, Any]] = {
        "new": {"Labels": {"a": "1"}},
        "up": {"Labels": {"a": "2"}, "ExposedPorts": {"80/tcp": {}}},
        "paused": {"ExposedPorts": {"80/udp": {}, "100-110/tcp": {}}},
        "over": {"HostConfig": {"Binds": ["data:/d"]}},
        "wrong": {"HostConfig": {"NetworkMode": "none"}},
        "begun": {},
    }
    ids = {name: engine.create(name, {"Image": "app", **body}).id for name, body in bodies.items()}
    states = {
        ids["new"]: State(),
        ids["up"]: State("running", started=SINCE, ports=PORTS, health=_health("healthy")),
        ids["paused"]: State("paused", started=SINCE, health=_health("unhealthy")),
        ids["over"]: State("exited", started=SINCE, finished=SINCE, exit_code=0, ports=PORTS),
        ids["wrong"]: State("exited", started=SINCE, finished=SINCE, exit_code=3),
        ids["begun"]: State("starting"),
    }
    return lambda directory: states[directory.name]


def names(engine: Engine, filters: dict[str, list[str]] | None = None, *, every: bool = True, limit: int = 0) -> str:
    found = engine.containers(every=every, filters=filters, limit=limit)
    return " ".join(document["Names"][0].removeprefix("/") for document in found)


ALL = "begun wrong over paused up new"


def test_which_are_shown(several: Engine) -> None:
    assert names(several) == ALL
    assert names(several, every=False) == "paused up"
    assert names(several, every=False, limit=2) == "begun wrong"  # the last ones, whether they run or not
    assert names(several, every=False, limit=1) == "begun"
    assert names(several, {"status": ["exited"]}, every=False) == "wrong over"


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ({"name": ["^u"]}, "up"),
        ({"name": ["/up"]}, "up"),
        ({"name": ["over", "new"]}, "over new"),
        ({"label": ["a"]}, "up new"),
        ({"label": ["a=2"]}, "up"),
        ({"label": ["of=image"]}, ALL),
        ({"status": ["created"]}, "begun new"),
        ({"status": ["running", "paused"]}, "paused up"),
        ({"exited": ["0"]}, "over"),
        ({"exited": ["3", "4"]}, "wrong"),
        ({"health": ["healthy"]}, "up"),
        ({"health": ["none"]}, "begun wrong over new"),
        ({"volume": ["data"]}, "over"),
        ({"volume": ["/d"]}, "over"),
        ({"volume": ["/other"]}, ""),
        ({"network": ["none"]}, "wrong"),
        ({"network": ["bridge"]}, "begun over paused up new"),
        ({"expose": ["80"]}, "up"),
        ({"expose": ["80/udp"]}, "paused"),
        ({"expose": ["90-100"]}, "paused"),
        ({"expose": ["110-120", "80"]}, "paused up"),
        ({"expose": ["111"]}, ""),
        ({"publish": ["8080"]}, "up"),
        ({"publish": ["8000-8080/tcp"]}, "up"),
        ({"publish": ["8081"]}, ""),
        ({"publish": ["8080/udp"]}, ""),
        ({"publish": ["80"]}, ""),
        ({"before": ["paused"]}, "up new"),
        ({"since": ["paused"]}, "begun wrong over"),
        ({"is-task": ["true"]}, ""),
        ({"is-task": ["false"]}, ALL),
        ({"ancestor": ["app"]}, ALL),
        ({"label": ["a"], "status": ["running"]}, "up"),
        ({"name": []}, ALL),
    ],
)
def test_filters(several: Engine, filters: dict[str, list[str]], shown: str) -> None:
    assert names(several, filters) == shown


def test_filters_by_id(several: Engine) -> None:
    identity = several.inspect("up")["Id"]
    assert names(several, {"id": [identity]}) == "up"
    assert names(several, {"id": [f"^{identity[:12]}"]}) == "up"


@pytest.mark.parametrize(
    "filters",
    [{"status": ["gone"]}, {"health": ["well"]}, {"keeper": ["new"]}, {"exited": ["x"]}, {"publish": ["x"]}, {"x": []}],
)
def test_filters_that_are_none(several: Engine, filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidRequestError):
        names(several, filters)


def test_container_that_is_not_there_bounds_nothing(several: Engine) -> None:
    with pytest.raises(ContainerNotFoundError):
        names(several, {"before": ["nobody"]})


def test_sizes_are_shown_where_they_are_asked_for(several: Engine) -> None:
    directory = several.places.container(several.inspect("new")["Id"])
    (directory / "upper" / "fs").mkdir(parents=True, exist_ok=True)
    (directory / "upper" / "fs" / "file").write_bytes(b"x" * 100)
    found = {each["Names"][0]: each for each in several.containers(every=True, sizes=True)}
    image = found["/up"]["SizeRootFs"]
    assert "SizeRw" not in found["/up"]
    written = found["/new"]["SizeRw"]
    assert 100 <= written <= 1 << 16
    assert found["/new"]["SizeRootFs"] == image + written
    assert "SizeRw" not in several.containers(every=True)[0]
    document = several.inspect("new", size=True)
    assert (document["SizeRw"], document["SizeRootFs"]) == (written, image + written)
    assert "SizeRw" not in several.inspect("new")


def test_container_that_lost_its_files_says_so(engine: Engine) -> None:
    identity = engine.create("one", {"Image": "app"}).id
    (engine.places.container(identity) / "spec.json").unlink()
    with pytest.raises(ConflictError, match="has lost its files"):
        engine.inspect("one")


def test_container_whose_keeper_is_gone_ended_when_it_was_last_heard_of(engine: Engine) -> None:
    directory = engine.places.container(engine.create("one", {"Image": "app"}).id)
    records.write_state(str(directory), {"status": "running", "pid": 7, "started": SINCE}, durable=False)
    found = state.read(directory)
    assert (found.status, found.exit_code, found.pid) == ("exited", 255, 0)
    assert found.finished != NEVER
