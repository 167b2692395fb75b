"""The interface of a forge, and what several forges do alike."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from pipelines.documents import has_nul
from pipelines.forges.errors import MissingSignatureError, WebhookError, WrongSignatureError
from pipelines.forges.events import ApiCall, Event, ForgeName, Ignored, Payload, Repository, Status, StatusState
from pipelines.shapes import explain

NO_COMMIT: Final = frozenset({"", "0" * 40, "0" * 64})
"""How forges write that there is no commit: before a branch was made, or after it was deleted."""

_TITLE_LENGTH: Final = 200
_T = TypeVar("_T")


class Forge(Protocol):
    """A kind of forge: how its webhooks are read, and how its commits are marked.

    Made by: ``pipelines.forges``, one of each kind for the whole process.
    Threads: any; it has no state and does no I/O.
    Life of a request: ``event_name`` says whether it is this forge's, ``verify`` who sent it, and only then ``parse``
    reads it. Headers are given with names in lower case.
    """

    @property
    def name(self) -> ForgeName:
        """The forge's name, as projects have it in their settings."""

    def event_name(self, headers: Mapping[str, str]) -> str:
        """What the forge calls the event; empty when the request is not this forge's."""

    def delivery_id(self, headers: Mapping[str, str]) -> str:
        """The delivery's id, which stays the same when the forge sends it again; empty when there is none."""

    def verify(self, secret: bytes, headers: Mapping[str, str], body: bytes) -> None:
        """Check who sent the raw body, before anything reads it. Raises MissingSignatureError, WrongSignatureError."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> Payload:
        """Read a request. Raises WebhookError."""

    def default_api(self, repository_url: str) -> str:
        """The URL of the forge's API for a repository there; empty when the forge has none for statuses."""

    def status_call(self, repository: str, commit: str, status: Status, token: str) -> ApiCall:
        """How to mark a commit. repository: its path at the forge, ``owner/name``."""


Reader: TypeAlias = Callable[[str, Mapping[str, str], bytes], Payload]
"""Reads a request of one kind: by the event's name, the headers and the body."""

OTHERS: Final = ""
"""The key, among a forge's readers, of the reader for all other events."""


class HeaderForge:
    """A forge that says in headers what a request is, and signs it with HMAC-SHA256. See ``Forge``.

    event_header: has the event's name.
    delivery_headers: the first that is there has the delivery's id.
    signature_header, signature_prefix: where the signature is, and what stands before its digits.
    """

    name: ForgeName
    event_header: str
    delivery_headers: tuple[str, ...]
    signature_header: str
    signature_prefix: str = "sha256="

    def event_name(self, headers: Mapping[str, str]) -> str:
        return headers.get(self.event_header, "")

    def delivery_id(self, headers: Mapping[str, str]) -> str:
        return next((headers[name] for name in self.delivery_headers if headers.get(name)), "")

    def verify(self, secret: bytes, headers: Mapping[str, str], body: bytes) -> None:
        check_hmac(secret, body, headers.get(self.signature_header, ""), prefix=self.signature_prefix)


class EventForge(HeaderForge):
    """A forge whose events are read by a table. readers: by the event's name; ``OTHERS`` is among them."""

    readers: Mapping[str, Reader]

    def parse(self, headers: Mapping[str, str], body: bytes) -> Payload:
        event = self.event_name(headers)
        return self.readers.get(event, self.readers[OTHERS])(event, headers, body)


def reader(
    kind: type[_T], about: Callable[[_T], Repository | None], happened: Callable[[_T], Event | tuple[Event, ...]]
) -> Reader:
    """A reader of bodies of one kind. about: the repository that it names. happened: the events that it tells."""

    def read(event: str, headers: Mapping[str, str], body: bytes) -> Payload:
        del event
        found = decode(headers, body, kind)
        told = happened(found)
        return Payload(about(found), told if isinstance(told, tuple) else (told,))

    return read


def ignoring(kind: type[_T], about: Callable[[_T], Repository | None]) -> Reader:
    """A reader that takes only the repository from a body."""

    def read(event: str, headers: Mapping[str, str], body: bytes) -> Payload:
        return Payload(about(decode(headers, body, kind)), (Ignored(f"{event} events build nothing"),))

    return read


STATES: Final[Mapping[StatusState, str]] = {
    "pending": "pending", "running": "pending", "success": "success", "failure": "failure", "error": "error",
    "cancelled": "error",
}  # fmt: skip
"""GitHub's names for a commit's states, which forges with the same API share."""


def status_body(status: Status, description_length: int) -> dict[str, str]:
    """A status as GitHub takes it, and forges with the same API."""
    return {
        "state": STATES[status.state],
        "target_url": status.url,
        "description": status.description[:description_length],
        "context": status.context,
    }


def check_hmac(secret: bytes, body: bytes, given: str, *, prefix: str = "") -> None:
    """Compare an HMAC-SHA256 in hexadecimal. Raises MissingSignatureError and WrongSignatureError."""
    if not given:
        raise MissingSignatureError("the request has no signature", hint="set the webhook's secret at the forge")
    expected = prefix + hmac.new(secret, body, hashlib.sha256).hexdigest()
    check_equal(expected, given)


def check_equal(expected: str, given: str) -> None:
    """Compare in a time that does not tell how much fits. Raises WrongSignatureError."""
    if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape")):
        raise WrongSignatureError(
            "the signature does not fit", hint="the secret at the forge must be the one that the project shows once"
        )


def decode(headers: Mapping[str, str], body: bytes, kind: type[_T]) -> _T:
    """The JSON of a request, which some forges can also send in a form. Raises WebhookError."""
    data: bytes | str = body
    if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
        data = fields.get("payload", [""])[0]
    if has_nul(data if isinstance(data, bytes) else data.encode("utf-8", "replace")):
        raise WebhookError("the body has a NUL character")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise WebhookError(f"the body is not as this forge sends it: {explain(error, kind, 'it')}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WebhookError(f"the body is no JSON that can be read: {error}") from error


def commit_or_none(text: str | None) -> str:
    """A commit's id; empty for the forges' ways to write that there is none."""
    return "" if text is None or text in NO_COMMIT else text


def first_line(message: str | None) -> str:
    """The title of a commit, short enough to show in a table."""
    lines = (message or "").strip().splitlines()
    return lines[0][:_TITLE_LENGTH] if lines else ""


def branch_of(ref: str) -> str:
    """The branch that a full ref names, empty for others."""
    return ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""


def tag_of(ref: str) -> str:
    """The tag that a full ref names, empty for others."""
    return ref.removeprefix("refs/tags/") if ref.startswith("refs/tags/") else ""


def present(*texts: str | None) -> tuple[str, ...]:
    """The texts that are there."""
    return tuple(text for text in texts if text)


class ListedCommit(msgspec.Struct, frozen=True):
    """A commit of a push, with the paths that it added, changed and removed."""

    id: str = ""
    message: str = ""
    url: str = ""
    added: list[str] = []
    modified: list[str] = []
    removed: list[str] = []


def changed_paths(commits: Iterable[ListedCommit]) -> tuple[str, ...]:
    """The paths that the commits of a push added, changed and removed."""
    found: dict[str, None] = {}
    for commit in commits:
        for path in (*commit.added, *commit.modified, *commit.removed):
            found[path] = None
    return tuple(found)


def origin(url: str) -> str:
    """``https://host[:port]`` of a repository's address; an ssh address has its host's https."""
    parts = urlsplit(url if "://" in url else "ssh://" + url.replace(":", "/", 1))
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None and parts.scheme in ("http", "https") else ""
    return f"{parts.scheme if parts.scheme == 'http' else 'https'}://{host}{port}"
