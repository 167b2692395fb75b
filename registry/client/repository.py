"""One repository at one endpoint: its manifests and blobs, with every digest and size checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from core.digests import Digest
from core.errors import InvalidReferenceError
from images.oci import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from registry.client.auth import Scopes
from registry.client.client import Client
from registry.client.config import Endpoint
from registry.client.http import Response, read_limited, redacted
from registry.client.retrying import check_cancelled
from registry.errors import (
    ErrorCode,
    InvalidResponseError,
    NotFoundError,
    RegistryError,
    ResponseError,
    TransferBrokenError,
    UnreachableError,
    UnsupportedContentError,
)

if TYPE_CHECKING:
    import hashlib

ACCEPT: Final = ", ".join((OCI_INDEX, DOCKER_MANIFEST_LIST, OCI_MANIFEST, DOCKER_MANIFEST))
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-")
_SKIP_BYTES: Final = 256 << 10


class RawManifest(NamedTuple):
    """A manifest or index as the registry keeps it: the digest is that of ``data``."""

    media_type: str
    digest: Digest
    data: bytes


class Repository:
    """A repository: ``path`` at ``endpoint``. Methods also raise the errors of ``Client.call``."""

    def __init__(self, client: Client, endpoint: Endpoint, path: str) -> None:
        self.client = client
        self.endpoint = endpoint
        self.path = path

    def __str__(self) -> str:
        return f"{self.endpoint.host}{self.endpoint.prefix}/{self.path}"

    def url(self, rest: str) -> str:
        """Relative to the endpoint's base, as ``Client.call`` takes it."""
        return f"v2/{self.path}/{rest}"

    def scopes(self, actions: str, *sources: str) -> Scopes:
        """For ``actions`` (``pull`` or ``pull,push``) here, and for pulling from the ``sources`` of a mount."""
        return (f"repository:{self.path}:{actions}", *(f"repository:{source}:pull" for source in sources))

    def resolve(self, reference: str) -> Digest | None:
        """The digest of a tag, by HEAD; None where the registry does not say. Raises NotFoundError."""
        response = self.client.call(
            self.endpoint,
            "HEAD",
            self.url(f"manifests/{reference}"),
            expect={200},
            scopes=self.scopes("pull"),
            headers={"Accept": ACCEPT},
        )
        response.close()
        return _digest_header(response)

    def manifest(self, reference: str | Digest) -> RawManifest:
        """A manifest or index by tag or digest.

        Raises InvalidResponseError when it is too large or not what was asked for, and UnsupportedContentError for
        schema 1.
        """
        response, data = self.client.fetch(
            self.endpoint,
            self.url(f"manifests/{reference}"),
            limit_bytes=MAX_DOCUMENT_BYTES,
            scopes=self.scopes("pull"),
            headers={"Accept": ACCEPT},
        )
        where = f"the manifest {self}{'@' if isinstance(reference, Digest) else ':'}{reference}"
        media_type = (response.headers.get("Content-Type") or "").partition(";")[0].strip()
        stated = _digest_header(response)
        if data is None:
            raise InvalidResponseError(f"{where} has over {MAX_DOCUMENT_BYTES} bytes")
        if media_type.startswith(_SCHEMA_1):
            raise UnsupportedContentError(
                f"{where} has schema 1, which is obsolete", hint="push the image again with a current tool"
            )
        if isinstance(reference, Digest):
            stated = reference
        digest = digest_of(data, stated.algorithm if stated else "sha256")
        if stated is not None and digest != stated:
            raise InvalidResponseError(f"{where} of {len(data)} bytes has digest {digest}, expected {stated}")
        return RawManifest(media_type, digest, data)

    def put_manifest(self, reference: str, media_type: str, data: bytes) -> None:
        """Store a manifest under a tag or digest. Raises InvalidResponseError when another digest comes back."""
        response = self.client.call(
            self.endpoint,
            "PUT",
            self.url(f"manifests/{reference}"),
            expect={201, 200, 202},
            scopes=self.scopes("pull,push"),
            headers={"Content-Type": media_type, "Content-Length": str(len(data))},
            body=data,
        )
        response.close()
        stored = _digest_header(response)
        if stored is not None and stored != digest_of(data, stored.algorithm):
            raise InvalidResponseError(f"{self} stored the manifest as {stored}, expected {Digest.of(data)}")

    def has_blob(self, digest: Digest, *, actions: str = "pull,push") -> bool:
        """Whether the blob is in this repository, by HEAD."""
        try:
            response = self.client.call(
                self.endpoint, "HEAD", self.url(f"blobs/{digest}"), expect={200}, scopes=self.scopes(actions)
            )
        except NotFoundError:
            return False
        response.close()
        return True

    def check_blob(self, digest: Digest) -> None:
        """Raises NotFoundError, and other RegistryErrors, unless the registry shows us the blob, by HEAD."""
        self.client.call(
            self.endpoint, "HEAD", self.url(f"blobs/{digest}"), expect={200}, scopes=self.scopes("pull")
        ).close()

    def is_new(self) -> bool:
        """Whether nothing has been pushed to it. False where the registry does not say so clearly."""
        try:
            self.client.call(
                self.endpoint,
                "GET",
                self.url("tags/list?n=1"),
                expect={200},
                scopes=self.scopes("pull,push"),
                retry=False,
            ).close()
        except NotFoundError as error:
            return error.has_code(ErrorCode.NAME_UNKNOWN)
        except RegistryError:
            check_cancelled(self.client.cancelled)
        return False

    def tags(self, limit: int) -> list[str]:
        """Some of its tags, about ``limit`` at most; none where the registry does not tell."""
        try:
            url = self.url(f"tags/list?n={limit}")
            response = self.client.call(
                self.endpoint, "GET", url, expect={200}, scopes=self.scopes("pull"), retry=False
            )
            tags = json.loads(read_limited(response, MAX_DOCUMENT_BYTES) or b"{}").get("tags")
        except (RegistryError, ValueError, AttributeError):
            check_cancelled(self.client.cancelled)
            return []
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    def blob(self, digest: Digest, limit_bytes: int) -> bytes:
        """A small blob, whole and verified. Raises InvalidResponseError."""
        _, data = self.client.fetch(
            self.endpoint, self.url(f"blobs/{digest}"), limit_bytes=limit_bytes, scopes=self.scopes("pull")
        )
        if data is None:
            raise InvalidResponseError(f"blob {digest} of {self} has over {limit_bytes} bytes")
        if digest_of(data, digest.algorithm) != digest:
            raise InvalidResponseError(f"blob of {len(data)} bytes from {self} has not the digest {digest}")
        return data

    def open_blob(self, descriptor: Descriptor, moved: Callable[[int], None]) -> BlobReader:
        """A stream of a blob that goes on after broken connections. moved: hears how many bytes have come."""

        def open_at(offset: int) -> Response:
            return self._blob(descriptor.digest, offset)

        return BlobReader(self.client, open_at, descriptor, f"blob {descriptor.digest} of {self}", moved)

    def open_foreign(self, url: str, descriptor: Descriptor, moved: Callable[[int], None]) -> BlobReader:
        """The same from one of the descriptor's ``urls``, without credentials."""

        def open_at(offset: int) -> Response:
            return self.client.call(
                self.endpoint, "GET", url, expect={200, 206}, headers=_range(offset), retry=not offset, authorize=False
            )

        return BlobReader(self.client, open_at, descriptor, redacted(url), moved)

    def _blob(self, digest: Digest, offset: int) -> Response:
        return self.client.call(
            self.endpoint,
            "GET",
            self.url(f"blobs/{digest}"),
            expect={200, 206},
            scopes=self.scopes("pull"),
            headers=_range(offset),
            retry=not offset,  # when it goes on, the reader counts the tries
        )

    def upload_url(self, **parameters: str) -> str:
        """Where uploads begin."""
        return self.url("blobs/uploads/") + (f"?{urlencode(parameters, safe=':/')}" if parameters else "")


class BlobReader:
    """Reads a blob to exactly its size; a broken connection is made anew from where it broke, by Range or by skipping.

    The caller has to check sha256 digests; others are checked here, at the end.
    """

    def __init__(
        self,
        client: Client,
        open_at: Callable[[int], Response],
        descriptor: Descriptor,
        what: str,
        moved: Callable[[int], None],
    ) -> None:
        self._client = client
        self._open_at = open_at
        self._descriptor = descriptor
        self._what = what
        self._moved = moved
        self._tries = client.tries()
        self._at = 0
        self._hash = None if descriptor.digest.algorithm == "sha256" else _hash(descriptor.digest.algorithm)
        self._response: Response | None = open_at(0)

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, b"" at the end. Raises TransferBrokenError, InvalidResponseError."""
        while True:
            try:
                return self._read(size)
            except (UnreachableError, ResponseError) as error:
                self.close()
                try:
                    self._tries.after(error)
                except UnreachableError:
                    raise TransferBrokenError(
                        f"{self._what}: broke off at byte {self._at} of {self._descriptor.size} again and again:"
                        f" {error.message}",
                        hint="run the same command again: what has arrived complete is kept",
                    ) from error

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _read(self, size: int) -> bytes:
        check_cancelled(self._client.cancelled)
        if self._response is None:
            self._response = self._continued()
        data = self._response.read(size)
        total = self._descriptor.size
        if data:
            self._at += len(data)
            if self._at > total:
                raise InvalidResponseError(f"{self._what}: more than its {total} bytes came")
            if self._hash is not None:
                self._hash.update(data)
            self._tries.progress()
            self._moved(self._at)
        elif self._at < total:
            raise UnreachableError(f"{self._what}: ended after {self._at} of {total} bytes", connected=True)
        elif self._hash is not None and self._hash.hexdigest() != self._descriptor.digest.hex:
            raise InvalidResponseError(f"{self._what}: the bytes that came have another digest")
        return data

    def _continued(self) -> Response:
        """A response whose body goes on at ``self._at``."""
        if self._at >= self._descriptor.size:
            return _Nothing()
        response = self._open_at(self._at)
        if not self._at:
            return response
        if response.status == 206:
            begins = _CONTENT_RANGE.match(response.headers.get("Content-Range") or "")
            if begins is None or int(begins[1]) != self._at:
                response.close()
                raise InvalidResponseError(f"{self._what}: asked for bytes from {self._at}, got another range")
            return response
        left = self._at  # the server knows no ranges, and began anew
        try:
            while left:
                data = response.read(min(left, _SKIP_BYTES))
                if not data:
                    raise UnreachableError(f"{self._what}: ended early", connected=True)
                left -= len(data)
        except BaseException:
            response.close()
            raise
        return response


class _Nothing:
    """The response to what need not be asked."""

    status = 206
    headers: dict[str, str] = {}  # noqa: RUF012 - never written to

    def read(self, size: int, /) -> bytes:
        del size
        return b""

    def close(self) -> None: ...


def digest_of(data: bytes, algorithm: str) -> Digest:
    """The digest of ``data`` by ``sha256`` or ``sha512``."""
    if algorithm == "sha256":
        return Digest.of(data)
    made = _hash(algorithm)
    made.update(data)
    return Digest(f"{algorithm}:{made.hexdigest()}")


def _hash(algorithm: str) -> hashlib._Hash:
    import hashlib  # OpenSSL takes 3 ms to load

    return hashlib.new(algorithm)


def is_index(media_type: str) -> bool:
    return media_type in INDEX_TYPES


def is_manifest(media_type: str) -> bool:
    return media_type in MANIFEST_TYPES


def _range(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _digest_header(response: Response) -> Digest | None:
    text = response.headers.get("Docker-Content-Digest")
    if not text:
        return None
    try:
        return Digest.parse(text.strip())
    except InvalidReferenceError as error:
        raise InvalidResponseError(f"the registry states a digest that is none: {text[:100]!r}") from error
