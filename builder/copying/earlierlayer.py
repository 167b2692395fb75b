"""The layer that the same COPY of the same context made last time, and where each content is in it.

When one of 20,000 files has changed, the others need not be opened again: their bytes are in that layer's tar. Files
that follow each other as before are one piece there. Only its hash makes a file the same one. The hash comes from the
stat cache or from reading, as for the step's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from core.digests import DiffID
from core.errors import ShiplapError
from images.records import NAMING_LAYERS
from images.tarheaders import BLOCK
from images.tarwriter import Stretch

if TYPE_CHECKING:
    from builder.graph.copyspec import CopySpec
    from images.store import Store

_KIND: Final = NAMING_LAYERS[0]
_ID_BYTES: Final = 71  # "sha256:" and 64 digits
_PLACE: Final = struct.Struct("<32sQ")
_WORTH: Final = 0.5  # share of the layer's bytes that has to be taken


class EarlierLayer(NamedTuple):
    """The tar of a layer that is in the store.

    fd: its file.
    offsets: where contents begin in it, by their sha256.
    """

    fd: int
    offsets: Mapping[bytes, int]

    def content(self, sha: bytes, size: int) -> Stretch | None:
        """Where the content with this hash and size is, if it is there."""
        offset = self.offsets.get(sha)
        return None if offset is None else Stretch(self.fd, offset, size)


class CopiedLayer:
    """Remembers the layer of one instruction and one context. context: the key of the context."""

    def __init__(self, store: Store, context: str, spec: CopySpec) -> None:
        self._store = store
        named = f"{context}\0{spec!r}".encode(errors="surrogateescape")
        self._key = hashlib.sha256(named).hexdigest()

    @contextlib.contextmanager
    def opened(self, known: Iterable[tuple[bytes, int]]) -> Iterator[EarlierLayer | None]:
        """The layer, if it is still in the store and worth taking contents from. It stays there for the session.

        All of the layer is hashed on a thread while contents are taken from it. So when only little is wanted, it is
        better read from the files.

        known: the sha256 and the size of each content that is wanted.
        Raises DamagedBlobError at the end of the block.
        """
        with contextlib.ExitStack() as stack:
            yield self._open(known, stack)

    def _open(self, known: Iterable[tuple[bytes, int]], stack: contextlib.ExitStack) -> EarlierLayer | None:
        data = self._store.cache.memo_get(_KIND, self._key)
        if data is None or len(data) <= _ID_BYTES or (len(data) - _ID_BYTES) % _PLACE.size:
            return None
        diff_id = DiffID(data[:_ID_BYTES].decode("ascii"))
        if not self._store.layers.has(diff_id):
            return None
        offsets = dict(_PLACE.iter_unpack(memoryview(data)[_ID_BYTES:]))
        taken_bytes = sum(BLOCK + size + -size % BLOCK for sha, size in known if sha in offsets)
        try:
            if taken_bytes < _WORTH * self._store.layers.size(diff_id):
                return None
            (tar,) = stack.enter_context(self._store.layers.open_checked([diff_id]))
        except ShiplapError:  # its file is gone, and the build does without it
            return None
        return EarlierLayer(tar.fileno(), offsets)

    def keep(self, diff_id: DiffID, places: Iterable[tuple[bytes, int]]) -> None:
        """Remember the layer. places: sha256 of each content, and where it begins in the tar."""
        pack = _PLACE.pack
        data = b"".join([pack(sha, offset) for sha, offset in places])
        if data:
            self._store.cache.memo_put(_KIND, self._key, diff_id.encode("ascii") + data)
