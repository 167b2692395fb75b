"""What a container has mounted beside its root, from docker's ``Binds``, ``Mounts``, ``Tmpfs``, ``VolumesFrom`` and the
image's ``Volumes``: read, checked, and as ``spec.json`` and ``inspect`` have it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from engine import callers, tmpfs
from engine.callers import Caller
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.places import Places
from engine.volumes import anonymous_name, check_options, check_volume_name, is_readonly

_MODES: Final = frozenset({
    "ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", "default",
    "private", "rprivate", "slave", "rslave",
})  # fmt: skip
_PROPAGATIONS: Final = ("private", "rprivate", "slave", "rslave")
_SHARED: Final = ("shared", "rshared")
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({
        "Type", "Source", "Target", "ReadOnly", "Consistency", "BindOptions", "VolumeOptions", "ImageOptions",
        "TmpfsOptions", "ClusterOptions",
    }),
    "BindOptions": frozenset({
        "Propagation", "NonRecursive", "CreateMountpoint", "ReadOnlyNonRecursive", "ReadOnlyForceRecursive",
    }),
    "VolumeOptions": frozenset({"NoCopy", "Labels", "DriverConfig", "Subpath"}),
    "ImageOptions": frozenset({"Subpath"}),
    "TmpfsOptions": frozenset({"SizeBytes", "Mode", "Options"}),
}  # fmt: skip
"""Of docker's ``Mount``, and of the objects in it."""

ImageLayers: TypeAlias = Callable[[str], tuple[str, list[str]]]
"""An image's ID and its layers' diff IDs, by a name. Raises NoSuchImageError."""

VolumeOptions: TypeAlias = Callable[[str], Mapping[str, str] | None]
"""The options with which a volume was made; None when there is none of that name."""

OtherMounts: TypeAlias = Callable[[str], list[tuple[dict[str, Any], dict[str, Any]]]]
"""What a container, by its name or ID, has mounted: as ``Mounts`` of its document has it, and as its ``spec.json``."""


class WantedVolume(NamedTuple):
    """A volume that a container uses. labels, options: of one that has to be made."""

    name: str
    is_anonymous: bool
    labels: dict[str, str]
    options: dict[str, str]


class Planned(NamedTuple):
    """What is to be mounted.

    mounts: for ``spec.json``, in their order.
    shown: docker's ``Mounts``, for ``inspect`` and lists.
    fresh: volumes to fill from the image: name, and place in the container.
    volumes: all that are used; those that are missing are to be made.
    images: those whose files are mounted: ID, and diff IDs.
    """

    mounts: list[dict[str, Any]]
    shown: list[dict[str, Any]]
    fresh: list[tuple[str, str]]
    volumes: list[WantedVolume]
    images: list[tuple[str, list[str]]]


class _Point(NamedTuple):
    """Something at a place. copied: a volume that takes what the image has there."""

    mount: dict[str, Any]
    shown: dict[str, Any] | None
    volume: str = ""
    copied: bool = False


class Planner:
    """Plans the mounts of one container. Nothing is made but sources of binds that docker makes, too."""

    def __init__(
        self, places: Places, caller: Caller, mounts_of: OtherMounts, options_of: VolumeOptions, image_of: ImageLayers
    ) -> None:
        self._caller = caller
        self._places = places
        self._options_of = options_of
        self._image_of = image_of
        self._images: list[tuple[str, list[str]]] = []
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
            words = filter(None, options.split(","))
            self._add(_as_tmpfs(tmpfs.mount(_place(target), words)))
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
            self._images,
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
            if any(word in _PROPAGATIONS for word in words):
                raise InvalidRequestError(f"invalid volume specification: '{text}': a volume has no propagation")
            return self._volume(source, _place(target), readonly=readonly, copied="nocopy" not in words, mode=options)
        if "nocopy" in words:
            raise InvalidRequestError(f"invalid volume specification: '{text}': a bind copies nothing")
        if not callers.is_there(self._caller, source):
            callers.make_directory(self._caller, source)  # as docker, for -v; --mount refuses
        how = {"propagation": next((word for word in words if word in _PROPAGATIONS), "rprivate")}
        return self._host_path(source, _place(target), readonly=readonly, mode=options, how=how)

    def _mount(self, mount: Fields) -> _Point:
        """One of ``Mounts``. Raises InvalidRequestError, NotDoneError."""
        kind, target = mount.text("Type"), _place(mount.text("Target"))
        for group, known in _MEMBERS.items():
            for name in (mount.inner(group) if group else mount).names():
                if name not in known:
                    raise NotDoneError(f"a mount's {group or 'member'} {name} is not known to this engine")
        readonly, source = mount.flag("ReadOnly"), mount.text("Source")
        if kind == "tmpfs":
            if source:
                raise InvalidRequestError('invalid mount config for type "tmpfs": field Source must not be specified')
            inner = mount.inner("TmpfsOptions")
            words = [*(["ro"] if readonly else ()), *_option_words(inner.raw("Options"))]
            return _as_tmpfs(tmpfs.mount(target, words, inner.number("SizeBytes"), inner.number("Mode")))
        if kind == "bind":
            return self._bind_mount(mount, source, target)
        if kind in ("volume", ""):
            options = mount.inner("VolumeOptions")
            driver = options.inner("DriverConfig")
            if driver.text("Name") not in ("", "local"):
                raise NotDoneError(f"the volume driver {driver.text('Name')!r} is not there: there is local")
            subpath = _subpath(options.text("Subpath"), "volume")
            if subpath and not source:
                raise InvalidRequestError("must not set Subpath when using anonymous volumes")
            return self._volume(
                source or None,
                target,
                readonly=readonly,
                copied=not options.flag("NoCopy") and not subpath,
                labels=options.pairs("Labels"),
                options=driver.pairs("Options"),
                subpath=subpath,
            )
        if kind == "image":
            return self._image(source, target, _subpath(mount.inner("ImageOptions").text("Subpath"), "image"))
        raise InvalidRequestError(f"mount type unknown: {kind!r}")

    def _bind_mount(self, mount: Fields, source: str, target: str) -> _Point:
        options, readonly = mount.inner("BindOptions"), mount.flag("ReadOnly")
        propagation = options.text("Propagation") or "rprivate"
        if propagation in _SHARED:
            raise NotDoneError(f"mounts are not passed on to the host: propagation {propagation!r} is refused")
        if propagation not in _PROPAGATIONS:
            raise InvalidRequestError(f"invalid propagation mode: {propagation}")
        wrong = 'invalid mount config for type "bind":'
        shallow, forced = options.flag("ReadOnlyNonRecursive"), options.flag("ReadOnlyForceRecursive")
        if (shallow or forced) and not readonly:
            raise InvalidRequestError(f"{wrong} mount must be read-only for its recursion to be said")
        if shallow and forced:
            raise InvalidRequestError(f"{wrong} ReadOnlyForceRecursive and ReadOnlyNonRecursive exclude each other")
        if options.flag("NonRecursive") and self._caller.view:
            raise NotDoneError("bind-recursive=disabled is refused: it would show what the job's own mounts hide")
        if not source.startswith("/"):
            raise InvalidRequestError(f"{wrong} invalid mount path: '{source}' mount path must be absolute")
        if options.flag("CreateMountpoint"):
            callers.make_directory(self._caller, source)
        if not callers.is_there(self._caller, source):
            raise InvalidRequestError(f"{wrong} bind source path does not exist: {source}")
        how = {"propagation": propagation, "flat": options.flag("NonRecursive"), "shallow": shallow}
        return self._host_path(source, target, readonly=readonly, mode="", how=how)

    def _image(self, name: str, target: str, subpath: str) -> _Point:
        """Files of an image, read-only."""
        if not name:
            raise InvalidRequestError('invalid mount config for type "image": field Source must not be empty')
        identity, layers = self._image_of(name)
        self._images.append((identity, layers))
        mount = {"kind": "tree", "target": target, "layers": [], "diff_ids": layers, "source": subpath or "/"}
        shown = {"Type": "image", "Source": name, "Destination": target, "Mode": "", "RW": False, "Propagation": ""}
        return _Point(mount, shown)

    def _take_from(self, text: str) -> None:
        """``CONTAINER[:ro|rw]``: its volumes and binds, at their places, but where something is already."""
        ref, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidRequestError(f"invalid mode for volumes-from: {mode}")
        for shown, made in self._mounts_of(ref):
            target = shown["Destination"]
            if target in self._points or shown["Type"] not in ("volume", "bind"):
                continue
            readonly = mode == "ro" or not shown["RW"]
            if shown["Type"] == "volume":
                subpath = made.get("subpath", "")
                self._add(self._volume(shown["Name"], target, readonly=readonly, copied=False, subpath=subpath))
            else:
                how = {"propagation": shown.get("Propagation") or "rprivate", "flat": made.get("flat")}
                how["shallow"] = readonly and made.get("shallow")
                self._add(self._host_path(shown["Source"], target, readonly=readonly, mode=shown["Mode"], how=how))

    def _host_path(self, source: str, target: str, *, readonly: bool, mode: str, how: Mapping[str, object]) -> _Point:
        """A bind of a path of the host. how: as ``containers.rootfs.Layers.bind`` has it."""
        mount: dict[str, Any] = {"kind": "bind", **self._found(source), "target": target, "readonly": readonly}
        mount |= {"idmapped": True, **{name: value for name, value in how.items() if value}}
        if self._is_api(source):
            mount = {"kind": "socket", "source": source, "target": target}
        mount |= self._as_caller()
        shown = {
            "Type": "bind", "Source": source, "Destination": target, "Mode": mode, "RW": not readonly,
            "Propagation": how["propagation"],
        }  # fmt: skip
        return _Point(mount, shown)

    def _is_api(self, source: str) -> bool:
        """Whether a path is a socket of the engine's API: by its name. ``containers.keeper.sockets``"""
        folder, name = os.path.split(source)
        if self._caller.view:
            return False  # it lives as long as the engine, and its file is the job's own
        is_named = name == "docker.sock" or (folder == str(self._places.run.parent) and name.endswith(".sock"))
        return is_named and callers.is_socket(self._caller, source)

    def _found(self, source: str) -> dict[str, Any]:
        """Where a path of the host's, or of the job's, is."""
        return {"source": self._caller.view, "within": source} if self._caller.view else {"source": source}

    def _as_caller(self) -> dict[str, Any]:
        """What marks a directory of the host's that is bound as the caller; see ``callers.bound``."""
        return {} if self._caller.is_root else {"caller": True}

    def _volume(
        self,
        name: str | None,
        target: str,
        *,
        readonly: bool,
        copied: bool,
        mode: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        subpath: str = "",
    ) -> _Point:
        if name is not None:
            check_volume_name(name)
        volume = name or anonymous_name()
        there = self._options_of(volume) if name else None
        options = check_options(options or {}) if there is None else there
        self._volumes.setdefault(volume, WantedVolume(volume, name is None, dict(labels or {}), dict(options)))
        source = options["device"] if options else str(self._places.volumes / volume / "_data")
        readonly, copied = readonly or is_readonly(options), copied and not options
        found = self._found(source) if options else {"source": source}
        mount: dict[str, Any] = {"kind": "bind", **found, "target": target, "readonly": readonly}
        mount |= {"idmapped": True, "propagation": "rprivate", **({"subpath": subpath} if subpath else {})}
        mount |= self._as_caller() if options else {}
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


def _subpath(text: str, kind: str) -> str:
    """A path within what is mounted. Raises InvalidRequestError, in docker's words."""
    if not text:
        return ""
    if "\0" in text or text.startswith("/") or ".." in text.split("/"):
        raise InvalidRequestError(f'invalid mount config for type "{kind}": subpath must be a relative path within it')
    return os.path.normpath(text)


def _option_words(options: Any) -> list[str]:
    """``TmpfsOptions.Options``: lists of a name, or of a name and a value."""
    if options is None:
        return []
    words = [each for each in options if isinstance(each, list) and all(isinstance(part, str) for part in each)]
    if not isinstance(options, list) or len(words) != len(options) or not all(len(each) in (1, 2) for each in words):
        raise InvalidRequestError("TmpfsOptions.Options is no list of names with values")
    return ["=".join(each) for each in words]


def _as_tmpfs(mount: dict[str, Any]) -> _Point:
    shown = {
        "Type": "tmpfs", "Source": "", "Destination": mount["target"], "Mode": "", "RW": not mount["flags"] & 1,
        "Propagation": "",
    }  # fmt: skip
    return _Point(mount, shown)
