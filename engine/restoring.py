"""After a boot: what was running, and what its policy wants to run, is started. And before a halt: all is stopped.

A program by itself, ``shiplap-restore start|stop [ROOT]``, which ``compose/systemd/shiplap-restore.service`` runs.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from containers.errors import KeeperError
from containers.keeper import restarts
from containers.keeper.anchor import enter, join
from core.errors import ShiplapError
from core.settings import Settings
from engine import spec
from engine.engine import Engine
from engine.errors import ConflictError, ContainerNotFoundError, UnchangedError
from engine.finishing import finish
from engine.places import Places
from engine.records import Row
from engine.state import State
from engine.times import NEVER

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 8
_PROJECT: Final = "com.docker.compose.project"
_SERVICE: Final = "com.docker.compose.service"
_NEEDS: Final = "com.docker.compose.depends_on"


def restore(engine: Engine) -> list[str]:
    """Start what its policy wants to run and does not; remove what was to be removed at its end.

    Returns the IDs of what was started. What others depend on (compose's labels) comes first; what fails is logged, and
    the others are started all the same.
    """
    finish(engine)
    wanted = []
    for row in engine.records.containers():
        state = engine.state(row.id)
        if state.is_up or state.started == NEVER:
            continue
        if row.summary["auto_remove"]:
            with contextlib.suppress(ContainerNotFoundError):
                engine.remove_ended(row.id)
        elif is_wanted(engine, row, state):
            wanted.append(row)
    started: list[str] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        links = {row.id: [identity for identity, _ in engine.networks.links_in_default(row.id)] for row in wanted}
        for some in in_order(wanted, links):
            started += [
                row.id for row, ok in zip(some, pool.map(lambda row: _started(engine, row), some), strict=True) if ok
            ]
    return started


def is_wanted(engine: Engine, row: Row, state: State) -> bool:
    """Whether its policy wants it to run. As docker's, ``always`` wants what was stopped by hand, too."""
    if row.policy == "always":
        return True
    try:
        policy = spec.read(engine.places.container(row.id))["restart"]
    except FileNotFoundError:
        return False
    return restarts.wanted(policy, state.exit_code, state.restarts, stopped_by_hand=state.stopped_by_hand)


def in_order(rows: Sequence[Row], links: Mapping[str, Iterable[str]]) -> Iterable[list[Row]]:
    """In groups: what a group depends on is in those before it. What depends on itself comes with the last.

    links: the IDs of those that a container is linked to in the default network, without which it does not start.
    """
    left = {row.id: row for row in rows}
    needs = {row.id: _needs(row) | {("", identity) for identity in links.get(row.id, ())} for row in rows}
    while left:
        needed = {name for row in left.values() for name in (_key(row), ("", row.id))}
        ready = [row for row in left.values() if not (needs[row.id] & needed)] or list(left.values())
        for row in ready:
            del left[row.id]
        yield ready


def _key(row: Row) -> tuple[str, str]:
    labels: Mapping[str, str] = row.summary["labels"]
    return labels.get(_PROJECT, ""), labels.get(_SERVICE, "")


def _needs(row: Row) -> set[tuple[str, str]]:
    """``db:service_started:false,cache:service_healthy:true``, and the containers whose namespaces it has."""
    labels: Mapping[str, str] = row.summary["labels"]
    project, own = _key(row)
    names = {entry.partition(":")[0] for entry in labels.get(_NEEDS, "").split(",")}
    services = {(project, name) for name in names if name and name != own}
    kind, _, other = row.summary.get("network", "").partition(":")
    beside = row.summary.get("beside") or ([other] if kind == "container" else [])
    return services | {("", identity) for identity in beside}


def _started(engine: Engine, row: Row) -> bool:
    try:
        engine.start(row.id)
    except (UnchangedError, ConflictError, ContainerNotFoundError):
        return False
    except (ShiplapError, OSError):
        _log.exception("container %s is to run, and cannot be started", row.name)
        return False
    return True


def stop(engine: Engine) -> None:
    """Stop every container by its own signal and time; its policy starts it again after the boot."""
    if not any(engine.state(row.id).is_up for row in engine.records.containers()):
        return
    with contextlib.suppress(KeeperError), engine.keepers.nursery() as nursery:
        nursery.ask("stop-all", timeout_s=None)


def main() -> None:
    """``shiplap-restore start|stop [ROOT]``; without ROOT, that of the environment."""
    what, *rest = sys.argv[1:] or [""]
    if what not in ("start", "stop") or len(rest) > 1:
        raise SystemExit("usage: shiplap-restore start|stop [ROOT]")
    settings = Settings.from_environ(root=rest[0] if rest else None)
    places = Places.of(settings.root)
    if what == "stop" and not join(str(places.run)):
        return  # without an anchor, and without a nursery, nothing of this user's runs
    places.make()
    enter(str(places.run))
    with Engine.open(settings) as engine:
        if what == "start":
            restore(engine)
        else:
            stop(engine)


if __name__ == "__main__":
    main()
