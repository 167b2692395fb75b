"""Volumes: directories that outlive containers, with names or made for one container.

    ROOT/volumes/.lock           flock: held while a volume is made or removed
                /NAME/_data      what is in it, with true owners whatever the range of a container
                /.gone-…         being removed

A row of ``engine.db`` lets a volume exist. It comes after the directory and goes before it. A directory without a row
is what somebody was killed over: a new volume of that name begins empty.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from core.files import fsync_directory, storage_errors
from engine.errors import ConflictError, InvalidRequestError, NotDoneError, VolumeNotFoundError
from engine.fields import Fields
from engine.filters import checked, labels_match, text_matches
from engine.places import Places
from engine.records import Records, VolumeRow
from engine.times import asked_moment, text_of
from images.locks import exclusive
from images.trees import remove_tree, tree_bytes

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_ANONYMOUS: Final = "com.docker.volume.anonymous"
_GONE: Final = ".gone-"
_MODE: Final = 0o755
_KNOWN: Final = ("dangling", "driver", "label", "name")
_PRUNABLE: Final = ("all", "label", "label!", "until")
_LONGEST: Final = 255


def anonymous_name() -> str:
    """A name that nobody else has."""
    return os.urandom(32).hex()


def check_volume_name(name: str) -> None:
    """Raise InvalidRequestError when no volume can be called so."""
    if len(name) == 1:
        raise InvalidRequestError("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InvalidRequestError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def check_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options of the driver ``local``: a directory of the host's, ``type=none,o=bind,device=/PATH``.

    Raises InvalidRequestError, NotDoneError.
    """
    if not options:
        return {}
    for name in options:
        if name not in ("type", "o", "device"):
            raise InvalidRequestError(f"create: invalid option: {name!r}")
    words = [word for word in options.get("o", "").split(",") if word]
    device = options.get("device", "")
    if options.get("type") == "tmpfs":
        raise NotDoneError("a volume of type tmpfs is refused: nothing here outlives its containers in memory; --tmpfs")
    if options.get("type", "none") not in ("none", "bind", "") or not {"bind", "rbind"} & set(words):
        raise NotDoneError(f"a volume of type {options.get('type', '')!r} is refused: o=bind is done")
    if set(words) - {"bind", "rbind", "rw", "ro"}:
        raise NotDoneError(f"options of a volume: o={options['o']}: bind, ro and rw are done")
    if not device.startswith("/") or "\0" in device:
        raise InvalidRequestError(f"create: the device of a bind is an absolute path, not {device!r}")
    return dict(options)


def is_readonly(options: Mapping[str, str]) -> bool:
    """Whether a volume of these options cannot be written."""
    return "ro" in options.get("o", "").split(",")


class Volumes:
    """The volumes of one root. note: writes an event down: of which volume, and what happened."""

    def __init__(self, places: Places, records: Records, note: Callable[[str, str], None]) -> None:
        self._places = places
        self._records = records
        self._note = note

    def create(self, body: Any) -> dict[str, Any]:
        """Make a volume as docker's ``POST /volumes/create`` asks; one that is there stays as it is.

        Returns docker's document. Raises InvalidRequestError, NotDoneError.
        """
        asked = Fields(body, "body")
        if asked.text("Driver") not in ("", "local"):
            raise InvalidRequestError(f"error looking up volume plugin {asked.text('Driver')}: plugin not found")
        name, options = asked.text("Name"), check_options(asked.pairs("DriverOpts"))
        if name:
            check_volume_name(name)
        labels = asked.pairs("Labels")
        row = self.ensure(name or anonymous_name(), is_anonymous=not name, labels=labels, options=options)
        if options and row.options != options:
            raise ConflictError(f"volume {row.name} is there with other options")
        return self._document(row)

    def ensure(
        self,
        name: str,
        *,
        is_anonymous: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> VolumeRow:
        """The volume of this name, made if there is none."""
        if (known := self._records.volume(name)) is not None:
            return known
        shown = {**({_ANONYMOUS: ""} if is_anonymous else {}), **(labels or {})}
        row = VolumeRow(name, time.time_ns(), is_anonymous, shown, dict(options or {}))
        self._places.make()
        with self._alone(), storage_errors("a volume"):
            if (known := self._records.volume(row.name)) is not None:
                return known
            place = self._places.volumes / row.name
            if place.exists():
                self._set_aside(row.name)
            os.mkdir(place, 0o700)
            os.mkdir(place / "_data")
            os.chmod(place / "_data", _MODE)  # whatever the umask
            fsync_directory(place)
            fsync_directory(self._places.volumes)
            self._records.add_volume(row)
        self._note(row.name, "create")
        return row

    def listed(self, filters: Any = None) -> dict[str, Any]:
        """All that fit, as docker's ``GET /volumes``."""
        wanted = checked(filters, _KNOWN)
        found = [self._document(row) for row in self._records.volumes() if self._fits(row, wanted)]
        return {"Volumes": found, "Warnings": None}

    def inspect(self, name: str) -> dict[str, Any]:
        """As docker's ``GET /volumes/NAME``. Raises VolumeNotFoundError."""
        return self._document(self._found(name))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume. force: it need not be there. Raises VolumeNotFoundError, ConflictError when it is used."""
        try:
            self._found(name)
        except VolumeNotFoundError:
            if force:
                return
            raise
        users = self._removed(name)
        if users:
            raise ConflictError(f"remove {name}: volume is in use - [{', '.join(users)}]")

    def prune(self, filters: Any = None) -> tuple[list[str], int]:
        """Remove the anonymous volumes that no container uses; with the filter ``all`` those with names, too.

        Returns their names, and the bytes that were freed.
        """
        wanted = checked(filters, _PRUNABLE)
        every = any(text.lower() in ("1", "true") for text in wanted.get("all", ()))
        bounds = [asked_moment(text) for text in wanted.get("until", ())]
        names, freed = [], 0
        for row in self._records.volumes():
            spared = any(labels_match([text], row.labels) for text in wanted.get("label!", ()))
            if spared or not (row.anonymous or every) or not labels_match(wanted.get("label", ()), row.labels):
                continue
            if any(row.created_ns > bound for bound in bounds) or self._records.users_of(row.name):
                continue
            size = tree_bytes(str(self._places.volumes / row.name / "_data"))
            if not self._removed(row.name):
                names.append(row.name)
                freed += size
        return names, freed

    def remove_anonymous(self, names: Iterable[str]) -> None:
        """Remove those of these that were made for one container, and that no other uses."""
        for name in names:
            row = self._records.volume(name)
            if row is not None and row.anonymous:
                self._removed(name)

    def usage(self) -> list[dict[str, Any]]:
        """All volumes as ``system df`` shows them, with their sizes and users."""
        found = []
        for row in self._records.volumes():
            size = tree_bytes(str(self._places.volumes / row.name / "_data"))
            uses = {"Size": size, "RefCount": len(self._records.users_of(row.name))}
            found.append({**self._document(row), "UsageData": uses})
        return found

    def _fits(self, row: VolumeRow, wanted: dict[str, list[str]]) -> bool:
        if not text_matches(wanted.get("name", ()), row.name) or not labels_match(wanted.get("label", ()), row.labels):
            return False
        if (drivers := wanted.get("driver")) and "local" not in drivers:
            return False
        dangling = wanted.get("dangling", ())
        if not dangling:
            return True
        if dangling[-1].lower() not in ("1", "0", "true", "false"):
            raise InvalidRequestError(f"invalid filter 'dangling=[{dangling[-1]}]'")
        return (dangling[-1].lower() in ("1", "true")) == (not self._records.users_of(row.name))

    def _removed(self, name: str) -> list[str]:
        """Remove it, unless containers use it: their IDs then."""
        with self._alone():
            users = self._records.remove_volume(name)
            if users:
                return users
            self._set_aside(name)
        self._note(name, "destroy")
        self._clear()
        return []

    def _set_aside(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._places.volumes / name, self._places.volumes / f"{_GONE}{os.urandom(8).hex()}")

    def _clear(self) -> None:
        """Remove what was set aside, also by who was killed then."""
        for entry in os.listdir(self._places.volumes):
            if entry.startswith(_GONE):
                remove_tree(str(self._places.volumes / entry))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with exclusive(self._places.volumes / ".lock"):
            yield

    def _found(self, name: str) -> VolumeRow:
        row = self._records.volume(name)
        if row is None:
            raise VolumeNotFoundError(f"get {name}: no such volume")
        return row

    def _document(self, row: VolumeRow) -> dict[str, Any]:
        return {
            "CreatedAt": text_of(row.created_ns // 1_000_000_000 * 1_000_000_000),
            "Driver": "local",
            "Labels": row.labels or None,
            "Mountpoint": str(self._places.volumes / row.name / "_data"),
            "Name": row.name,
            "Options": row.options or None,
            "Scope": "local",
        }
