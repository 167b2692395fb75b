"""What a container has mounted beside its root, from docker's ``Binds``, ``Mounts``, ``Tmpfs``, ``VolumesFrom`` and the
image's ``Volumes``: read, checked, and as ``spec.json`` and ``inspect`` have it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from core.quantities import parse_size
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.places import Places
from engine.volumes import anonymous_name, check_volume_name

_TMPFS_MODE: Final = 0o1777
_TMPFS_OPTIONS: Final = ("rw", "nosuid", "nodev", "noexec", "exec", "noatime", "relatime", "async", "defaults")
_MODES: Final = frozenset({
    "ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", "default",
    "private", "rprivate", "slave", "rslave",
})  # fmt: skip
_PROPAGATIONS: Final = ("", "private", "rprivate", "slave", "rslave")
_SHARED: Final = ("shared", "rshared")

OtherMounts: TypeAlias = Callable[[str], list[dict[str, Any]]]
"""What a container, by its name or ID, has mounted, as ``Mounts`` of its document has it."""


class WantedVolume(NamedTuple):
    """A volume that a container uses. labels: of one that has to be made."""

    name: str
    is_anonymous: bool
    labels: dict[str, str]


class Planned(NamedTuple):
    """What is to be mounted.

    mounts: for ``spec.json``, in their order.
    shown: docker's ``Mounts``, for ``inspect`` and lists.
    fresh: volumes to fill from the image: name, and place in the container.
    volumes: all that are used; those that are missing are to be made.
    """

    mounts: list[dict[str, Any]]
    shown: list[dict[str, Any]]
    fresh: list[tuple[str, str]]
    volumes: list[WantedVolume]


class _Point(NamedTuple):
    """Something at a place. copied: a volume that takes what the image has there."""

    mount: dict[str, Any]
    shown: dict[str, Any] | None
    volume: str = ""
    copied: bool = False


class Planner:
    """Plans the mounts of one container. Nothing is made but sources of binds that docker makes, too."""

    def __init__(self, places: Places, mounts_of: OtherMounts) -> None:
        self._places = places
        self._volumes: dict[str, WantedVolume] = {}
        self._mounts_of = mounts_of
        self._points: dict[str, _Point] = {}

    def plan(self, host: Fields, image_volumes: Iterable[str]) -> Planned:
        """Read a HostConfig's mounts. Raises InvalidRequestError, NotDoneError, and what a named container raises."""
        for text in host.texts("Binds"):
            self._add(self._bind(text))
        for mount in host.objects("Mounts"):
            self._add(self._mount(mount))
        for target, options in host.pairs("Tmpfs").items():
            self._add(_tmpfs(target, options))
        for text in host.texts("VolumesFrom"):
            self._take_from(text)
        for target in image_volumes:
            place = _place(target)
            if place not in self._points:
                self._add(self._volume(None, place, readonly=False, copied=True))
        points = [self._points[place] for place in sorted(self._points, key=lambda place: (place.count("/"), place))]
        return Planned(
            [point.mount for point in points],
            [point.shown for point in points if point.shown is not None],
            [(point.volume, point.mount["target"]) for point in points if point.copied],
            list(self._volumes.values()),
        )

    def _add(self, point: _Point) -> None:
        target = point.mount["target"]
        if target in self._points:
            raise InvalidRequestError(f"Duplicate mount point: {target}")
        self._points[target] = point

    def _bind(self, text: str) -> _Point:
        """``SOURCE:PLACE[:OPTIONS]``; a source that is no path is a volume's name."""
        source, separator, rest = text.partition(":")
        target, _, options = rest.partition(":")
        if not separator or not source or not target or ":" in options:
            raise InvalidRequestError(f"invalid volume specification: '{text}'")
        words = [word for word in options.split(",") if word]
        for word in words:
            _check_mode(word, text)
        readonly = "ro" in words
        if not source.startswith("/"):
            return self._volume(source, _place(target), readonly=readonly, copied="nocopy" not in words, mode=options)
        if not os.path.lexists(source):
            os.makedirs(source, mode=0o755, exist_ok=True)  # as docker, for -v; --mount refuses
        return self._host_path(source, _place(target), readonly=readonly, mode=options)

    def _mount(self, mount: Fields) -> _Point:
        kind, target = mount.text("Type"), _place(mount.text("Target"))
        readonly, source = mount.flag("ReadOnly"), mount.text("Source")
        if kind == "tmpfs":
            inner = mount.inner("TmpfsOptions")
            mode = inner.number("Mode") or _TMPFS_MODE
            return _as_tmpfs(target, inner.number("SizeBytes"), mode)
        if kind == "bind":
            propagation = mount.inner("BindOptions").text("Propagation")
            if propagation not in _PROPAGATIONS:
                raise NotDoneError(f"mounts are not passed on to the host: propagation {propagation!r} is refused")
            if mount.inner("BindOptions").flag("CreateMountpoint") and source.startswith("/"):
                os.makedirs(source, mode=0o755, exist_ok=True)
            if not source.startswith("/"):
                wrong = f"invalid mount path: '{source}' mount path must be absolute"
                raise InvalidRequestError(f'invalid mount config for type "bind": {wrong}')
            if not os.path.exists(source):
                raise InvalidRequestError(
                    f'invalid mount config for type "bind": bind source path does not exist: {source}'
                )
            return self._host_path(source, target, readonly=readonly, mode="")
        if kind in ("volume", ""):
            options = mount.inner("VolumeOptions")
            if options.text("Subpath"):
                raise NotDoneError("volume-subpath is not done yet")
            driver = options.inner("DriverConfig")
            if driver.text("Name") not in ("", "local") or driver.pairs("Options"):
                raise NotDoneError("drivers and options of volumes are not done yet")
            copied = not options.flag("NoCopy")
            return self._volume(
                source or None, target, readonly=readonly, copied=copied, labels=options.pairs("Labels")
            )
        if kind == "image":
            raise NotDoneError("mounts of type image are not done yet")
        raise InvalidRequestError(f"mount type unknown: {kind!r}")

    def _take_from(self, text: str) -> None:
        """``CONTAINER[:ro|rw]``: its volumes and binds, at their places, but where something is already."""
        ref, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidRequestError(f"invalid mode for volumes-from: {mode}")
        for shown in self._mounts_of(ref):
            target = shown["Destination"]
            if target in self._points or shown["Type"] not in ("volume", "bind"):
                continue
            readonly = mode == "ro" or not shown["RW"]
            if shown["Type"] == "volume":
                self._add(self._volume(shown["Name"], target, readonly=readonly, copied=False))
            else:
                self._add(self._host_path(shown["Source"], target, readonly=readonly, mode=shown["Mode"]))

    def _host_path(self, source: str, target: str, *, readonly: bool, mode: str) -> _Point:
        mount = {"kind": "bind", "source": source, "target": target, "readonly": readonly, "idmapped": True}
        shown = {
            "Type": "bind", "Source": source, "Destination": target, "Mode": mode, "RW": not readonly,
            "Propagation": "rprivate",
        }  # fmt: skip
        return _Point(mount, shown)

    def _volume(
        self,
        name: str | None,
        target: str,
        *,
        readonly: bool,
        copied: bool,
        mode: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> _Point:
        if name is not None:
            check_volume_name(name)
        volume = name or anonymous_name()
        self._volumes.setdefault(volume, WantedVolume(volume, name is None, dict(labels or {})))
        source = str(self._places.volumes / volume / "_data")
        mount = {"kind": "bind", "source": source, "target": target, "readonly": readonly, "idmapped": True}
        shown = {
            "Type": "volume", "Name": volume, "Source": source, "Destination": target, "Driver": "local",
            "Mode": mode or "z", "RW": not readonly, "Propagation": "",
        }  # fmt: skip
        return _Point(mount, shown, volume, copied)


def _check_mode(word: str, text: str) -> None:
    if word in _SHARED:
        raise NotDoneError(f"mounts are not passed on to the host: {word!r} is refused")
    if word not in _MODES:
        raise InvalidRequestError(f"invalid volume specification: '{text}': invalid mode: {word}")


def _place(target: str) -> str:
    """A mount point's path, cleaned. Raises InvalidRequestError."""
    if not target.startswith("/") or "\0" in target:
        raise InvalidRequestError(f"invalid mount path: '{target}' mount path must be absolute")
    cleaned = "/" + os.path.normpath(target).lstrip("/")
    if cleaned == "/":
        raise InvalidRequestError("invalid specification: destination can't be '/'")
    return cleaned


def _tmpfs(target: str, options: str) -> _Point:
    size_bytes, mode = 0, _TMPFS_MODE
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        try:
            if name == "size":
                size_bytes = parse_size(value)
            elif name == "mode":
                mode = int(value, 8)
            elif name not in _TMPFS_OPTIONS:
                raise NotDoneError(f"tmpfs option '{option}' is not done")
        except ValueError as error:
            raise InvalidRequestError(f"invalid tmpfs option '{option}'") from error
    return _as_tmpfs(_place(target), size_bytes, mode)


def _as_tmpfs(target: str, size_bytes: int, mode: int) -> _Point:
    shown = {"Type": "tmpfs", "Source": "", "Destination": target, "Mode": "", "RW": True, "Propagation": ""}
    return _Point({"kind": "tmpfs", "target": target, "size_bytes": size_bytes, "mode": mode}, shown)
