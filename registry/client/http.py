"""The one seam to the network: requests and responses as the client uses them, and how they look in messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias
from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from registry.errors import InvalidResponseError

# Called for each time that the request is sent; yields pieces of about a quarter of a megabyte.
BodySource: TypeAlias = Callable[[], Iterable[bytes]]

_SAFE_PARAMETERS: Final = frozenset({"digest", "mount", "from", "scope", "service", "n", "last", "account"})
_ERROR_BYTES: Final = 64 << 10


class Request(NamedTuple):
    """A request to a registry.

    body: bytes, or a source whose length is in the Content-Length header, or that goes in chunks.
    """

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes | BodySource | None = None


class Response(Protocol):
    """What a registry answered.

    headers: names are looked up whatever their case.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes of the body as sent, b"" at its end. Raises UnreachableError when it breaks off."""

    def close(self) -> None:
        """Done with it: the connection is used again if the body was read to its end."""


class Transport(Protocol):
    """Sends one request, follows nothing, repeats nothing. Thread-safe."""

    def send(self, request: Request) -> Response:
        """Return once the headers are there. Raises UnreachableError, TlsError."""

    def abort(self) -> None:
        """Make every request that waits for the network fail with UnreachableError, now."""

    def close(self) -> None:
        """Close every connection that is idle."""


def read_limited(response: Response, limit: int) -> bytes | None:
    """The whole body, or None when it has more than ``limit`` bytes. Closes the response."""
    try:
        parts = []
        left = limit + 1
        while left and (data := response.read(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts) if left else None
    finally:
        response.close()


def error_body(response: Response) -> bytes:
    """What an error response says, cut where it is excessive. Closes the response."""
    try:
        return response.read(_ERROR_BYTES)
    finally:
        response.close()


def origin(url: str) -> tuple[str, str, int]:
    """What must be the same for credentials to be sent along: scheme, host, port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def joined(base: str, url: str) -> str:
    """The URL that a server named by ``url``, which is absolute or relative to ``base``.

    Raises InvalidResponseError for what no URL can be: its host or its port.
    """
    try:
        there = urljoin(base, url)
        origin(there)
        if any(letter <= " " or letter == "\x7f" for letter in urlsplit(there).netloc):
            raise ValueError("a host has no such letters")
    except ValueError as error:
        shown = url.partition("?")[0].rpartition("@")[2][:100]
        raise InvalidResponseError(f"{shown!r} is no web address: {error}") from error
    return there


def redacted(url: str) -> str:
    """The URL for messages and logs: no user, and no values of parameters that may be secrets (signatures, states)."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(
        f"{quote(key)}={quote(value, safe=':/,') if key in _SAFE_PARAMETERS else '…'}" for key, value in pairs
    )
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))
