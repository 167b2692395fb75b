"""What is in layers, what each changes, and what two images differ in; kept below ``ROOT/serve/listings``.

A layer never changes, nor does its listing. To make one the whole layer is decompressed, which takes seconds for a
large one: no request waits for that (``background``). Whoever asks has to have the layers in a repository: what another
one's layers hold is not said, though the results are shared.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import zstandard

from core.digests import Digest
from images.comparing import ChangedName, ComparedFiles, compare_files, compare_versions, merged
from images.contents import LayerDiff, LayerEntry, Taken, layer_diffs, read_entries
from images.oci import Descriptor
from registry.server.background import Background, Say, UnwantedError, Work
from registry.server.content import Blob
from registry.server.errors import SpecError

if TYPE_CHECKING:
    from registry.server.registry import Registry

LISTED_PATHS: Final = 2000
"""Of the paths in which two images differ; the others are counted."""

_MAX_LAYER_BYTES: Final = 64 << 30
_MAX_BYTES: Final = 1 << 30
_KEPT_ENTRIES: Final = 400_000
_LISTING: Final = ".listing-3"  # with hashes of contents
_DATABASES: Final = ".databases-1"
_T = TypeVar("_T")


class ListedLayer(NamedTuple):
    """A layer, and what it does to the layers below."""

    entries: list[LayerEntry]
    diff: LayerDiff


class Answer(NamedTuple, Generic[_T]):
    """What is known of a listing.

    found: None as long as it is made, or if it cannot be.
    fault: why not.
    progress: how far it is.
    """

    found: _T | None
    fault: str = ""
    progress: str = ""


class PackageLists(Protocol):
    """Knows files of images in which systems list their packages."""

    def is_database(self, path: str) -> bool:
        """Whether the file lists packages."""

    def names_and_versions(self, files: Mapping[str, bytes]) -> list[tuple[str, str]]:
        """The packages that these files list, which strangers wrote."""


class Compared(msgspec.Struct, frozen=True):
    """What two images differ in.

    packages: that changed, by the databases in the images; None: one of them has none that is known.
    """

    files: ComparedFiles
    packages: list[ChangedName] | None


_entries: Final = msgspec.msgpack.Decoder(list[LayerEntry])
_databases: Final = msgspec.msgpack.Decoder(dict[str, bytes])
_counts: Final = msgspec.msgpack.Decoder(list[LayerDiff])
_compared: Final = msgspec.msgpack.Decoder(Compared)


class Listings:
    """The listings of a registry's layers. Thread-safe. lists: None: nobody knows of packages."""

    def __init__(self, registry: Registry, lists: PackageLists | None = None) -> None:
        self._registry = registry
        self._lists = lists
        self._background = Background(registry.store.root / "serve" / "listings")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Digest, list[LayerEntry]] = OrderedDict()
        self._size = 0

    def get(self, repository: str, layer: Descriptor) -> list[LayerEntry]:
        """The entries of a layer of this repository; made now where there is no listing.

        Raises SpecError 404, ImagesError.
        """
        blob = self._registry.content.find(repository, layer.digest)
        with self._lock:
            known = self._kept.get(layer.digest)
            if known is not None:
                self._kept.move_to_end(layer.digest)
                return known
        key = f"{layer.digest.hex}{_LISTING}"
        entries = _unpacked(self._background.stored(key), _entries)
        if entries is None:
            entries, _ = self._read(blob)
        self._keep(layer.digest, entries)
        return entries

    def _read(self, blob: Blob) -> tuple[list[LayerEntry], dict[str, bytes]]:
        """Make the listing of a layer: its entries, and the databases of packages in it."""
        taken = Taken(self._lists.is_database) if self._lists is not None else None
        with self._registry.content.open(blob) as file:
            entries = read_entries(file, limit_bytes=_MAX_LAYER_BYTES, taken=taken)
        found = taken.found if taken is not None else {}
        self._background.store(f"{blob.digest.hex}{_DATABASES}", _packed(found))
        self._background.store(f"{blob.digest.hex}{_LISTING}", _packed(entries))
        self._background.forget(blob.digest.hex)  # of before there were hashes
        return entries, found

    def changes(self, repository: str, layers: Sequence[Descriptor]) -> Answer[list[LayerDiff]]:
        """What each layer of an image changes, base first. Raises SpecError 404 for a layer that is not there."""
        self._check(repository, layers)

        def work(say: Say) -> bytes:
            def listed() -> Iterator[list[LayerEntry]]:
                for at, layer in enumerate(layers, 1):
                    say(f"layer {at} of {len(layers)}")
                    yield self.get(repository, layer)

            return _packed(list(layer_diffs(listed())))

        return self._answer(f"{_chain(layers)}.changes", work, _counts)

    def layer(self, repository: str, layers: Sequence[Descriptor], number: int) -> Answer[ListedLayer]:
        """The entries of a layer, by its place among all of an image's. Raises SpecError 404, ImagesError."""
        asked = self.changes(repository, layers)
        if asked.found is None:
            return Answer(None, asked.fault, asked.progress)
        return Answer(ListedLayer(self.get(repository, layers[number]), asked.found[number]))

    def compared(
        self, old: tuple[str, Sequence[Descriptor]], new: tuple[str, Sequence[Descriptor]]
    ) -> Answer[Compared]:
        """What two images differ in: each a repository with its layers, base first.

        Raises SpecError 404 for a layer that is not there.
        """
        for repository, layers in (old, new):
            self._check(repository, layers)

        def work(say: Say) -> bytes:
            sides = []
            for name, (repository, layers) in (("the old image", old), ("the new image", new)):
                say(name)
                sides.append(merged((layer.digest, self.get(repository, layer)) for layer in layers))
            packages = [self._packages(side, where) for side, (where, _) in zip(sides, (old, new), strict=True)]
            changed = None
            if packages[0] is not None and packages[1] is not None:
                changed = compare_versions(packages[0], packages[1])
            return _packed(Compared(compare_files(*sides, limit=LISTED_PATHS), changed))

        return self._answer(f"{_chain(old[1])}-{_chain(new[1])}.compared", work, _compared)

    def _answer(self, key: str, work: Work, decoder: msgspec.msgpack.Decoder[_T]) -> Answer[_T]:
        def still_there(say: Say) -> bytes:
            try:
                return work(say)
            except SpecError as error:
                if error.status != 404:
                    raise
                raise UnwantedError from error  # gone from where it was asked for, perhaps not from where others ask

        result = self._background.ask(key, still_there)
        found = _unpacked(result.data, decoder)
        if found is None and result.data is not None:
            self._background.forget(key)
        return Answer(found, result.fault, result.progress)

    def _packages(self, side: Mapping[str, tuple[str, LayerEntry]], repository: str) -> list[tuple[str, str]] | None:
        """The packages of an image of this repository, by its databases. side: as of ``merged``. None: it has none."""
        files: dict[str, bytes] = {}
        if self._lists is None:
            return None
        for path, (digest, _) in side.items():
            if self._lists.is_database(path):
                found = _unpacked(self._background.stored(f"{Digest(digest).hex}{_DATABASES}"), _databases)
                if found is None:  # it had to make room
                    _, found = self._read(self._registry.content.find(repository, Digest(digest)))
                files[path] = found.get(path, b"")
        return self._lists.names_and_versions(files) if files else None

    def _check(self, repository: str, layers: Sequence[Descriptor]) -> None:
        for layer in layers:
            self._registry.content.find(repository, layer.digest)

    def _keep(self, digest: Digest, entries: list[LayerEntry]) -> None:
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = entries
                self._size += len(entries)
            while self._size > _KEPT_ENTRIES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])


def _chain(layers: Sequence[Descriptor]) -> str:
    return hashlib.sha256(" ".join(layer.digest for layer in layers).encode()).hexdigest()[:40]


def _packed(found: object) -> bytes:
    return zstandard.compress(msgspec.msgpack.encode(found))


def _unpacked(data: bytes | None, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """None also for what is damaged: it is made again."""
    if data is None:
        return None
    try:
        return decoder.decode(zstandard.decompress(data, max_output_size=_MAX_BYTES))
    except (zstandard.ZstdError, msgspec.MsgspecError):
        return None
