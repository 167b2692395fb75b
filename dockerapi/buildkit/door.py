"""Where BuildKit's connections come in: whose they are, how many each caller may have, and what is served on them.

    /grpc, or HTTP/2 on the socket itself: the client asks, we serve
    /session, or Control.Session:          the client serves, we ask

Each call has a thread; so each caller has bounds, of connections and of calls. The owner of the process has none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from core.errors import ShiplapError
from core.settings import Settings
from dockerapi.buildkit import messages
from dockerapi.buildkit.builds import Builds
from dockerapi.buildkit.control import CHANGING, Services
from dockerapi.buildkit.httpstream import Stream, StreamError
from dockerapi.buildkit.rpc import Call, Code, Method, RpcError
from dockerapi.buildkit.sessions import Session, Sessions
from dockerapi.buildkit.transport import Connection, refuse
from dockerapi.errors import ApiError, message_of, status_of
from dockerapi.turns import Followers

if TYPE_CHECKING:
    from engine.callers import Caller
    from engine.engine import Engine

Note: TypeAlias = Callable[[str, int, Sequence[str]], None]

MOST_CONNECTIONS: Final = 64
MOST_CALLS: Final = 256
_PIECE: Final = 64 << 10
_TOO_MANY: Final = f"{MOST_CONNECTIONS} connections for builds are yours already: end some"
_HEADER: Final = "x-docker-expose-session-"
_CODES: Final[Mapping[int, Code]] = {
    400: Code.INVALID_ARGUMENT,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ALREADY_EXISTS,
    501: Code.UNIMPLEMENTED,
}
_HISTORY: Final = ": the history of builds is not told over the API: shiplap build history"
_SHELL: Final = ": nothing is run within a build over the API: shiplap build --debug"
_FRONTEND: Final = ": frontends and LLB of one's own are not done; Dockerfiles are built"
_INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ListenBuildHistory", "UpdateBuildHistory"), _HISTORY),
    **dict.fromkeys(("NewContainer", "ReleaseContainer", "ExecProcess"), _SHELL),
    **dict.fromkeys(("ReadFile", "ReadDir", "StatFile", "Evaluate", "Inputs"), _FRONTEND),
    **dict.fromkeys(("ResolveImageConfig", "ResolveSourceMeta", "Warn"), _FRONTEND),
}
"""Methods of BuildKit's that are not done, and what there is."""

_log: Final = logging.getLogger(__name__)


class Door:
    """All connections of BuildKit's clients. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = Sessions()
        self._builds = Builds()
        self._connections = Followers(os.geteuid(), MOST_CONNECTIONS)
        self._calls = Followers(os.geteuid(), MOST_CALLS)

    def require_room(self, caller: Caller) -> None:
        """Raise ApiError when the caller has as many connections as one may have: further ones are closed at once."""
        if not self._connections.has_room(caller.uid):
            raise ApiError(503, _TOO_MANY)

    def serve(
        self, sock: socket.socket, early: bytes, caller: Caller, engine: Callable[[], Engine], note: Note
    ) -> None:
        """Serve a connection to its end, in threads of its own.

        early: what was read of it already.
        engine: the caller's, asked with each call; raises ApiError for who has none any more.
        note: gets each call that was to change something: its method, its status, the images that it names.
        """

        def methods() -> dict[str, Method]:
            services = Services(engine(), caller, self._settings, self._sessions, self._builds)
            return {**services.methods, "/moby.buildkit.v1.Control/Session": lambda call: self._tunnel(call, caller)}

        def run() -> None:
            connection = Connection(sock, early=early, opens=False)
            connection.run(lambda stream: self._accept(stream, methods, caller, note))

        self._begin(sock, caller, run)

    def offer(self, sock: socket.socket, early: bytes, caller: Caller, headers: Mapping[str, Sequence[str]]) -> None:
        """Take a session, whose services are for its caller's builds as long as the connection lasts.

        headers: by their names in small letters.
        """
        connection = Connection(sock, early=early, opens=True)
        session = _session(connection, headers)

        def run() -> None:
            with self._sessions.offered(caller, session):
                connection.run()

        self._begin(sock, caller, run)

    def _begin(self, sock: socket.socket, caller: Caller, run: Callable[[], None]) -> None:
        if not self._connections.enter(caller.uid):
            with sock, contextlib.suppress(OSError):
                refuse(sock, _TOO_MANY)
            return

        def whole() -> None:
            try:
                with sock:
                    run()
            except (ShiplapError, StreamError, OSError) as error:
                _log.info("a connection of BuildKit's ended: %s", error)
            except Exception as error:
                _log.error("a connection of BuildKit's ended", exc_info=error)
            finally:
                self._connections.leave(caller.uid)

        try:
            threading.Thread(target=whole, name="buildkit connection", daemon=True).start()
        except RuntimeError:  # no more threads
            self._connections.leave(caller.uid)
            sock.close()

    def _accept(self, stream: Stream, methods: Callable[[], Mapping[str, Method]], caller: Caller, note: Note) -> None:
        """A call has begun. Called in the connection's thread."""
        call = Call(stream)
        if not self._calls.enter(caller.uid):
            call.finish(Code.RESOURCE_EXHAUSTED, f"{MOST_CALLS} calls of yours are under way already")
            return

        def whole() -> None:
            try:
                code, message = _outcome(call, methods)
                try:
                    if call.method in CHANGING:
                        note(call.method, code, call.names)
                finally:
                    call.finish(code, message)
            finally:
                self._calls.leave(caller.uid)

        try:
            threading.Thread(target=whole, name="buildkit call", daemon=True).start()
        except RuntimeError:
            self._calls.leave(caller.uid)
            call.finish(Code.RESOURCE_EXHAUSTED, "the engine has no more threads")

    def _tunnel(self, call: Call, caller: Caller) -> None:
        """``Control.Session``: a session's connection within a call, for clients that have no other."""
        names = ("uuid", "name", "sharedkey", "grpc-method")
        headers = {f"{_HEADER}{name}": call.headers(f"{_HEADER}{name}") for name in names}
        ours, theirs = socket.socketpair()
        with ours:
            self.offer(theirs, b"", caller, headers)
            call.begin()

            def outward() -> None:
                with contextlib.suppress(OSError, ShiplapError):
                    while data := ours.recv(_PIECE):
                        call.send(messages.Bytes(data=data))
                call.finish()

            sender = threading.Thread(target=outward, name="buildkit session", daemon=True)
            sender.start()
            try:
                while (piece := call.receive(messages.Bytes, None)) is not None:
                    ours.sendall(piece.data)
            finally:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
                sender.join()


def _outcome(call: Call, methods: Callable[[], Mapping[str, Method]]) -> tuple[int, str]:
    """Serve a call. The status with which it is to end, and what the client reads beside it."""
    try:
        method = methods().get(call.method)
        if method is None:
            why = _INSTEAD.get(call.method.rpartition("/")[2], "")
            raise RpcError(Code.UNIMPLEMENTED, f"{call.method[:200]} is not done{why}")
        method(call)
    except RpcError as error:
        return error.code, error.message
    except ShiplapError as error:
        return _CODES.get(status_of(error), Code.UNKNOWN), message_of(error)
    except (StreamError, OSError) as error:
        return Code.UNKNOWN, str(error)
    except Exception as error:
        # The outermost layer of this thread: a fault of ours ends one call, and is written down.
        _log.error("%s failed", call.method, exc_info=error)
        return Code.INTERNAL, f"the engine's API failed: {type(error).__name__}: {error}"
    return Code.OK, ""


def _session(connection: Connection, headers: Mapping[str, Sequence[str]]) -> Session:
    def first(name: str) -> str:
        return next(iter(headers.get(f"{_HEADER}{name}", ())), "")

    if not first("uuid"):
        raise RpcError(Code.INVALID_ARGUMENT, "a session needs an ID: X-Docker-Expose-Session-Uuid")
    return Session(connection, first("uuid"), first("sharedkey"), headers.get(f"{_HEADER}grpc-method", ()))
