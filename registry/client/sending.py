"""Sending blobs to a repository: one that is there is not sent, one that is near is mounted, others are uploaded.

A blob costs as few requests as can be. A new repository is not asked about each blob. A registry of ours takes a small
blob with the request that begins its upload. Source: distribution-spec "Pushing blobs".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, Literal, TypeAlias

from core.digests import Digest
from images.errors import DamagedBlobError, DigestMismatchError
from images.oci import Descriptor
from images.store import Store
from registry.client.http import Response
from registry.client.repository import Repository
from registry.client.uploading import Upload, abandon, mount, mount_or_send
from registry.errors import ErrorCode, ResponseError

BlobOutcome: TypeAlias = Literal["exists", "mounted", "pushed"]
Done: TypeAlias = "tuple[BlobOutcome, str] | None"

_WORTH_ASKING: Final = 4  # blobs: for fewer, asking whether the repository is new saves nothing
_SMALL_BYTES: Final = 1 << 20
_OF_CONTENT: Final = (ErrorCode.DIGEST_INVALID, ErrorCode.BLOB_UPLOAD_INVALID, ErrorCode.SIZE_INVALID)


@contextlib.contextmanager
def refusals_of_damage(store: Store, digest: Digest) -> Iterator[None]:
    """While the block sends a blob: if the receiver finds the content wrong, the blob is damaged here; say so.

    Registries hash what they get, so nothing is hashed here unless one refuses. Then raises DamagedBlobError.
    """
    try:
        yield
    except (ResponseError, DigestMismatchError) as error:
        if isinstance(error, DigestMismatchError) or error.status == 400 or error.has_code(*_OF_CONTENT):
            try:
                store.blobs.check(digest)
            except DamagedBlobError as damaged:
                raise damaged from error
        raise


class Sender:
    """Sends blobs to one repository. Thread-safe.

    expected: about how many blobs there will be.
    """

    def __init__(self, repository: Repository, expected: int = 1) -> None:
        self._repository = repository
        self._lock = threading.Lock()
        self._ask: bool | None = True if expected < _WORTH_ASKING else None  # whether a blob may be there already

    def send(
        self,
        descriptor: Descriptor,
        open_blob: Callable[[], BinaryIO] | None,
        *,
        sources: Sequence[str] = (),
        moved: Callable[[int], None],
    ) -> Done:
        """Make the repository have the blob. Returns how, and from which repository it was mounted.

        open_blob: None when there is nothing to send; the result is None when that would have been needed.
        sources: repositories of the registry that are known to have it.
        moved: hears how far an upload came.
        """
        if self._repository.client.is_ours(self._repository.endpoint):
            return self._to_ours(descriptor, open_blob, moved)
        if self._has(descriptor):
            return "exists", ""
        begun: Response | None = None
        for source in sources:
            if begun is not None:
                abandon(self._repository, begun)
            mounted, begun = mount(self._repository, descriptor, source)
            if mounted:
                return "mounted", source
        return self._upload(descriptor, open_blob, moved, begun)

    def _has(self, descriptor: Descriptor) -> bool:
        if self._ask is None:
            with self._lock:
                if self._ask is None:
                    there = self._repository.has_blob(descriptor.digest)
                    # An interrupted push has left its first blob at least, but no tag yet.
                    self._ask = there or not self._repository.is_new()
                    return there
        return self._ask and self._repository.has_blob(descriptor.digest)

    def _to_ours(
        self, descriptor: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]
    ) -> Done:
        if open_blob is not None and descriptor.size <= _SMALL_BYTES:
            there, begun = mount_or_send(self._repository, descriptor, open_blob)
            if there:
                return "pushed", ""
            return self._upload(descriptor, open_blob, moved, begun)
        there, begun = mount(self._repository, descriptor, "")
        return ("exists", "") if there else self._upload(descriptor, open_blob, moved, begun)

    def _upload(
        self,
        descriptor: Descriptor,
        open_blob: Callable[[], BinaryIO] | None,
        moved: Callable[[int], None],
        begun: Response | None,
    ) -> Done:
        if open_blob is None:
            if begun is not None:
                abandon(self._repository, begun)
            return None
        Upload(self._repository, descriptor, open_blob, moved, begun).run()
        return "pushed", ""
