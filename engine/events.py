"""What happened: the events of RUN/events as docker's documents, filtered, and followed.

The engine and the keepers append them (``containers.keeper.eventlog``). Order and time agree. The last two files of a
megabyte are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from containers.keeper import eventlog
from core.cancellation import check
from core.watching import Watch
from engine.filters import checked, labels_match
from engine.logs import Place

_LOOK_EACH_S: Final = 0.5
_KNOWN: Final = (
    "config", "container", "daemon", "event", "id", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
)  # fmt: skip
_SECOND_NS: Final = 1_000_000_000


class EventReader:
    """Reads the events of one engine. run: its directory of what a boot clears."""

    def __init__(self, run: Path) -> None:
        self._run = str(run)
        self._place = Place()

    def read(self, *, since_ns: int, until_ns: int, filters: Any, follow: bool) -> Iterator[dict[str, Any]]:
        """The events from ``since_ns`` (0: from now on) to ``until_ns`` (0: none is the last), as docker's documents.

        follow: wait for what comes, until ``until_ns``. Raises InvalidRequestError for filters that there are not.
        """
        wanted = checked(filters, _KNOWN)
        begun = time.time_ns()
        earliest = since_ns or begun
        if not eventlog.numbers(self._run) and follow:
            Path(self._run, "events").mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._reading(earliest, until_ns, wanted, follow)

    def _reading(
        self, earliest: int, until_ns: int, wanted: Mapping[str, Sequence[str]], follow: bool
    ) -> Iterator[dict[str, Any]]:
        with Watch([f"{self._run}/events"] if follow else []) as watch:
            while True:
                now = time.time_ns()
                for event in self._ahead():
                    if until_ns and event["time_ns"] > until_ns:
                        return
                    if event["time_ns"] >= earliest and _fits(event, wanted):
                        yield document(event)
                if not follow or (until_ns and now >= until_ns):
                    return
                check()
                left = (until_ns - now) / _SECOND_NS if until_ns else _LOOK_EACH_S
                watch.wait(max(0.0, min(left, _LOOK_EACH_S)))

    def _ahead(self) -> Iterator[dict[str, Any]]:
        while True:
            numbers = [number for number in eventlog.numbers(self._run) if number >= self._place.file]
            if not numbers:
                return
            if numbers[0] != self._place.file:
                self._place = Place(numbers[0])
            try:
                with open(eventlog.path(self._run, numbers[0]), "rb") as file:
                    file.seek(self._place.offset)
                    for line in file:
                        if not line.endswith(b"\n"):
                            break
                        self._place = Place(self._place.file, self._place.offset + len(line))
                        event = eventlog.parsed(line)
                        if event is not None:
                            yield event
            except FileNotFoundError:
                pass  # it made room
            if len(numbers) == 1:
                return
            self._place = Place(numbers[1])


def document(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as docker's API has it; those of containers and images with the members of API 1.21, too."""
    kind, action, identity = event["type"], event["action"], event["id"]
    attributes = event["attributes"]
    old: dict[str, Any] = {}
    if kind == "container":
        old = {"status": action, "id": identity, "from": attributes.get("image", "")}
    elif kind == "image":
        old = {"status": action, "id": identity}
    return {
        **old,
        "Type": kind,
        "Action": action,
        "Actor": {"ID": identity, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": event["time_ns"] // _SECOND_NS,
        "timeNano": event["time_ns"],
    }


def _fits(event: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> bool:
    attributes = event["attributes"]
    for name, values in wanted.items():
        if not values:
            continue
        if name == "type":
            fits = event["type"] in values
        elif name == "event":
            # ``health_status`` stands for ``health_status: healthy``, and ``exec_start`` for ``exec_start: sh``.
            fits = event["action"] in values or event["action"].partition(":")[0] in values
        elif name == "label":
            fits = labels_match(values, attributes)
        elif name == "scope":
            fits = "local" in values
        elif name == "id":
            fits = any(event["id"].startswith(value) for value in values)
        elif name == "image":
            fits = _is_image(event, values)
        else:  # container, network, volume, …: by the thing's name or the beginning of its ID
            fits = event["type"] == name and any(_is_actor(event, value) for value in values)
            if name == "network" and event["type"] == "network":
                fits = fits or attributes.get("name") in values
        if not fits:
            return False
    return True


def _is_actor(event: Mapping[str, Any], value: str) -> bool:
    return bool(event["id"].startswith(value) or event["attributes"].get("name") == value)


def _is_image(event: Mapping[str, Any], values: Sequence[str]) -> bool:
    if event["type"] == "image":
        return any(_is_actor(event, value) for value in values)
    named = event["attributes"].get("image", "")
    return any(named == value or named.rpartition(":")[0] == value for value in values)
