"""Build contexts from the web process: for workers whose root is not the one that clients upload to."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from core.certificates import SYSTEM_CERTIFICATES, client_context, tls_cause, trust_hint_for
from pipelines.errors import NotFoundError, UpstreamError
from pipelines.sources.blobstream import Part, decode_blobs

if TYPE_CHECKING:
    import urllib3

_BATCH: Final = 5000
_TIMEOUT_S: Final = 60.0
_NOT_FOUND: Final = 404
_OK: Final = 200
_HTTPS_PORT: Final = 443


class Upstream:
    """The contexts of the service at ``url``. token: an API token with the scope build.

    certificates: directories like ``certs.d`` with CAs that are trusted beside the system's.
    """

    def __init__(self, url: str, token: str, certificates: Sequence[Path] = ()) -> None:
        self._url = url
        self._token = token
        self._certificates = certificates

    def manifest(self, context: str) -> bytes:
        """A context's entries, byte for byte as they are hashed. Raises NotFoundError, UpstreamError."""
        with self._answer("GET", f"/contexts/{context}") as response:
            return bytes(response.read())

    def blobs(self, digests: Sequence[str]) -> Iterator[tuple[str, Part]]:
        """The content of files, as ``decode_blobs`` gives it. Raises NotFoundError, UpstreamError."""
        for start in range(0, len(digests), _BATCH):
            body = msgspec.json.encode({"digests": digests[start : start + _BATCH]})
            with self._answer("POST", "/contexts/blobs/fetch", body) as response:
                yield from decode_blobs(response)

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, body: bytes | None = None) -> Iterator[Any]:
        import urllib3  # the import takes a while, and most workers share the root

        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        parts = urlsplit(self._url)
        trust = client_context(parts.netloc, self._certificates) if parts.scheme == "https" else None
        retries = urllib3.Retry(3, redirect=0, backoff_factor=0.3, allowed_methods=None)
        pool = urllib3.PoolManager(retries=retries, ssl_context=trust)
        try:
            response = pool.request(
                method, f"{self._url}/api/v1{path}", body=body, headers=headers,
                timeout=urllib3.Timeout(_TIMEOUT_S), preload_content=False,
            )  # fmt: skip
            with contextlib.closing(response):
                self._check(response)
                yield response
        except urllib3.exceptions.HTTPError as error:
            raise self._failure(error) from error
        finally:
            pool.clear()

    def _failure(self, error: urllib3.exceptions.HTTPError) -> UpstreamError:
        what = f"cannot fetch a build context from {self._url}"
        cause = tls_cause(error)
        if not isinstance(cause, ssl.SSLCertVerificationError):
            return UpstreamError(f"{what}: {error}", hint=_HINT)
        place = next(iter(self._certificates[-1:]), SYSTEM_CERTIFICATES)
        return UpstreamError(
            f"{what}: its certificate is not trusted: {cause.verify_message}",
            hint=trust_hint_for(cause, self._url, place) or _HINT,
        )

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        if response.status == _OK:
            return
        told = response.read(amt=500).decode("utf-8", "replace")
        if response.status == _NOT_FOUND:
            raise NotFoundError(f"{self._url} does not have the build context: {told}", hint="upload it again")
        raise UpstreamError(f"{self._url} refuses its build contexts: {response.status} {told}", hint=_HINT)


_HINT: Final = "SHIPLAP_WEB_URL and SHIPLAP_WEB_TOKEN say from where this worker fetches them"
