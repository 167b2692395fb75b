"""What two images differ in: files, layers, settings, and names with versions such as packages. Pure; nothing is read.

Time and memory are those of the images' entries, some 400 bytes for each path. Long walks ask whether the work has to
end (``core.cancellation``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from core.cancellation import check
from images.contents import LayerEntry, Visible
from images.errors import ImagesError
from images.oci import ImageConfig

Change: TypeAlias = Literal["added", "modified", "removed"]

MAX_ENTRIES: Final = 1_000_000
"""Of all layers of an image together; one with more is not compared."""

_ASK_EVERY: Final = 1024


class TooManyEntriesError(ImagesError):
    """An image has more entries than are compared."""


class ChangedPath(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path that is not the same in both images.

    what: of a modified one, what differs: content, size, mode, owner, kind, link.
    old_size, new_size: bytes of a file's content; 0 where it is not, or is no file.
    """

    path: str
    change: Change
    kind: str
    what: tuple[str, ...] = ()
    old_size: int = 0
    new_size: int = 0


class ComparedFiles(msgspec.Struct, frozen=True):
    """The files of two images.

    added, modified, removed: how many paths. Directories that are there because something is in them do not count.
    size_change: bytes of content, of the new image less those of the old one; a hard-linked file counts once.
    paths: the first of them, by name. hidden: how many more there are.
    """

    added: int
    modified: int
    removed: int
    size_change: int
    paths: tuple[ChangedPath, ...]
    hidden: int


class ChangedName(msgspec.Struct, frozen=True):
    """A name with other versions than before; no old ones: it is new, no new ones: it is gone."""

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def change(self) -> Change:
        return "modified" if self.old and self.new else "added" if self.new else "removed"


class LayerPair(msgspec.Struct, frozen=True):
    """A layer of the old image beside one of the new image, by their places. None: the other one has none for it."""

    old: int | None
    new: int | None
    is_same: bool


class ChangedSetting(msgspec.Struct, frozen=True):
    """A member of the config. old, new: empty where it is not set."""

    name: str
    old: str
    new: str


def merged(layers: Iterable[tuple[str, Sequence[LayerEntry]]]) -> dict[str, tuple[str, LayerEntry]]:
    """What is seen of an image's layers, base first: by path the layer's name, and its entry.

    Raises TooManyEntriesError.
    """
    found, total = Visible(), 0
    names: list[str] = []
    for name, entries in layers:
        total += len(entries)
        if total > MAX_ENTRIES:
            raise TooManyEntriesError(
                f"the image has more than {MAX_ENTRIES:,} entries in its layers", hint="compare its layers one by one"
            )
        found.apply(entries, len(names))
        names.append(name)
    return {path: (names[number], entry) for path, number, entry in found.items()}


def compare_files(
    old: Mapping[str, tuple[str, LayerEntry]], new: Mapping[str, tuple[str, LayerEntry]], *, limit: int
) -> ComparedFiles:
    """Compare what ``merged`` gave for two images. limit: of the paths that are listed.

    A path that both have from the same layer is the same without a look at it. A hard link is what it leads to. Times
    are not compared: each build sets them anew.
    """
    changed: list[ChangedPath] = []
    for at, (path, (layer, entry)) in enumerate(new.items()):
        if not at % _ASK_EVERY:
            check()
        before = old.get(path)
        if before is None:
            changed.append(ChangedPath(path, "added", entry.kind, new_size=entry.size))
        elif before[0] != layer or entry.kind == "hardlink":  # what a link leads to may be of another layer
            found = _modified(path, _resolved(before[1], old), _resolved(entry, new))
            if found is not None:
                changed.append(found)
    for at, (path, (_, entry)) in enumerate(old.items()):
        if not at % _ASK_EVERY:
            check()
        if path not in new:
            changed.append(ChangedPath(path, "removed", entry.kind, old_size=entry.size))
    changed = sorted(_without_implied(changed), key=lambda each: each.path)
    counts = {name: sum(each.change == name for each in changed) for name in ("added", "modified", "removed")}
    size = _size(new) - _size(old)
    return ComparedFiles(**counts, size_change=size, paths=tuple(changed[:limit]), hidden=max(0, len(changed) - limit))


def compare_versions(old: Iterable[tuple[str, str]], new: Iterable[tuple[str, str]]) -> list[ChangedName]:
    """Compare two lists of (name, version), by name. A name can have several versions."""
    before, after = _by_name(old), _by_name(new)
    found = []
    for name in sorted(before.keys() | after.keys()):
        versions = (before.get(name, frozenset()), after.get(name, frozenset()))
        if versions[0] != versions[1]:
            found.append(ChangedName(name, *(tuple(sorted(each)) for each in versions)))
    return found


def pair_layers(old: Sequence[str], new: Sequence[str]) -> list[LayerPair]:
    """Put the layers of two images beside each other, base first, by their digests."""
    found: list[LayerPair] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        for at in range(max(old_to - old_from, new_to - new_from)):
            mine = old_from + at if old_from + at < old_to else None
            its = new_from + at if new_from + at < new_to else None
            found.append(LayerPair(mine, its, kind == "equal"))
    return found


def compare_settings(old: ImageConfig, new: ImageConfig) -> list[ChangedSetting]:
    """Compare how containers of two images start: by name, labels and environment one by one."""
    before, after = _settings(old), _settings(new)
    return [
        ChangedSetting(name, before.get(name, ""), after.get(name, ""))
        for name in dict.fromkeys((*before, *after))
        if before.get(name, "") != after.get(name, "")
    ]


def _modified(path: str, old: LayerEntry, new: LayerEntry) -> ChangedPath | None:
    what = []
    if old.kind != new.kind:
        what.append("kind")
    elif (old.size, old.content) != (new.size, new.content):
        what.append("content")
    if old.link != new.link:
        what.append("link")
    if old.mode != new.mode and "symlink" not in (old.kind, new.kind):
        what.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        what.append("owner")
    return ChangedPath(path, "modified", new.kind, tuple(what), old.size, new.size) if what else None


def _resolved(entry: LayerEntry, found: Mapping[str, tuple[str, LayerEntry]]) -> LayerEntry:
    """The file that a hard link leads to; the link itself where that is gone, or is another link."""
    target = found.get(entry.link) if entry.kind == "hardlink" else None
    return target[1] if target is not None and target[1].kind != "hardlink" else entry


def _without_implied(changed: Sequence[ChangedPath]) -> Iterable[ChangedPath]:
    """All but directories in which something else was added or removed with them: that says it."""
    parents: dict[Change, set[str]] = {"added": set(), "removed": set(), "modified": set()}
    for each in changed:
        known, parent = parents[each.change], each.path.rpartition("/")[0]
        while parent and parent not in known:
            known.add(parent)
            parent = parent.rpartition("/")[0]
    for each in changed:
        if each.kind != "directory" or each.change == "modified" or each.path not in parents[each.change]:
            yield each


def _size(found: Mapping[str, tuple[str, LayerEntry]]) -> int:
    return sum(entry.size for _, entry in found.values())


def _by_name(found: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    names: dict[str, set[str]] = {}
    for name, version in found:
        names.setdefault(name, set()).add(version)
    return {name: frozenset(versions) for name, versions in names.items()}


def _settings(config: ImageConfig) -> dict[str, str]:
    its = config.config
    found = {
        "platform": str(config.platform),
        "entrypoint": _listed(its.entrypoint),
        "command": _listed(its.cmd),
        "directory": its.working_dir,
        "user": its.user,
        "ports": ", ".join(sorted(its.exposed_ports)),
        "volumes": ", ".join(sorted(its.volumes)),
        "stop signal": its.stop_signal,
        "health check": _listed(its.healthcheck.test) if its.healthcheck is not None else "",
        "shell": _listed(its.shell),
    }
    for line in its.env:
        name, _, value = line.partition("=")
        found[f"environment {name}"] = value
    for name, value in its.labels.items():
        found[f"label {name}"] = value
    return found


def _listed(words: Sequence[str]) -> str:
    return msgspec.json.encode(words).decode() if words else ""
