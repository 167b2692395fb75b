"""Following a run: its log as events, over as many connections as it takes, and how it ended."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from cli.remote.errors import RunLostError, ServerError, UnreachableServerError
from cli.remote.http import Client
from cli.remote.servers import Server
from pipelines.loglines import LogLine, decode_line

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_PATIENCE_S: Final = 300.0  # a server that is away for longer is given up
_SILENCE_S: Final = 45.0  # heartbeats come every ten seconds
_UNAVAILABLE: Final = (502, 503, 504)


class Message(NamedTuple):
    """A server-sent event. id: "" when it has none."""

    event: str
    id: str
    data: str


class Follower:
    """The log of a run. ended: the run, as the API has it, once ``lines`` is exhausted.

    clock, pause: for tests. After a broken connection it goes on exactly behind the last line that it had.
    """

    def __init__(
        self,
        server: Server,
        number: int,
        *,
        after: int = 0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.ended: dict[str, Any] | None = None
        self.last = after
        self._server = server
        self._number = number
        self._clock = clock
        self._pause = pause

    def lines(self) -> Iterator[LogLine]:
        """Each line once, in order, until the run has ended. Raises RemoteError when the server stays away."""
        trouble_since: float | None = None
        wait_s = _FIRST_PAUSE_S
        while self.ended is None:
            before = self.last
            try:
                yield from self._connection()
            except (UnreachableServerError, ServerError, http.client.HTTPException, OSError) as error:
                if isinstance(error, ServerError) and error.status not in _UNAVAILABLE:
                    raise
                now = self._clock()
                if trouble_since is None or self.last > before:
                    trouble_since, wait_s = now, _FIRST_PAUSE_S
                if now - trouble_since > _PATIENCE_S:
                    raise RunLostError(
                        f"the server has been away for {_PATIENCE_S:.0f} seconds; run {self._number} may go on there",
                        hint=f"shiplap runs logs -f {self._number} follows it again",
                    ) from error
            if self.ended is None:
                self._pause(wait_s)
                wait_s = min(_LONGEST_PAUSE_S, wait_s * 2)

    def _connection(self) -> Iterator[LogLine]:
        with Client(self._server, timeout_s=_SILENCE_S) as client:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last)}
            response = client.stream(f"/runs/{self._number}/events", headers=headers)
            for message in messages(response):
                if message.event == "end":
                    self.ended = json.loads(message.data)
                    return
                if message.event == "message" and message.id:
                    self.last = int(message.id)
                    yield decode_line(message.data.encode())


def messages(stream: http.client.HTTPResponse) -> Iterator[Message]:
    """Decode text/event-stream; an event that was cut off is dropped.  Spec: HTML, "Server-sent events"."""
    event, identity = "message", ""
    data: list[str] = []
    while raw := stream.readline():
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield Message(event, identity, "\n".join(data))
            event, identity, data = "message", "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id":
            identity = value


def cancel_when(cancelled: threading.Event, server: Server, number: int) -> threading.Thread:
    """A thread that cancels the run once ``cancelled`` is set, be the server away just then or not.

    Whoever follows the run then sees it end.
    """

    def wait() -> None:
        cancelled.wait()
        while True:
            try:
                with Client(server, timeout_s=10) as client:
                    client.call("POST", f"/runs/{number}/cancel")
                return
            except ServerError as error:
                if error.status not in _UNAVAILABLE:
                    return  # it has ended
            except UnreachableServerError:
                pass
            time.sleep(_FIRST_PAUSE_S)

    thread = threading.Thread(target=wait, name="cancel", daemon=True)
    thread.start()
    return thread
