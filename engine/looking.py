"""Looking at containers: lists with docker's filters, and ``inspect``. Looking never starts anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine import documents, spec
from engine.errors import ConflictError, ContainerNotFoundError, InvalidRequestError
from engine.filters import checked, labels_match, number, text_matches
from engine.places import Places
from engine.ports import check_port
from engine.records import EndpointRow, NetworkRow, Records, Row
from engine.state import State, read
from engine.times import NEVER
from images.trees import tree_bytes

_KNOWN: Final = (
    "ancestor", "before", "since", "exited", "id", "isolation", "label", "name", "status", "health", "volume",
    "network", "is-task", "publish", "expose", "keeper",
)  # fmt: skip
_STATUSES: Final = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH: Final = ("starting", "healthy", "unhealthy", "none")


class Sizes(NamedTuple):
    """Bytes: what a container wrote, and of its image's layers."""

    written: int
    image: int


class Looker:
    """Reads rows and states of one root.

    image_bytes: the size of an image's layers by its ID, and the IDs that a name or ID means: only asked when needed.
    """

    def __init__(
        self,
        places: Places,
        records: Records,
        image_bytes: Callable[[str], int],
        image_ids: Callable[[str], Sequence[str]],
        is_old: Callable[[str], bool],
    ) -> None:
        self._places = places
        self._records = records
        self._image_bytes = image_bytes
        self._image_ids = image_ids
        self._is_old = is_old

    def state(self, row: Row) -> State:
        """What became of a container."""
        return read(self._places.container(row.id))

    def states(self) -> list[tuple[Row, State]]:
        """All containers, the newest first, with what became of them."""
        return [(row, self.state(row)) for row in self._records.containers()]

    def containers(self, *, every: bool, filters: Any, limit: int, sizes: bool) -> list[dict[str, Any]]:
        """As docker's ``GET /containers/json``: the newest first.

        every: not only those that run.
        limit: the last so many, whether they run or not; 0: all.
        sizes: with SizeRw and SizeRootFs, which takes a walk through what each wrote.
        """
        wanted = checked(filters, _KNOWN)
        chosen = self._matching(wanted, every=every or limit > 0 or bool(wanted.get("status")))
        chosen = chosen[:limit] if limit > 0 else chosen
        now = time.time_ns()
        networks = {network.id: network for network in self._records.networks()}
        places = self._records.endpoints()
        found = []
        for row, state in chosen:
            document = documents.listed(row, state, now, _endpoints(row, state, networks, places.get(row.id, ())))
            if sizes:
                measured = self.sizes(row)
                if measured.written:
                    document["SizeRw"] = measured.written
                document["SizeRootFs"] = measured.image + measured.written
            found.append(document)
        return found

    def inspect(self, ref: str, *, size: bool = False) -> dict[str, Any]:
        """As docker's ``GET /containers/ID/json``. Raises ContainerNotFoundError."""
        row = self._records.container(ref)
        directory = self._places.container(row.id)
        try:
            asked = spec.read(directory)
        except FileNotFoundError as error:
            if not self._records.exists(row.id):
                raise ContainerNotFoundError(ref) from error
            raise ConflictError(
                f"container {row.id} has lost its files: {directory}/spec.json is missing",
                hint="shiplap rm removes what is left of it",
            ) from error
        state = self.state(row)
        networks = {network.id: network for network in self._records.networks()}
        endpoints = _endpoints(row, state, networks, self._records.endpoints_of(row.id))
        document = documents.inspected(row, state, asked, directory, endpoints)
        if size:
            measured = self.sizes(row)
            document["SizeRw"], document["SizeRootFs"] = measured.written, measured.image + measured.written
        return document

    def sizes(self, row: Row) -> Sizes:
        """What it takes of the disk."""
        upper = self._places.container(row.id) / "upper" / "fs"
        return Sizes(tree_bytes(str(upper)) if os.path.isdir(upper) else 0, self._image_bytes(row.image_id))

    def matching(self, filters: Any, known: Sequence[str]) -> list[tuple[Row, State]]:
        """Containers in any state that fit these filters, of which only ``known`` ones are allowed."""
        return self._matching(checked(filters, known), every=True)

    def _matching(self, wanted: Mapping[str, Sequence[str]], *, every: bool) -> list[tuple[Row, State]]:
        rows = self._records.containers()
        _check_values(wanted)
        for row_filter in self._row_filters(wanted):
            rows = [row for row in rows if row_filter(row)]
        found = [(row, self.state(row)) for row in rows]
        found = [pair for pair in found if every or (pair[1].is_up and pair[1].status != "starting")]
        for state_filter in _state_filters(wanted):
            found = [pair for pair in found if state_filter(pair[1])]
        if wanted.get("keeper"):
            found = [pair for pair in found if pair[1].is_up and self._is_old(pair[0].id)]
        return found

    def _row_filters(self, wanted: Mapping[str, Sequence[str]]) -> list[Callable[[Row], bool]]:
        chosen: list[Callable[[Row], bool]] = []
        if names := wanted.get("name"):
            chosen.append(lambda row: text_matches(names, row.name) or text_matches(names, f"/{row.name}"))
        if ids := wanted.get("id"):
            chosen.append(lambda row: text_matches(ids, row.id))
        if labels := wanted.get("label"):
            chosen.append(lambda row: labels_match(labels, row.summary["labels"]))
        if ancestors := wanted.get("ancestor"):
            images = {image for text in ancestors for image in self._image_ids(text)}
            chosen.append(lambda row: row.image_id in images)
        if volumes := wanted.get("volume"):
            chosen.append(lambda row: any(_is_mounted(volume, row) for volume in volumes))
        if networks := wanted.get("network"):
            chosen.append(lambda row: any(name in networks for name in row.summary["networks"]))
        if exposed := [check_port(text) for text in wanted.get("expose", ())]:
            chosen.append(
                lambda row: any(_overlap(port, check_port(own)) for port in exposed for own in row.summary["exposed"])
            )
        if tasks := wanted.get("is-task"):
            chosen.append(lambda _: "true" not in tasks)
        for name, newer in (("before", False), ("since", True)):
            if refs := wanted.get(name):
                bound = self._records.container(refs[-1])
                chosen.append(lambda row, bound=bound, newer=newer: _is_beyond(row, bound, newer))  # type: ignore[misc]
        return chosen


def _endpoints(
    row: Row, state: State, networks: Mapping[str, NetworkRow], places: Sequence[EndpointRow]
) -> dict[str, dict[str, Any]]:
    """A container's places, by the network's name."""
    return {
        networks[place.network].name: documents.endpoint(place, networks[place.network], state, row.name)
        for place in places
        if place.network in networks
    }


def _check_values(wanted: Mapping[str, Sequence[str]]) -> None:
    for name, known in (("status", _STATUSES), ("health", _HEALTH), ("keeper", ("old",))):
        for value in wanted.get(name, ()):
            if value not in known:
                raise InvalidRequestError(f"invalid filter '{name}={value}'")


def _state_filters(wanted: Mapping[str, Sequence[str]]) -> list[Callable[[State], bool]]:
    chosen: list[Callable[[State], bool]] = []
    if statuses := wanted.get("status"):
        chosen.append(lambda state: documents.docker_status(state) in statuses)
    if codes := [number("exited", text) for text in wanted.get("exited", ())]:
        chosen.append(lambda state: not state.is_up and state.started != NEVER and state.exit_code in codes)
    if health := wanted.get("health"):
        chosen.append(lambda state: (state.health["status"] if state.health is not None else "none") in health)
    if published := [check_port(text) for text in wanted.get("publish", ())]:
        chosen.append(lambda state: _publishes(state, published))
    return chosen


def _is_mounted(volume: str, row: Row) -> bool:
    return any(volume in (mount.get("Name"), mount["Source"], mount["Destination"]) for mount in row.summary["mounts"])


def _is_beyond(row: Row, bound: Row, newer: bool) -> bool:
    ours, theirs = (row.created_ns, row.id), (bound.created_ns, bound.id)
    return ours > theirs if newer else ours < theirs


def _publishes(state: State, wanted: Sequence[tuple[int, int, str]]) -> bool:
    """Whether one of these ports of the host leads to it now."""
    ports = [(each["port"], each["port"], each["protocol"]) for each in state.ports if state.has_process]
    return any(_overlap(port, asked) for port in ports for asked in wanted)


def _overlap(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    return one[2] == other[2] and one[0] <= other[1] and other[0] <= one[1]
