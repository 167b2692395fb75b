"""A blob that is sent while it is being made: one PATCH in chunks, as docker sends every layer.

Nobody knows the digest before the blob is whole. Then the upload is ended with it, as any other (``uploading``), which
also goes on with what broke off: the registry is asked how far the stream came, and the rest comes from the store.
Where the registry or a proxy takes no such stream, all of it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from images.growing import Growing, UnfinishedError
from images.oci import Descriptor
from registry.client.http import Response
from registry.client.repository import Repository
from registry.client.retrying import check_cancelled
from registry.client.uploading import Upload, abandon, received_bytes, start, upload_location
from registry.errors import RegistryError, TransferCancelledError

if TYPE_CHECKING:
    from contextvars import Context

_HEADERS: Final = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}


class StreamedUpload:
    """One blob on its way, by a thread of its own, for as long as it is made.

    ``begin`` starts it, ``finish`` or ``abandon`` ends it; the blob is in the repository only after ``finish``.
    moved: hears how far it came, on that thread.
    """

    def __init__(self, repository: Repository, moved: Callable[[int], None]) -> None:
        self._repository = repository
        self._moved = moved
        self._thread: threading.Thread | None = None
        self._growing: Growing | None = None
        self._begun: Response | None = None
        self._location = ""  # where the upload goes on
        self._sent: int | None = None  # all of it, once the registry has said that it has it
        self._error: BaseException | None = None

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    def begin(self, growing: Growing) -> None:
        """Send what comes, from now on."""
        from contextvars import copy_context

        context: Context = copy_context()
        self._growing = growing
        thread = threading.Thread(target=context.run, args=(self._work,), name="push-stream")
        thread.start()
        self._thread = thread

    def finish(self, blob: Descriptor, open_blob: Callable[[], BinaryIO], moved: Callable[[int], None]) -> None:
        """End the upload with the digest, now that the blob is whole, and send what is missing. Raises RegistryErrors.

        open_blob, moved: as for ``Upload``.
        """
        self._wait()
        if self._error is not None and not isinstance(self._error, RegistryError):
            raise self._error
        if isinstance(self._error, TransferCancelledError):
            raise self._error
        at = blob.size if self._sent == blob.size else None
        Upload(self._repository, blob, open_blob, moved, location=self._location, at=at if self._location else 0).run()

    def abandon(self) -> None:
        """The blob was not made: nothing of it stays at the registry."""
        self._wait()
        if self._begun is not None:
            abandon(self._repository, self._begun)

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._growing is not None:
            self._growing.close()

    def _work(self) -> None:
        try:
            self._stream()
        except UnfinishedError:
            pass  # who makes it says why
        except BaseException as error:
            self._error = error

    def _stream(self) -> None:
        repository, client = self._repository, self._repository.client
        self._begun = start(repository)
        base = client.base(repository.endpoint)
        self._location = upload_location(self._begun, f"{base}/{repository.upload_url()}", base)
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            assert self._growing is not None
            sent = 0
            for piece in self._growing.pieces():
                check_cancelled(client.cancelled)
                yield piece
                sent += len(piece)
                self._moved(sent)

        response = client.call(
            repository.endpoint,
            "PATCH",
            self._location,
            expect={202, 201, 204},
            scopes=repository.scopes("pull,push"),
            headers=_HEADERS,
            body=pieces,
            retry=False,
        )
        response.close()
        self._location = upload_location(response, self._location, base)
        received = received_bytes(response)
        if received is None or received >= sent:  # else something between here and there has lost the stream
            self._sent = sent
