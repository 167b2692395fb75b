"""Previews of outputs: files that a job made, shown by a browser, without the session of whoever looks.

A page of the service makes a ticket, for one output and some hours. It stands in the address, so links and images of an
HTML page work, and no cookie is needed. Scripts run only on the host that ``SHIPLAP_OUTPUTS_URL`` names. That host has
nothing but previews: cookies and tokens are taken off what reaches it. There, too, each page is in a sandbox, so it
shares nothing with other projects' pages.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

from pipelines.errors import NotFoundError
from pipelines.runs.outputs import FoundOutput
from web.backing import service
from web.calls import Streamed
from web.outputfiles import sent_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX: Final = "/o/"
VALID_S: Final = 4 * 3600
"""How long a ticket is one."""

_ON_OUTPUTS_HOST: Final = "shiplap.outputs_host"
_TICKET: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,5})-([0-9]{1,12})-([0-9a-f]{40})")
_KINDS: Final = {
    "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8", "mjs": "text/javascript; charset=utf-8",
    "json": "application/json", "map": "application/json", "wasm": "application/wasm",
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "avif": "image/avif", "bmp": "image/bmp", "ico": "image/x-icon", "svg": "image/svg+xml",
    "woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf", "otf": "font/otf",
    "mp4": "video/mp4", "webm": "video/webm",
    **dict.fromkeys(("txt", "log", "md", "csv", "xml", "yml", "yaml", "toml", "ini", "diff", "patch", "tap", "out"),
                    "text/plain; charset=utf-8"),
}  # fmt: skip
_IMAGES: Final = frozenset({"png", "jpg", "jpeg", "gif", "webp", "avif", "bmp", "ico", "svg"})
_PAGES: Final = frozenset({"html", "htm"})
_WITHOUT_SCRIPTS: Final = (
    "sandbox; default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; font-src 'self' data:;"
    " media-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_WITH_SCRIPTS: Final = (
    "sandbox allow-scripts allow-popups allow-modals allow-downloads; default-src 'self' 'unsafe-inline' 'unsafe-eval'"
    " data: blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'self'"
)


class Ticket(NamedTuple):
    """What a ticket is for. until: seconds since the epoch."""

    run: int
    place: int
    until: int


def kind_of(path: str) -> str:
    """How a file is looked at: ``image``, ``text``, ``page``, or empty: it is only saved."""
    ending = _ending(path)
    if ending in _IMAGES:
        return "image"
    if ending in _PAGES:
        return "page"
    is_text = not ending or _KINDS.get(ending, "").startswith("text/") or ending in ("json", "map")
    return "text" if is_text else ""


def address(found: FoundOutput, path: str, *, runs_scripts: bool) -> str:
    """Where a file is shown. runs_scripts: on the host for it, if there is one."""
    until = int(time.time()) + VALID_S
    ticket = f"{found.run}-{found.place}-{until}-{_signature(found.run, found.place, found.view.name, until)}"
    base = service().settings.outputs_url if runs_scripts else ""
    return f"{base}{PREFIX}{ticket}/{quote(found.view.name, safe='')}/{quote(path)}"


def sent(ticket: str, name: str, path: str, environ: WSGIEnvironment) -> Streamed:
    """A file as a browser shows it. Raises NotFoundError, also when the ticket is none, or is over."""
    known = _read(ticket, name)
    found = service().outputs.get(known.run, known.place, name)
    path = f"{path}index.html" if not path or path.endswith("/") else path
    file = sent_file(found, path)
    headers = dict(file.headers)
    kind = _KINDS.get(_ending(path))
    if kind is not None:
        headers.pop("Content-Disposition")
    is_apart = bool(environ.get(_ON_OUTPUTS_HOST))
    headers |= {
        "Content-Type": kind or "application/octet-stream",
        "Content-Security-Policy": _WITH_SCRIPTS if is_apart else _WITHOUT_SCRIPTS,
        # A page in a sandbox is nobody's origin, and has to read what lies beside it. The ticket is what is secret.
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": "private, max-age=300",
    }
    return Streamed(file.pieces, headers)


class OutputsHost:
    """WSGI middleware: the host for outputs has previews and nothing else, and knows no session."""

    def __init__(self, app: WSGIApplication, url: str) -> None:
        """url: as ``outputs_url`` of the settings; empty: there is no such host."""
        self._app = app
        self._host = host_of(url)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not self._host or _as_usual(environ.get("HTTP_HOST", "")) not in self._host:
            return self._app(environ, start_response)
        if not environ.get("PATH_INFO", "").startswith(PREFIX) or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start_response(
                f"{HTTPStatus.NOT_FOUND.value} Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")]
            )
            return ()
        for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION"):
            environ.pop(name, None)
        environ[_ON_OUTPUTS_HOST] = True
        return self._app(environ, start_response)


def host_of(url: str) -> frozenset[str]:
    """What ``Host`` says of requests for a URL: with its port, and without where that is the usual one."""
    parts = urlsplit(url)
    if not parts.hostname:
        return frozenset()
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = 443 if parts.scheme == "https" else 80
    port = parts.port or usual
    return frozenset({f"{name}:{port}", *((name,) if port == usual else ())})


def _as_usual(host: str) -> str:
    """What ``Host`` says, in small letters, and without the dot that may end a name, also before a port."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not (port.isdigit() or not port):
        return host.lower().removesuffix(".")
    return f"{name.removesuffix('.')}:{port}".removesuffix(":")


def _ending(path: str) -> str:
    """What a file's name has behind its last dot, in small letters; empty: no dot."""
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return ending.lower() if dot else ""


def _signature(run: int, place: int, name: str, until: int) -> str:
    return service().secrets.signature(f"preview\0{run}\0{place}\0{name}\0{until}".encode())[:40]


def _read(ticket: str, name: str) -> Ticket:
    match = _TICKET.fullmatch(ticket)
    if match is not None:
        known = Ticket(int(match[1]), int(match[2]), int(match[3]))
        if hmac.compare_digest(match[4], _signature(known.run, known.place, name, known.until)):
            if known.until >= time.time():
                return known
            raise NotFoundError(
                "this address was good for some hours, which are over", hint="open it from its page again"
            )
    raise NotFoundError("there is nothing at this address")
