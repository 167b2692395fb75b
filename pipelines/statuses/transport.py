"""One HTTP request to a forge's API: only to addresses that may be reached, without redirects, with time-outs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import urllib3

from core.certificates import any_host_context
from core.errors import HostNotFoundError, OutOfReachError
from core.reach import Reach
from pipelines.forges.errors import ForgeApiError, ForgeRefusalError
from pipelines.forges.events import ApiCall

_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=10.0)
_SHOWN_BYTES: Final = 300
_BUSY: Final = (408, 425, 429)
_TRANSITION: Final = b"Cannot transition status"  # GitLab's word for a state that the commit is in already
_LONGEST_WAIT_S: Final = 3600.0


class Transport(Protocol):
    """Sends calls. Raises ForgeApiError when a call may work later, ForgeRefusalError when it never will."""

    def send(self, api: str, call: ApiCall) -> None: ...


class HttpTransport:
    """A transport over HTTP. Thread-safe.

    reach: which hosts may be connected to.
    ca_file: certificates to trust instead of the system's.
    """

    def __init__(self, reach: Reach, *, ca_file: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self._reach = reach
        self._ca_file = ca_file
        self._clock = clock

    def send(self, api: str, call: ApiCall) -> None:
        """See ``Transport``. api: the URL that the call's path follows."""
        parts = urlsplit(api)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            address = self._reach.pin(host, port)
        except (HostNotFoundError, OutOfReachError) as error:
            raise ForgeApiError(error.message, hint=error.hint) from error
        headers = {"Host": parts.netloc, "Content-Type": "application/json", "User-Agent": "shiplap", **call.headers}
        with self._pool(parts.scheme, host, address or host, port) as pool:
            try:
                answer = pool.request(
                    call.method,
                    parts.path.rstrip("/") + call.path,
                    body=msgspec.json.encode(call.body),
                    headers=headers,
                    redirect=False,
                    retries=False,
                )
            except urllib3.exceptions.HTTPError as error:
                raise ForgeApiError(f"{host} does not answer: {error}") from error
        self._judge(host, answer.status, answer.headers, answer.data)

    def _pool(self, scheme: str, host: str, address: str, port: int) -> urllib3.HTTPConnectionPool:
        if scheme != "https":
            return urllib3.HTTPConnectionPool(address, port, timeout=_TIMEOUT, maxsize=1)
        try:
            context = any_host_context(self._ca_file)
        except OSError as error:
            raise ForgeApiError(f"{self._ca_file} has no certificates: {error}") from error
        return urllib3.HTTPSConnectionPool(
            address, port, timeout=_TIMEOUT, maxsize=1, ssl_context=context, assert_hostname=host, server_hostname=host
        )

    def _judge(self, host: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if 200 <= status < 300 or (status == 400 and _TRANSITION in body):
            return
        told = f"{host} answered {status}: {body[:_SHOWN_BYTES].decode('utf-8', 'replace').strip()}"
        wait = self._wait_s(headers)
        if status in _BUSY or status >= 500 or (status == 403 and wait is not None):
            raise ForgeApiError(told, retry_after_s=wait)
        raise ForgeRefusalError(told)

    def _wait_s(self, headers: Mapping[str, Any]) -> float | None:
        """How long the forge asks to wait: Retry-After, or GitHub's and GitLab's rate limits; None: not at all."""
        after = str(headers.get("Retry-After", ""))
        if after.isdigit():
            return min(_LONGEST_WAIT_S, max(1.0, float(after)))
        for prefix in ("X-RateLimit", "RateLimit"):
            left, reset = str(headers.get(f"{prefix}-Remaining", "")), str(headers.get(f"{prefix}-Reset", ""))
            if left == "0" and reset.isdigit():
                return min(_LONGEST_WAIT_S, max(1.0, float(reset) - self._clock()))
        return None
