"""What is in a layer, for people: its entries, and what each changes in the layers below. Contents are not read.

Names are text here; bytes that are no UTF-8 are shown as ``\\xNN``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from images.compression import DecompressingReader
from images.errors import InvalidLayerError
from images.tarheaders import DIRECTORY, FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import TarEntry, TarReader
from images.tarwriter import SupportsRead
from images.whiteouts import OPAQUE_NAME, WHITEOUT_PREFIX, hidden_name

Kind: TypeAlias = Literal["file", "directory", "symlink", "hardlink", "device", "removed", "emptied"]
EntryChange: TypeAlias = Literal["added", "modified", "removed", "same"]

_KINDS: Final[dict[bytes, Kind]] = {FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink", HARDLINK: "hardlink"}
_MAX_ENTRIES: Final = 2_000_000


class LayerEntry(msgspec.Struct, frozen=True, array_like=True):
    """What one layer says of one path.

    path: relative to the root, without a slash at its end.
    removed: a whiteout.
    emptied: an opaque directory: nothing from below is seen in it.
    link: the target of a link.
    size: bytes of content.
    """

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    link: str = ""


def read_entries(stream: SupportsRead, *, limit_bytes: int | None = None) -> list[LayerEntry]:
    """The entries of a layer, compressed or not, in its order.

    limit_bytes: how much the tar may be when decompressed. Raises InvalidLayerError and CompressedDataError.
    """
    found: list[LayerEntry] = []
    for entry in TarReader(DecompressingReader(stream, limit_bytes=limit_bytes)):
        read = _entry(entry)
        if read is not None:
            found.append(read)
        if len(found) > _MAX_ENTRIES:
            raise InvalidLayerError(f"the layer has more than {_MAX_ENTRIES} entries")
    return found


def paths_below(layers: Iterable[Sequence[LayerEntry]]) -> set[str]:
    """All paths that there are when ``layers`` (base first) are applied, implied directories included."""
    found: set[str] = set()
    for entries in layers:
        gone = [entry.path for entry in entries if entry.kind in ("removed", "emptied")]
        if gone:
            found -= set(gone) - {entry.path for entry in entries if entry.kind == "emptied"}
            prefixes = tuple(f"{path}/" for path in gone)
            found = {path for path in found if not path.startswith(prefixes)}
        for entry in entries:
            if entry.kind != "removed":
                _add(found, entry.path)
    return found


class ListedName(msgspec.Struct, frozen=True):
    """A name in one directory of a layer.

    change: of the entry itself.
    added, modified, removed: how many paths below a directory, and itself.
    size: bytes of content that the layer has at or below it.
    """

    name: str
    path: str
    kind: Kind
    change: EntryChange
    entry: LayerEntry | None
    size: int
    added: int
    modified: int
    removed: int


def directory(entries: Sequence[LayerEntry], below: set[str], path: str = "") -> list[ListedName]:
    """What a layer has in the directory ``path``: directories first, then by name. below: see ``paths_below``."""
    prefix = f"{path}/" if path else ""
    counts: dict[str, dict[str, int]] = {}
    own: dict[str, LayerEntry] = {}
    for entry in entries:
        if not entry.path.startswith(prefix) or entry.path == path or not entry.path:
            continue
        name, slash, _ = entry.path[len(prefix) :].partition("/")
        count = counts.setdefault(name, {"added": 0, "modified": 0, "removed": 0, "same": 0, "size": 0})
        count[change_of(entry, below)] += 1
        count["size"] += entry.size
        if not slash:
            own[name] = entry
    nodes = [_node(name, prefix + name, own.get(name), count, below) for name, count in counts.items()]
    return sorted(nodes, key=lambda node: (node.kind not in ("directory", "emptied"), node.name))


def change_of(entry: LayerEntry, below: set[str]) -> EntryChange:
    """What an entry does to what is below it. A directory that was there before is "same": only its members count."""
    if entry.kind == "removed":
        return "removed"
    if entry.path not in below:
        return "added"
    return "same" if entry.kind == "directory" else "modified"


def _node(name: str, path: str, entry: LayerEntry | None, count: dict[str, int], below: set[str]) -> ListedName:
    kind: Kind = entry.kind if entry is not None else "directory"
    change: EntryChange = change_of(entry, below) if entry is not None else "same" if path in below else "added"
    return ListedName(
        name, path, kind, change, entry, count["size"],
        added=count["added"], modified=count["modified"], removed=count["removed"],
    )  # fmt: skip


def _add(found: set[str], path: str) -> None:
    while path and path not in found:
        found.add(path)
        path = path.rpartition("/")[0]


def _entry(entry: TarEntry) -> LayerEntry | None:
    name = normalise(entry.name)
    parent, _, base = name.rpartition(b"/")
    if base.startswith(WHITEOUT_PREFIX):
        hidden = hidden_name(base)
        if hidden:
            return LayerEntry(_text(parent + b"/" + hidden if parent else hidden), "removed")
        return LayerEntry(_text(parent), "emptied") if base == OPAQUE_NAME else None
    kind = _KINDS.get(entry.kind, "device")
    return LayerEntry(_text(name), kind, entry.size, entry.mode & 0o7777, entry.uid, entry.gid, _text(entry.link))


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
