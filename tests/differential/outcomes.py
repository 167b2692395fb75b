"""What a build left, in a form that can be compared: its own reading of layers, sharing no code with Shiplap's."""

from __future__ import annotations

import difflib
import hashlib
import json
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

_NOW_S = 1577836800  # 2020: what is younger has its time from the build, which no two builds share
_CONFIG = ("architecture", "os", "variant", "author", "config")


@dataclass(slots=True)
class Entry:
    """A file of a layer. Names that are hard links of each other share it."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    detail: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        time = f" mtime={self.mtime}" if self.kind != "dir" and self.mtime < _NOW_S else ""
        return f"{self.kind} {self.mode:04o} {self.uid}:{self.gid}{time} {self.detail} {self.xattrs or ''}".rstrip()


@dataclass(slots=True)
class Outcome:
    """image: the lines that describe what was built; None when the builder refused. log: what it said."""

    image: list[str] | None
    log: str = ""

    def difference(self, other: Outcome, names: tuple[str, str]) -> str:
        """The lines in which two images differ, as a diff. Both were built."""
        assert self.image is not None
        assert other.image is not None
        return "\n".join(difflib.unified_diff(self.image, other.image, *names, lineterm="", n=0))


Layer = Sequence[tuple[str, "Entry | str | None"]]


@dataclass(slots=True)
class Reader:
    """Describes images. Layers are remembered by diff ID, for nearly all images have the base's."""

    layers: dict[str, Layer] = field(default_factory=dict)

    def describe(self, config: dict[str, Any], open_layer: Callable[[str], IO[bytes]]) -> list[str]:
        """The lines: files by name, then config, then history. open_layer: gives a layer's tar by its diff ID."""
        diff_ids = config["rootfs"]["diff_ids"] or []
        for diff_id in diff_ids:
            if diff_id not in self.layers:
                with open_layer(diff_id) as stream:
                    self.layers[diff_id] = list(_read_layer(stream))
        files = _flatten([self.layers[diff_id] for diff_id in diff_ids])
        return [*_file_lines(files), *_config_lines(config), *_history_lines(config), f"layers: {len(diff_ids)}"]


def _read_layer(stream: IO[bytes]) -> Layer:
    entries: list[tuple[str, Entry | str | None]] = []
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            name = posixpath.normpath("/" + member.name)
            entries.append((name, _entry(tar, member)))
    return entries


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry | str:
    """What a member is; the other name's path for a hard link."""
    xattrs = tuple(
        sorted(
            (key.removeprefix("SCHILY.xattr."), value.encode("utf-8", "surrogateescape").hex())
            for key, value in member.pax_headers.items()
            if key.startswith("SCHILY.xattr.")
        )
    )
    detail = ""
    if member.islnk():
        return posixpath.normpath("/" + member.linkname)
    if member.issym():
        kind, detail = "link", f"-> {member.linkname}"
    elif member.isdir():
        kind = "dir"
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        kind, detail = "file", _content(content.read())
    else:
        kind, detail = f"special {member.type!r}", f"{member.devmajor}:{member.devminor}"
    return Entry(kind, member.mode & 0o7777, member.uid, member.gid, int(member.mtime), detail, xattrs)


def _content(data: bytes) -> str:
    return repr(data) if len(data) < 400 else f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def _flatten(layers: Sequence[Layer]) -> dict[str, Entry]:
    files: dict[str, Entry] = {}
    above = {"/"}  # names that something is or was below
    for layer in layers:
        for name, _ in layer:
            parent, base = posixpath.split(name)
            if base == ".wh..wh..opq":
                _remove_below(files, parent, above)
            elif base.startswith(".wh."):
                removed = posixpath.join(parent, base.removeprefix(".wh."))
                files.pop(removed, None)
                _remove_below(files, removed, above)
        for name, entry in layer:
            if posixpath.basename(name).startswith(".wh."):
                continue
            made = files[entry] if isinstance(entry, str) else entry
            assert made is not None
            if made.kind != "dir":
                _remove_below(files, name, above)
            files[name] = made
            above.update(_parents(name))
    return files


def _parents(name: str) -> Iterator[str]:
    while (parent := posixpath.dirname(name)) != name:
        yield (name := parent)


def _remove_below(files: dict[str, Entry], directory: str, above: set[str]) -> None:
    if directory not in above:
        return
    for name in [name for name in files if name.startswith(directory.rstrip("/") + "/")]:
        del files[name]


def _file_lines(files: dict[str, Entry]) -> list[str]:
    groups: dict[int, list[str]] = {}
    for name, entry in sorted(files.items()):
        groups.setdefault(id(entry), []).append(name)
    return [
        f"{name}: {entry.text()}" + (f" = {' '.join(group)}" if len(group := groups[id(entry)]) > 1 else "")
        for name, entry in sorted(files.items())
        if name != "/"
    ]


def _config_lines(config: dict[str, Any]) -> list[str]:
    """Members that say nothing (null, false, empty) are the same as none, but for an empty Entrypoint or Cmd."""
    chosen = {key: config[key] for key in _CONFIG if config.get(key)}
    chosen["config"] = {key: value for key, value in chosen.get("config", {}).items() if value}
    return [
        *(f"{key}: {value}" for key, value in sorted(chosen.items()) if key != "config"),
        *(f"config.{key}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(chosen["config"].items())),
    ]


def _history_lines(config: dict[str, Any]) -> list[str]:
    return [
        "history: " + json.dumps({key: value for key, value in sorted(entry.items()) if key != "created" and value})
        for entry in config.get("history") or []
        if not entry.get("comment", "").startswith("Imported from")
    ]
