"""The WSGI application at /git/. Answers that git did not make are plain text, which git shows to people.

    GET  /git/NAME.git/info/refs?service=git-upload-pack      (or git-receive-pack)
    POST /git/NAME.git/git-upload-pack                        fetch: for readers of the project, and for its runs
    POST /git/NAME.git/git-receive-pack                       push: for those who may build there

The password is an API token, or a run's token, with any user name. Anybody who may not read gets 404, as if the
repository did not exist.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.settings import GitSettings
from pipelines.bare.inspecting import NAME, check_writable, inspect, locate
from pipelines.bare.making import DIRECTORY, install_served_hook
from pipelines.errors import BareRepositoryError, TokenError
from pipelines.jsonlogs import MEMBERS
from pipelines.owning.ownership import bare_owner_below
from pipelines.projects.projects import TAKES_NOTHING
from registry.server.listening.vouching import vouch
from registry.server.users import TOKEN_PREFIX
from web.gitserving.admission import Admission, Place
from web.gitserving.backend import Backend, BackendError, Job, TooLargeError, TooLongError, lacks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from pipelines.accounts.roles import Level
    from pipelines.service import Service

_ADDRESS: Final = re.compile(
    rf"/git/(?P<name>{NAME.pattern})\.git/(?P<what>info/refs|git-upload-pack|git-receive-pack)"
)
_SERVICE: Final = re.compile(r"service=(git-upload-pack|git-receive-pack)")
_PROTOCOL: Final = re.compile(r"version=[0-2]")
_NEEDED: Final[dict[str, Level]] = {"git-upload-pack": "read", "git-receive-pack": "build"}
_HOOKS: Final = "git-hooks"
_PASSED: Final = ("content-type", "cache-control", "expires", "pragma")
_PROBE_BYTES: Final = 4  # with so small a body git tries its credentials before it sends much
_log = logging.getLogger("web.request")


class _Refusal(Exception):
    """A request that is refused before git's program is asked.

    status: with its reason phrase.
    """

    def __init__(self, status: str, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class _Asker(NamedTuple):
    """The sender. key: counted by this. level: what they may do in the project; ``run``: only fetch, for a run."""

    name: str
    key: str
    level: Callable[[str], Level]


class GitServing:
    """The application, for one service. Thread-safe. stopping: whether the process is to end soon."""

    def __init__(self, service: Service, settings: GitSettings, stopping: Callable[[], bool]) -> None:
        self._service = service
        self._settings = settings
        self._stopping = stopping
        self._admission = Admission(settings.at_once)
        self._top = service.settings.root / DIRECTORY
        self._hooks = service.settings.root / "serve" / _HOOKS
        install_served_hook(self._hooks)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began = time.monotonic()
        try:
            answer = self._answer(environ)
        except _Refusal as refusal:
            status, message = refusal.status, f"{refusal.message}\n".encode()
            headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(message)))]
            start_response(status, [*headers, *refusal.headers, *_SECURE])
            _report(environ, status, began)
            return [message]
        start_response(answer.status, [*answer.headers, *_SECURE, ("X-Accel-Buffering", "no")])
        answer.ended = lambda: _report(environ, answer.status, began)
        return answer

    def _answer(self, environ: WSGIEnvironment) -> _Answer:
        found = _ADDRESS.fullmatch(environ.get("PATH_INFO", ""))
        if found is None:
            raise _Refusal("404 Not Found", "git's smart protocol is spoken at /git/PROJECT.git")
        name, what = found["name"], found["what"]
        service = _service(environ, what)
        project = bare_owner_below(f"{name}.git")
        asker = self._ask(environ, project)
        level = asker.level(project)
        if level == "none" or project not in self._service.roles.project_names():
            raise _Refusal("404 Not Found", f"there is no repository {name}.git")
        may_push = level in ("build", "maintain", "admin")
        if _NEEDED[service] == "build" and not may_push:
            raise _Refusal("403 Forbidden", f"to push needs the right to build in project {project}")
        if _NEEDED[service] == "build" and project in self._service.roles.archived_names():
            raise _Refusal("403 Forbidden", f"project {project} is archived: {TAKES_NOTHING}")
        job = self._job(environ, name, service, asker.name, may_push=may_push)
        place = self._admission.enter(asker.key)
        if place is None:
            raise _Refusal("503 Service Unavailable", "too many fetches and pushes at once", ("Retry-After", "10"))
        try:
            return self._run(environ, job, place, project)
        except BaseException:
            place.leave()
            raise

    def _ask(self, environ: WSGIEnvironment, project: str) -> _Asker:
        """The sender by the request's credentials. project: the one that a run's token is checked against."""
        password = _password(environ.get("HTTP_AUTHORIZATION", ""))
        rights = self._service.run_tokens.source(password, project)
        if rights is not None:
            vouch()
            return _Asker(f"run {rights.run}", f"run {rights.run}", lambda _: "read" if rights.may_read else "none")
        try:
            if not password.startswith(TOKEN_PREFIX):
                raise TokenError("it is no token")
            token = self._service.tokens.identify(password)
        except TokenError as error:
            raise _Refusal("401 Unauthorized", "this needs a token as the password", _CHALLENGE) from error
        vouch()
        allowed = self._service.roles.of_token(token)
        return _Asker(token.owner or f"token {token.name}", f"token {token.id}", allowed.level)

    def _job(self, environ: WSGIEnvironment, name: str, service: str, who: str, *, may_push: bool) -> Job:
        """Raises _Refusal for a repository that is not fit to be served."""
        try:
            repository = locate(self._top, name)
        except BareRepositoryError as error:
            raise _Refusal("404 Not Found", error.message) from error
        try:
            inspect(repository)
            if service == "git-receive-pack":
                check_writable(repository)
        except BareRepositoryError as error:
            raise _Refusal("409 Conflict", f"{error.message}{f' ({error.hint})' if error.hint else ''}") from error
        if service == "git-receive-pack":
            if not (repository / "shiplap.conf").is_file():
                told = f"{name}.git has no shiplap.conf, by which a push would be told: docs/webhooks.md"
                raise _Refusal("409 Conflict", told)
            if missing := lacks():
                raise _Refusal("503 Service Unavailable", f"this host has no {missing}")
        protocol = environ.get("HTTP_GIT_PROTOCOL", "")
        compressed = environ.get("HTTP_CONTENT_ENCODING", "").lower()
        if compressed not in ("", "gzip", "x-gzip"):
            raise _Refusal("415 Unsupported Media Type", "a body is as it is, or gzip")
        is_advertising = environ["REQUEST_METHOD"] == "GET"
        return Job(
            repository, self._hooks, self._service.settings.root, service, is_advertising, may_push, _plain(who),
            compressed=bool(compressed), protocol=protocol if _PROTOCOL.fullmatch(protocol) else "",
        )  # fmt: skip

    def _run(self, environ: WSGIEnvironment, job: Job, place: Place, project: str) -> _Answer:
        length = environ.get("CONTENT_LENGTH", "")
        announced = int(length) if length.isdigit() and len(length) < 19 else None
        limit = self._settings.push_max_bytes
        if announced is not None and limit and announced > limit:
            raise _Refusal("413 Content Too Large", f"a push has at most {limit} bytes, this one has {announced}")
        try:
            backend = Backend(job, self._settings, follows=place.follow, stopping=self._stopping)
        except BackendError as error:
            _log.error("%s: %s", job.repository, error)
            raise _Refusal("500 Internal Server Error", "git cannot be started") from error
        try:
            backend.feed(environ["wsgi.input"] if not job.is_advertising else _NOTHING, announced)
            if job.service == "git-receive-pack" and not job.is_advertising and announced != _PROBE_BYTES:
                address = environ.get("REMOTE_ADDR", "")
                self._service.audit.add(job.who, "git push", f"project={project}", address=address, project=project)
            status, headers = backend.head()
        except TooLargeError as error:
            backend.close()
            raise _Refusal("413 Content Too Large", f"a push has at most {limit} bytes") from error
        except TooLongError as error:
            backend.close()
            raise _Refusal("503 Service Unavailable", error.message) from error
        except (BackendError, OSError) as error:
            backend.close()
            _log.warning("%s: %s", job.repository, error)
            raise _Refusal("500 Internal Server Error", "git did not answer; the service's log says why") from error
        except BaseException:
            backend.close()
            raise
        kept = [(name, value) for name, value in headers if name.lower() in _PASSED]
        return _Answer(status, kept, backend, place)


class _Answer:
    """git's answer, as it comes. The server closes it, whatever has become of the client."""

    def __init__(self, status: str, headers: list[tuple[str, str]], backend: Backend, place: Place) -> None:
        self.status = status
        self.headers = headers
        self.ended: Callable[[], None] = lambda: None
        self._backend = backend
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._backend.pieces()
        except BackendError as error:  # the sent part cannot be taken back: the client sees a cut answer
            _log.warning("%s", error)
            raise ConnectionAbortedError(str(error)) from error

    def close(self) -> None:
        try:
            self._backend.close()
        finally:
            self._place.leave()
            self.ended()


class _Empty:
    def read(self, size: int = -1) -> bytes:
        del size
        return b""


_NOTHING: Final[Any] = _Empty()
_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="Shiplap", charset="UTF-8"')
_SECURE: Final = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
]


def _service(environ: WSGIEnvironment, what: str) -> str:
    """The one of git's services that is asked for, if it is asked in the right way."""
    if what == "info/refs":
        asked = _SERVICE.fullmatch(environ.get("QUERY_STRING", ""))
        if asked is None:
            raise _Refusal("403 Forbidden", "the dumb protocol is not spoken: use git 1.6.6 or newer")
        if environ["REQUEST_METHOD"] != "GET":
            raise _Refusal("405 Method Not Allowed", "GET it", ("Allow", "GET"))
        return asked[1]
    if environ["REQUEST_METHOD"] != "POST":
        raise _Refusal("405 Method Not Allowed", "POST to it", ("Allow", "POST"))
    if environ.get("CONTENT_TYPE", "") != f"application/x-{what}-request":
        raise _Refusal("415 Unsupported Media Type", f"the body has to be application/x-{what}-request")
    return what


def _password(authorization: str) -> str:
    """The password; empty where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _plain(name: str) -> str:
    """The name with only characters that git takes in a person's name."""
    return "".join(letter for letter in name if letter.isprintable() and letter not in "<>")[:100] or "somebody"


def _report(environ: WSGIEnvironment, status: str, began: float) -> None:
    members = {
        "method": environ["REQUEST_METHOD"],
        "path": environ.get("PATH_INFO", ""),
        "status": int(status[:3]),
        "client": environ.get("REMOTE_ADDR", ""),
        "duration_ms": round((time.monotonic() - began) * 1000, 1),
    }
    _log.info("%s %s %d", members["method"], members["path"], members["status"], extra={MEMBERS: members})
