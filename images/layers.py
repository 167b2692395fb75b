"""Layers: uncompressed tars, kept as blobs named by their diff ID, and the compressed forms they came in or got."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, NamedTuple, Protocol, TypeAlias

from core.cancellation import check
from core.digests import DiffID, Digest
from images.blobs import BlobStore, BlobWriter
from images.database import Database
from images.errors import DigestMismatchError, MissingBlobError
from images.holdings import Holdings
from images.locks import named
from images.sessions import Session

if TYPE_CHECKING:  # msgspec costs 25 ms, and most users of layers need no descriptor
    from images.growing import Growing
    from images.oci import Descriptor
    from images.tarwriter import SupportsWrite

Compression: TypeAlias = Literal["gzip", "zstd"]

_CHUNK_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 8 << 20
_DEFAULT_LEVELS: Final[dict[Compression, int]] = {"gzip": 1, "zstd": 3}


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Origin(NamedTuple):
    """Where a layer can be had: the blob that it is in, compressed or not, and the blob's ``DOMAIN/PATH``."""

    diff_id: DiffID
    blob: Descriptor
    repository: str


class LayerSource(Protocol):
    """Brings layers from elsewhere, for a store that knows where they are.

    Made by: whoever opens the store and knows registries; the store keeps it as ``LayerStore.source``.
    Threads: any may ask, several at once.
    Ended by: nobody. It holds nothing open between two calls.
    """

    def fetch(self, wanted: Sequence[Sequence[Origin]]) -> None:
        """Import layers that are not here. wanted: for each the places that are known to have it, the latest first.

        Raises ShiplapError when one cannot be had, naming it and the place.
        """


class LayerWriter(BlobWriter):
    """A sink for one layer's uncompressed tar."""

    def __init__(self, blobs: BlobStore, path: str, holdings: Holdings, *, sync: bool, cached: bool) -> None:
        super().__init__(blobs, path, sync=sync, cached=cached)
        self._holdings = holdings

    def commit(self, expected: Digest | None = None) -> DiffID:
        """As BlobWriter.commit, and the blob is registered as a layer, which is here for this session."""
        diff_id = DiffID(self._finish(_register, expected))
        self._holdings.admit((diff_id,))
        return diff_id


class LayerStore:
    """Layers by diff ID. What is written or looked up is leased to the session.

    A layer may be *away*: images have it, the store does not, but knows a registry that does. Whoever asks for its
    content makes ``source`` bring it first. A layer that the session's domain does not hold counts as not here.
    """

    source: LayerSource | None = None

    def __init__(self, root: Path, database: Database, session: Session, blobs: BlobStore, holdings: Holdings) -> None:
        self._locks = root / "tmp" / ".layers"
        self._holdings = holdings
        self._database = database
        self._session = session
        self._blobs = blobs

    def writer(self, *, sync: bool = True, cached: bool = True) -> LayerWriter:
        """Begin a layer. sync=False: durable once an image that has it is put; until then a reboot loses it.

        cached: as for ``BlobStore.writer``.
        """
        return LayerWriter(self._blobs, self._session.new_path(), self._holdings, sync=sync, cached=cached)

    def has(self, diff_id: DiffID) -> bool:
        """Whether the layer is here; if so it stays for this session."""
        return self.is_stored(diff_id) and self._holdings.has(diff_id)

    def is_stored(self, diff_id: DiffID) -> bool:
        """Whether the store has the layer, whoever holds it; if so it stays for this session."""
        self._session.lease((diff_id,))
        return self._database.one("SELECT 1 FROM sound_layers WHERE diff_id = ?", (diff_id,)) is not None

    def missing(self, diff_ids: Iterable[DiffID]) -> list[DiffID]:
        """Those that are not here; the others stay for this session."""
        wanted = list(diff_ids)
        self._session.lease(wanted)
        return [diff_id for diff_id in wanted if not self.has(diff_id)]

    def away(self, diff_ids: Iterable[DiffID]) -> list[DiffID]:
        """Those that are not here, and known to be elsewhere."""
        return [diff_id for diff_id in self.missing(diff_ids) if self.origin(diff_id) is not None]

    def note_origins(self, origins: Iterable[Origin]) -> None:
        """Let images have these layers before they are here."""
        noted = list(origins)
        self._session.lease(origin.diff_id for origin in noted)
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?, ?, ?)",
                [(o.diff_id, o.repository, o.blob.digest, o.blob.size, o.blob.media_type, time.time()) for o in noted],
            )

    def origin(self, diff_id: DiffID) -> Origin | None:
        """The place that was the last to be noted for the layer."""
        return next(iter(self._origins(diff_id)), None)

    def origins_of(self, diff_id: DiffID, blob: Digest) -> list[Origin]:
        """The places that are known to have this blob of the layer, the latest first, whoever found it there."""
        return [origin for origin in self._origins(diff_id) if origin.blob.digest == blob]

    def fetch(self, diff_ids: Iterable[DiffID], *, by: LayerSource | None = None) -> None:
        """Have these layers here, all at once where several are away. by: in place of ``source``.

        Raises MissingBlobError for one that is nowhere, or that nobody here can fetch, and what ``source`` raises.
        """
        missing = self.missing(dict.fromkeys(diff_ids))
        if not missing:
            return
        source = by or self.source
        wanted = [self._origins(diff_id) for diff_id in missing]
        for diff_id, origins in zip(missing, wanted, strict=True):
            if not origins:
                raise self._blobs.absent(diff_id, "layer")
            if source is None:
                place = f"blob {origins[0].blob.digest} of {origins[0].repository}"
                raise MissingBlobError(
                    f"layer {diff_id} is not in the store, but {place}", hint="shiplap pull the image that has it"
                )
        assert source is not None
        source.fetch(wanted)

    @contextlib.contextmanager
    def fetching(self, diff_id: DiffID) -> Iterator[bool]:
        """For sources: hold the layer's lock, so that it comes once, whoever wants it. Gives whether it is here."""
        with named(self._locks, f"{diff_id} fetch"):
            yield self.has(diff_id)

    def size(self, diff_id: DiffID) -> int:
        """Bytes of the tar. Raises MissingBlobError, and, as everything from here on, what ``fetch`` raises."""
        self._require(diff_id)
        return self._blobs.size(diff_id)

    def path(self, diff_id: DiffID) -> Path:
        """The tar. Raises MissingBlobError."""
        self._require(diff_id)
        return self._blobs.path(diff_id)

    def open(self, diff_id: DiffID) -> BinaryIO:
        """The tar, unbuffered and seekable. Raises MissingBlobError."""
        self._require(diff_id)
        return self._blobs.open(diff_id)

    @contextlib.contextmanager
    def open_checked(self, diff_ids: Sequence[DiffID]) -> Iterator[list[BinaryIO]]:
        """The tars, for callers that take parts of them: during the block a thread hashes the whole of each.

        Raises DamagedBlobError at the end of the block; what was made of them in there must not be kept then.
        """
        with contextlib.ExitStack() as stack:
            tars = [stack.enter_context(self.open(diff_id)) for diff_id in diff_ids]
            with self._blobs.checking(diff_ids):
                yield tars

    def created_at(self, diff_id: DiffID) -> float:
        """When the layer was written here, in seconds since the epoch. Raises MissingBlobError."""
        self._session.lease((diff_id,))
        row = self._database.one("SELECT created_at FROM layers WHERE diff_id = ?", (diff_id,))
        if row is None:
            raise self._blobs.absent(diff_id, "layer")
        return float(row[0])

    def compressed(
        self,
        diff_id: DiffID,
        compression: Compression,
        level: int | None = None,
        *,
        begun: Callable[[Growing], None] | None = None,
    ) -> Descriptor:
        """The layer's compressed blob: made once and remembered.

        level: None takes any that is there (also one that the layer came as), else makes one with the default level.
        begun: called when a large blob is made now, for who passes its bytes on at the same time. They count for
        nothing before this returns.
        The same bytes are made on every machine with the same library. Raises MissingBlobError.
        """
        self._require(diff_id)
        with named(self._locks, f"{diff_id} {compression}"):
            found = self._remembered(diff_id, compression, level)
            if found is not None:
                return found
            return self._compress(diff_id, compression, _DEFAULT_LEVELS[compression] if level is None else level, begun)

    def made_before(self, diff_id: DiffID, compression: Compression) -> Descriptor | None:
        """The layer's compressed blob as it was known last, whether it is still here or not; None if there never was.

        A registry that has it spares the work of making it again.
        """
        row = self._database.one(
            "SELECT digest, size FROM compressed WHERE diff_id = ? AND compression = ?"
            " ORDER BY level IS NOT NULL, level, digest LIMIT 1",
            (diff_id, compression),
        )
        return None if row is None else _descriptor(compression, Digest(row[0]), row[1])

    def original(self, diff_id: DiffID) -> Descriptor | None:
        """The compressed blob that the layer came as, from a registry or an archive; None if it was made here."""
        rows = self._database.all(
            "SELECT digest, size, compression FROM compressed WHERE diff_id = ? AND level IS NULL ORDER BY digest",
            (diff_id,),
        )
        for digest, size, compression in rows:
            if self._blobs.has(Digest(digest)):
                return _descriptor(compression, Digest(digest), size)
        return None

    def import_compressed(
        self,
        stream: _Readable,
        *,
        diff_id: DiffID | None = None,
        expected: Descriptor | None = None,
        sync: bool = True,
        keep: bool = True,
    ) -> DiffID:
        """Read a layer: a tar, plain or compressed by gzip, zstd, xz or bzip2, as its first bytes tell.

        diff_id: what its uncompressed tar must have. expected: the digest and size of the stream itself. A gzip or zstd
        stream is kept as it came, so that a push sends the same bytes again; keep=False: it is only checked, and known.
        Raises DigestMismatchError and InvalidLayerError; nothing is kept then.
        """
        from images.ahead import Tee
        from images.behind import Behind
        from images.compression import DecompressingReader
        from images.passing import Passing

        large = expected is not None and expected.size >= _SMALL_BYTES
        with self.writer(sync=sync) as layer, contextlib.ExitStack() as stack:
            source = Tee(stream)
            reader = DecompressingReader(source)
            compression = reader.compression
            original: BlobWriter | Passing = layer
            if compression != "none":  # a push may read it, some day
                kept = stack.enter_context(self._blobs.writer(sync=sync, cached=False)) if keep else None
                original = kept or Passing()
            with contextlib.ExitStack() as threads:
                tar: SupportsWrite = layer
                if large:
                    tar = threads.enter_context(Behind(layer))
                    source.receive_apart(None if original is layer else original, threads)
                else:
                    source.copy_to(None if original is layer else original)
                while data := reader.read1(_CHUNK_BYTES):
                    tar.write(data)
                source.drain()
            if expected is not None and original.size != expected.size:
                raise DigestMismatchError(
                    f"layer {expected.digest} has {original.size} bytes, expected {expected.size}"
                )
            original.check(expected.digest if expected else None)
            layer.check(diff_id)
            result = layer.commit()
            if compression == "gzip" or compression == "zstd":
                digest = original.commit() if isinstance(original, BlobWriter) else original.check(None)
                self._remember(result, _descriptor(compression, digest, original.size), compression, None)
            return result

    def _compress(
        self, diff_id: DiffID, compression: Compression, level: int, begun: Callable[[Growing], None] | None
    ) -> Descriptor:
        from images.behind import Behind
        from images.compression import CompressingWriter

        with (
            contextlib.ExitStack() as stack,
            self._blobs.writer(sync=False) as sink,  # it can be made again
            self._blobs.open_checked(diff_id) as tar,
        ):
            # Writing on a thread of its own costs more than it saves for what is compressed in a moment.
            is_large = self._blobs.size(diff_id) >= _SMALL_BYTES
            growing = self._followed(sink, begun, stack) if begun is not None and is_large else None
            threads = stack.enter_context(contextlib.ExitStack())
            behind = threads.enter_context(Behind(growing or sink)) if is_large else sink
            with CompressingWriter(behind, compression, level) as compressor:
                while data := tar.read(_CHUNK_BYTES):
                    check()
                    compressor.write(data)
            threads.close()  # (The tar's end is read only when its digest is right.)
            digest, size = sink.commit(), sink.size
            if growing is not None:
                growing.finished(size)
        descriptor = _descriptor(compression, digest, size)
        self._remember(diff_id, descriptor, compression, level)
        return descriptor

    def _followed(self, sink: BlobWriter, begun: Callable[[Growing], None], stack: contextlib.ExitStack) -> Growing:
        from images.growing import Growing

        growing = stack.enter_context(Growing(sink, sink.path))
        begun(growing)
        return growing

    def _remembered(self, diff_id: DiffID, compression: Compression, level: int | None) -> Descriptor | None:
        rows = self._database.all(
            "SELECT digest, size FROM compressed WHERE diff_id = ? AND compression = ? AND (level = ? OR ? IS NULL)"
            " ORDER BY level IS NOT NULL, level, digest",
            (diff_id, compression, level, level),
        )
        for digest, size in rows:
            if self._blobs.has(Digest(digest)):
                return _descriptor(compression, Digest(digest), size)
        return None

    def _remember(self, diff_id: DiffID, made: Descriptor, compression: Compression, level: int | None) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO compressed VALUES (?, ?, ?, ?, ?)",
                (diff_id, made.digest, made.size, compression, level),
            )

    def _require(self, diff_id: DiffID) -> None:
        if not self.has(diff_id):
            self.fetch((diff_id,))

    def _origins(self, diff_id: DiffID) -> list[Origin]:
        rows = self._database.all(
            "SELECT digest, size, media_type, repository FROM origins WHERE diff_id = ? ORDER BY noted_at DESC",
            (diff_id,),
        )
        if not rows:
            return []
        from images.oci import Descriptor

        return [
            Origin(diff_id, Descriptor(media_type=media_type, digest=Digest(digest), size=size), repository)
            for digest, size, media_type, repository in rows
        ]


def _register(connection: sqlite3.Connection, digest: Digest, size: int) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO layers (diff_id, size, created_at) VALUES (?, ?, ?)", (digest, size, time.time())
    )


def _descriptor(compression: Compression, digest: Digest, size: int) -> Descriptor:
    from images.oci import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor

    media_type = OCI_LAYER_GZIP if compression == "gzip" else OCI_LAYER_ZSTD
    return Descriptor(media_type=media_type, digest=digest, size=size)
