"""Uploads: a blob on its way to a repository in one stream, or in chunks where a proxy lets nothing larger through.

The stream is one PATCH, and an empty PUT that names the digest; small blobs are one PUT. After a broken connection the
registry is asked how far the upload came, and the rest follows as another PATCH. After a 413 the blob goes in chunks,
which get smaller with each further 413. Source: distribution-spec "Pushing blobs".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final
from urllib.parse import quote, urlsplit

from images.oci import Descriptor
from registry.client.http import BodySource, Response, joined, origin, redacted
from registry.client.repository import Repository
from registry.client.retrying import check_cancelled
from registry.errors import (
    ErrorCode,
    InvalidResponseError,
    NotFoundError,
    RegistryError,
    ResponseError,
    TransferBrokenError,
    UnreachableError,
)

_PIECE_BYTES: Final = 256 << 10
_ONE_PUT_BYTES: Final = 1 << 20
_RECEIVED: Final = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS: Final = "application/octet-stream"
_CHUNKS_BYTES: Final = (64 << 20, 8 << 20, 900_000, 200_000)  # nginx lets a million bytes through unless told otherwise


class Upload:
    """One blob on its way.

    open_blob: gives it as a seekable file, each time anew.
    moved: hears how far it came.
    begun: the response that began the upload, if one did.
    location: where an upload goes on that began otherwise.
    at: what the registry has of it; None: it has to be asked.
    """

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        open_blob: Callable[[], BinaryIO],
        moved: Callable[[int], None],
        begun: Response | None = None,
        *,
        location: str = "",
        at: int | None = 0,
    ) -> None:
        self._repository = repository
        self._client = repository.client
        self._descriptor = descriptor
        self._open_blob = open_blob
        self._moved = moved
        self._location = location
        self._at = at or 0  # what the registry is known to have
        self._is_lost = at is None
        self._chunks = [size for size in _CHUNKS_BYTES if size < descriptor.size]  # to fall back to, in this order
        self._chunk_bytes = descriptor.size
        self._least_bytes = 0
        if begun is not None:
            self._take_location(begun)

    def run(self) -> None:
        """Send it. Raises RegistryErrors; TransferBrokenError when it broke off again and again."""
        if self._is_lost and self._find_place():
            return
        tries = self._client.tries()
        furthest = 0
        while True:
            if not self._location:
                self._take_location(start(self._repository))
            try:
                self._send()
                return
            except (UnreachableError, ResponseError) as error:
                if self._at > furthest:
                    furthest = self._at
                    tries.progress()
                if not (isinstance(error, ResponseError) and error.status == 413 and self._try_smaller_chunks()):
                    self._give_up_or_wait(tries.after, error)
                if self._find_place():
                    return

    def _give_up_or_wait(self, after: Callable[[RegistryError], None], error: UnreachableError | ResponseError) -> None:
        lost = isinstance(error, NotFoundError) and error.has_code(ErrorCode.BLOB_UPLOAD_UNKNOWN)
        out_of_step = isinstance(error, ResponseError) and error.status == 416
        passing = UnreachableError(error.message, connected=True) if lost or out_of_step else error
        try:
            after(passing)
        except UnreachableError as last:
            if isinstance(error, ResponseError):
                raise error from None
            if not last.connected:
                raise
            raise TransferBrokenError(
                f"upload of {self._descriptor.digest} to {self._repository} broke off at byte {self._at} of"
                f" {self._descriptor.size} again and again: {error.message}",
                hint="run the same command again: what has arrived complete is kept",
            ) from error

    def _send(self) -> None:
        size = self._descriptor.size
        if self._at == 0 and size <= min(_ONE_PUT_BYTES, self._chunk_bytes):
            self._call("PUT", self._final_location(), {201}, self._from(0, size), _length(size))
            return
        while self._at < size:
            end = min(size, self._at + max(self._chunk_bytes, self._least_bytes))
            headers = {**_length(end - self._at), "Content-Range": f"{self._at}-{end - 1}"}
            self._take_location(
                self._call("PATCH", self._location, {202, 201, 204}, self._from(self._at, end), headers)
            )
            self._at = end
        self._call("PUT", self._final_location(), {201, 204}, b"", {"Content-Length": "0"})

    def _find_place(self) -> bool:
        """Ask how far the upload came. Returns whether it is complete after all; forgets it when it is lost."""
        if self._location:
            with contextlib.suppress(UnreachableError, ResponseError):
                response = self._call("GET", self._location, {204, 200}, None, {}, retry=True)
                received = received_bytes(response)
                if received is not None and 1 < received <= self._descriptor.size:
                    self._at = received
                    if response.headers.get("Location"):
                        self._take_location(response)
                    return False
        self._location, self._at = "", 0
        return self._repository.has_blob(self._descriptor.digest)

    def _try_smaller_chunks(self) -> bool:
        if not self._chunks:
            return False
        self._chunk_bytes = self._chunks.pop(0)
        return True

    def _from(self, offset: int, end: int) -> BodySource:
        def pieces() -> Iterator[bytes]:
            with self._open_blob() as file:
                file.seek(offset)
                sent = offset
                while data := file.read(min(_PIECE_BYTES, end - sent)):
                    check_cancelled(self._client.cancelled)
                    yield data
                    sent += len(data)
                    self._moved(sent)

        return pieces

    def _call(
        self,
        method: str,
        url: str,
        expect: set[int],
        body: bytes | BodySource | None,
        headers: dict[str, str],
        *,
        retry: bool = False,
    ) -> Response:
        typed = {"Content-Type": _OCTETS} if body is not None else {}
        response = self._client.call(
            self._repository.endpoint,
            method,
            url,
            expect=expect,
            scopes=self._repository.scopes("pull,push"),
            headers={**typed, **headers},
            body=body,
            retry=retry,
        )
        response.close()
        return response

    def _final_location(self) -> str:
        separator = "&" if urlsplit(self._location).query else "?"
        return f"{self._location}{separator}digest={quote(self._descriptor.digest, safe=':')}"

    def _take_location(self, response: Response) -> None:
        base = self._client.base(self._repository.endpoint)
        self._location = upload_location(response, self._location or f"{base}/{self._repository.upload_url()}", base)
        least = response.headers.get("OCI-Chunk-Min-Length") or ""
        if least.isascii() and least.isdigit():
            self._least_bytes = int(least)


def received_bytes(response: Response) -> int | None:
    """What the registry says it has of an upload; None where it does not say. 1: it may have nothing at all."""
    stated = _RECEIVED.fullmatch(response.headers.get("Range") or "")
    return None if stated is None else int(stated[1]) + 1


def start(repository: Repository) -> Response:
    """Begin an upload; the response has its Location."""
    response = repository.client.call(
        repository.endpoint,
        "POST",
        repository.upload_url(),
        expect={202},
        scopes=repository.scopes("pull,push"),
        headers={"Content-Length": "0"},
        body=b"",
    )
    response.close()
    return response


def mount(repository: Repository, descriptor: Descriptor, source: str) -> tuple[bool, Response | None]:
    """Mount the blob from another repository of the same registry; from any, or its store, when ``source`` is "".

    Returns whether that worked; if not, also the response that began an upload instead, if one did.
    """
    try:
        response = repository.client.call(
            repository.endpoint,
            "POST",
            repository.upload_url(mount=descriptor.digest, **({"from": source} if source else {})),
            expect={201, 202},
            scopes=repository.scopes("pull,push", *filter(None, (source,))),
            headers={"Content-Length": "0"},
            body=b"",
        )
    except ResponseError:
        return False, None  # some refuse what they cannot mount; the push itself will tell what is really wrong
    response.close()
    return response.status == 201, response if response.status == 202 else None


def upload_location(response: Response, asked: str, base: str) -> str:
    """Where the upload goes on: absolute, and never away from TLS.

    asked: the URL of the request, which a relative Location is relative to. Raises InvalidResponseError.
    """
    stated = response.headers.get("Location")
    if not stated:
        raise InvalidResponseError(
            f"{redacted(asked)}: the registry accepts an upload and does not say where (Location)"
        )
    location = joined(asked, stated)
    parts, ours = urlsplit(location), urlsplit(base)
    if ours.scheme == "https" and parts.scheme == "http":
        # A registry behind a proxy that ends TLS often does not know it, and names its address without.
        location = parts._replace(scheme="https").geturl()
        if origin(location)[1] != origin(base)[1]:
            raise InvalidResponseError(f"{redacted(asked)}: the upload is to go to {redacted(location)}, away from TLS")
    elif parts.scheme not in ("http", "https"):
        raise InvalidResponseError(f"{redacted(asked)}: the upload is to go to {location[:100]!r}, no web address")
    return location


def mount_or_send(
    repository: Repository, descriptor: Descriptor, open_blob: Callable[[], BinaryIO]
) -> tuple[bool, Response | None]:
    """Send a small blob to a registry of ours, which takes it with the POST, or has it already.

    Returns whether it is there now; if not, also the response that began an upload instead.
    """
    with open_blob() as file:
        data = file.read()
    response = repository.client.call(
        repository.endpoint,
        "POST",
        repository.upload_url(mount=descriptor.digest, digest=descriptor.digest),
        expect={201, 202},
        scopes=repository.scopes("pull,push"),
        headers={**_length(len(data)), "Content-Type": _OCTETS},
        body=data,
    )
    response.close()
    return response.status == 201, response if response.status == 202 else None


def abandon(repository: Repository, response: Response) -> None:
    """End an upload that nobody will use."""
    base = repository.client.base(repository.endpoint)
    with contextlib.suppress(RegistryError):
        location = upload_location(response, f"{base}/{repository.upload_url()}", base)
        repository.client.call(
            repository.endpoint,
            "DELETE",
            location,
            expect={204, 202, 200},
            scopes=repository.scopes("pull,push"),
            retry=False,
        ).close()


def _length(size: int) -> dict[str, str]:
    return {"Content-Length": str(size)}
