"""What is in a layer, for people: its entries, and what each changes in the layers below.

Names are text here; bytes that are no UTF-8 are shown as ``\\xNN``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from core.cancellation import check
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
_CHUNK_BYTES: Final = 256 << 10
_HASH_BYTES: Final = 12
_ASK_EVERY: Final = 1024
_MAX_CHARACTERS: Final = 256 << 20
_MAX_TAKEN_BYTES: Final = 64 << 20


class LayerEntry(msgspec.Struct, frozen=True, array_like=True):
    """What one layer says of one path.

    path: relative to the root, without a slash at its end.
    removed: a whiteout.
    emptied: an opaque directory: nothing from below is seen in it.
    link: the target of a link.
    size: bytes of content.
    content: a hash of a file's content and of extended attributes, or of a device's number; empty for none of these.
    """

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    link: str = ""
    content: bytes = b""


class Taken:
    """Some files of a layer, taken along while its entries are read. wants: which, by path.

    found: their content, by path. What goes beyond 64 MiB together is left out.
    """

    def __init__(self, wants: Callable[[str], bool]) -> None:
        self._wants = wants
        self._left = _MAX_TAKEN_BYTES
        self.found: dict[str, bytes] = {}

    def wants(self, path: str, size: int) -> bool:
        """Whether a file of so many bytes is to be taken; then there is less room for others."""
        if size > self._left or not self._wants(path):
            return False
        self._left -= size
        return True


def read_entries(
    stream: SupportsRead, *, limit_bytes: int | None = None, taken: Taken | None = None
) -> list[LayerEntry]:
    """The entries of a layer, compressed or not, in its order.

    limit_bytes: how much the tar may be when decompressed. Raises InvalidLayerError, also for names that are too long
    together, and CompressedDataError.
    """
    found: list[LayerEntry] = []
    characters = 0
    reader = TarReader(DecompressingReader(stream, limit_bytes=limit_bytes))
    for entry in reader:
        read = _entry(entry, reader, taken)
        if read is not None:
            found.append(read)
            characters += len(read.path) + len(read.link)
        if characters > _MAX_CHARACTERS:
            raise InvalidLayerError(f"the names in the layer have more than {_MAX_CHARACTERS} characters together")
        if len(found) > _MAX_ENTRIES:
            raise InvalidLayerError(f"the layer has more than {_MAX_ENTRIES} entries")
    return found


class Visible:
    """The paths that are there once some layers are applied, base first; implied directories included.

    Costs the sum of the layers' entries, whatever they remove. Strangers wrote these: the length of all paths
    together has a limit.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, LayerEntry] | None] = {}
        self._names: dict[str, set[str]] = {}
        self._characters = 0

    def __contains__(self, path: object) -> bool:
        return path in self._found

    def paths(self) -> Iterator[str]:
        """All paths, in no order."""
        return iter(self._found)

    def items(self) -> Iterator[tuple[str, int, LayerEntry]]:
        """Each path that a layer has an entry for, with the number that ``apply`` was given, and the entry."""
        for path, found in self._found.items():
            if found is not None:
                yield path, *found

    def apply(self, entries: Sequence[LayerEntry], number: int = 0) -> None:
        """Put the next layer on top. Asks whether the work has to end (``core.cancellation``).

        Raises InvalidLayerError when the paths are too long together.
        """
        for at, entry in enumerate(entries):
            if not at % _ASK_EVERY:
                check()
            if entry.kind == "removed":
                self._remove(entry.path)
            elif entry.kind == "emptied":
                self._empty(entry.path)
        for at, entry in enumerate(entries):
            if not at % _ASK_EVERY:
                check()
            if entry.kind not in ("removed", "emptied"):
                self._put(entry, number)
            elif entry.kind == "emptied":
                self._imply(entry.path)

    def _put(self, entry: LayerEntry, number: int) -> None:
        path = entry.path
        if not path:
            return
        is_directory = entry.kind == "directory"
        if path in self._names:
            if not is_directory:
                self._remove(path)
        elif is_directory:
            self._imply(path)
        parent, _, name = path.rpartition("/")
        if parent not in self._names:
            self._imply(parent)
        self._add(path, parent, name, (number, entry))

    def _imply(self, path: str) -> None:
        """Let there be a directory, and those that it is in. What was no directory becomes one."""
        missing = []
        while path and path not in self._names:
            missing.append(path)
            path = path.rpartition("/")[0]
        for each in reversed(missing):
            known = self._found.get(each)
            parent, _, name = each.rpartition("/")
            self._add(each, parent, name, known if known is not None and known[1].kind == "directory" else None)
            self._names[each] = set()

    def _add(self, path: str, parent: str, name: str, found: tuple[int, LayerEntry] | None) -> None:
        if path not in self._found:
            self._names.setdefault(parent, set()).add(name)  # only the root's may be missing
            self._characters += len(path)
            if self._characters > _MAX_CHARACTERS:
                raise InvalidLayerError(f"the paths of the layers have more than {_MAX_CHARACTERS} characters together")
        self._found[path] = found

    def _remove(self, path: str) -> None:
        self._empty(path)
        if path in self._found:
            del self._found[path]
            self._characters -= len(path)
            parent, _, name = path.rpartition("/")
            self._names[parent].discard(name)

    def _empty(self, path: str) -> None:
        going = [path]
        while going:
            above = going.pop()
            for name in self._names.pop(above, ()):
                below = f"{above}/{name}" if above else name
                del self._found[below]
                self._characters -= len(below)
                going.append(below)


def paths_below(layers: Iterable[Sequence[LayerEntry]]) -> frozenset[str]:
    """All paths that there are when ``layers`` (base first) are applied, implied directories included."""
    found = Visible()
    for entries in layers:
        found.apply(entries)
    return frozenset(found.paths())


CHANGES: Final[tuple[EntryChange, ...]] = ("same", "added", "modified", "removed")


class LayerDiff(msgspec.Struct, frozen=True):
    """What a layer does to the layers below.

    added, modified, removed: how many paths. Directories that were there before count only by their members.
    codes: the change of each entry of the layer, in their order, by its place in ``CHANGES``.
    implied: directories that it makes without an entry for them.
    """

    added: int
    modified: int
    removed: int
    codes: bytes
    implied: tuple[str, ...]


def layer_diff(entries: Sequence[LayerEntry], below: Container[str]) -> LayerDiff:
    """Compare a layer with what is below it: as of ``paths_below``."""
    codes = bytes(CHANGES.index(change_of(entry, below)) if entry.path else 0 for entry in entries)
    named = {entry.path for entry in entries}
    implied: dict[str, None] = {}
    for entry in entries:
        parent = entry.path.rpartition("/")[0] if entry.kind != "removed" else ""
        while parent and parent not in named and parent not in implied and parent not in below:
            implied[parent] = None
            parent = parent.rpartition("/")[0]
    return LayerDiff(codes.count(1), codes.count(2), codes.count(3), codes, tuple(implied))


def layer_diffs(layers: Iterable[Sequence[LayerEntry]]) -> Iterator[LayerDiff]:
    """The diff of each layer, base first, in one walk over all. Asks whether the work has to end."""
    below = Visible()
    for entries in layers:
        yield layer_diff(entries, below)
        below.apply(entries)


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


def directory(entries: Sequence[LayerEntry], diff: LayerDiff, path: str = "") -> list[ListedName]:
    """What a layer has in the directory ``path``: directories first, then by name. diff: the layer's."""
    prefix = f"{path}/" if path else ""
    counts: dict[str, dict[str, int]] = {}
    own: dict[str, tuple[LayerEntry, EntryChange]] = {}
    for entry, code in zip(entries, diff.codes, strict=True):
        if not entry.path.startswith(prefix) or entry.path == path or not entry.path:
            continue
        name, slash, _ = entry.path[len(prefix) :].partition("/")
        count = counts.setdefault(name, {"added": 0, "modified": 0, "removed": 0, "same": 0, "size": 0})
        count[CHANGES[code]] += 1
        count["size"] += entry.size
        if not slash:
            own[name] = entry, CHANGES[code]
    implied = set(diff.implied)
    nodes = [_node(name, prefix + name, own.get(name), count, implied) for name, count in counts.items()]
    return sorted(nodes, key=lambda node: (node.kind not in ("directory", "emptied"), node.name))


def change_of(entry: LayerEntry, below: Container[str]) -> EntryChange:
    """What an entry does to what is below it. A directory that was there before is "same": only its members count."""
    if entry.kind == "removed":
        return "removed"
    if entry.path not in below:
        return "added"
    return "same" if entry.kind == "directory" else "modified"


def _node(
    name: str, path: str, own: tuple[LayerEntry, EntryChange] | None, count: dict[str, int], implied: set[str]
) -> ListedName:
    entry = own[0] if own is not None else None
    change: EntryChange = own[1] if own is not None else "added" if path in implied else "same"
    kind: Kind = entry.kind if entry is not None else "directory"
    return ListedName(
        name, path, kind, change, entry, count["size"],
        added=count["added"], modified=count["modified"], removed=count["removed"],
    )  # fmt: skip


def _add(found: set[str], path: str) -> None:
    while path and path not in found:
        found.add(path)
        path = path.rpartition("/")[0]


def _entry(entry: TarEntry, reader: TarReader, taken: Taken | None) -> LayerEntry | None:
    name = normalise(entry.name)
    parent, _, base = name.rpartition(b"/")
    if base.startswith(WHITEOUT_PREFIX):
        hidden = hidden_name(base)
        if hidden:
            return LayerEntry(_text(parent + b"/" + hidden if parent else hidden), "removed")
        return LayerEntry(_text(parent), "emptied") if base == OPAQUE_NAME else None
    kind = _KINDS.get(entry.kind, "device")
    content = b""
    if entry.size or entry.xattrs or entry.rdev:
        is_taken = taken is not None and taken.wants(_text(name), entry.size)
        parts: list[bytes] | None = [] if is_taken else None
        content = _hashed(entry, reader, parts)
        if taken is not None and parts is not None:
            taken.found[_text(name)] = b"".join(parts)
    mode = entry.mode & 0o7777
    return LayerEntry(_text(name), kind, entry.size, mode, entry.uid, entry.gid, _text(entry.link), content)


def _hashed(entry: TarEntry, reader: TarReader, parts: list[bytes] | None) -> bytes:
    """Holes count as zeros. It is compared, and nothing is named by it: 96 bits are enough. parts: take the content."""
    found = hashlib.blake2b(digest_size=_HASH_BYTES)
    while data := reader.read(_CHUNK_BYTES):
        found.update(data)
        if parts is not None:
            parts.append(data)
    if entry.xattrs or entry.rdev:
        found.update(repr((sorted(entry.xattrs.items()), entry.rdev)).encode())
    return found.digest()


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
