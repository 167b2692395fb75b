"""Follows a run: its log as events, over as many connections as it takes, and its end."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from cli.remote.errors import RunLostError, ServerError, UnreachableServerError
from cli.remote.http import Client
from cli.remote.servers import Server
from pipelines.logs.lines import LogLine, decode_line

_READ_BYTES: Final = 256 << 10
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_TOLD_AFTER_S: Final = 3.0
PATIENCE_S: Final = 60.0  # a restart and an upgrade take less
_ANSWER_S: Final = 10.0  # until an answer begins, once the user knows that the server is away
_SILENCE_S: Final = 10.0 + _TOLD_AFTER_S  # heartbeats come every ten seconds
_CANCELLING_S: Final = 2.0  # after Ctrl-C nobody wants to wait for a silent service
UNAVAILABLE: Final = (502, 503, 504)  # also from a proxy whose server is being restarted


_END: Final = b"\n\n"
_GREETING: Final = 10  # events, before which something else than ``retry`` comes
_LINES: Final = re.compile(rb"(?:id: [0-9]{1,18}\ndata: [^\n]+\n\n)+")
_BETWEEN: Final = re.compile(rb"\n\nid: [0-9]+\ndata: ")
_batches: Final = msgspec.json.Decoder(list[LogLine])


class Message(NamedTuple):
    """A server-sent event. id: "" when it has none."""

    event: str
    id: str
    data: str


class Onlooker(Protocol):
    """Learns whether the server is there."""

    def away(self, text: str) -> None:
        """The server has been away for three seconds. text: why, and what becomes of the run."""

    def back(self) -> None:
        """The server answers again."""


class Follower:
    """Follows the log of a run, or of one of its jobs. After a broken connection it goes on exactly after the last line
    that it had.

    job: its place in the run; 0: the run's own log.
    ended: the run, or that job, as in the API, once ``lines`` is exhausted.
    last: the number of the last line that came.
    away: whether the onlooker knows that the server is away.
    has_jobs: the run is a pipeline's and is planned; ``lines`` ends by that where ``until_jobs`` is set.
    begun: called with each line that has begun but not ended, and again as it grows; it comes whole when it ends.
    clock, pause: for tests.
    """

    def __init__(
        self,
        server: Server,
        number: int,
        *,
        job: int = 0,
        until_jobs: bool = False,
        after: int = 0,
        onlooker: Onlooker | None = None,
        begun: Callable[[LogLine], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.ended: dict[str, Any] | None = None
        self.has_jobs = False
        self.last = after
        self.away = False
        self._server = server
        self._number = number
        self._path = f"/runs/{number}/jobs/{job}/events" if job else f"/runs/{number}/events"
        self._until_jobs = until_jobs
        self._onlooker = onlooker
        self._begun = begun
        self._clock = clock
        self._pause = pause
        self._absent_since: float | None = None
        self._next_pause_s = _FIRST_PAUSE_S

    def lines(self) -> Iterator[LogLine]:
        """As ``batches``, line by line."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[LogLine]]:
        """Each line once, in order, until the run has ended, as many at a time as have come.

        Raises RemoteError when the server stays away.
        """
        while not self._is_over:
            began = self._clock()
            try:
                yield from self._connection()
                began = self._clock()
                why = f"{self._server.url} has ended the connection"
            except (UnreachableServerError, ServerError) as error:
                if isinstance(error, ServerError) and error.status not in UNAVAILABLE:
                    raise
                why = error.message
            except TimeoutError:
                began = self._clock() - _TOLD_AFTER_S  # when a heartbeat was due
                why = f"{self._server.url} has been silent for {_SILENCE_S:.0f} s"
            except (http.client.HTTPException, OSError) as error:
                began = self._clock()
                why = f"the connection to {self._server.url} broke: {error}"
            if not self._is_over:
                self._wait(why, began)

    @property
    def _is_over(self) -> bool:
        return self.ended is not None or (self.has_jobs and self._until_jobs)

    def _connection(self) -> Iterator[list[LogLine]]:
        with Client(self._server, timeout_s=self._answer_s()) as client:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last)}
            response = client.stream(self._path, headers=headers, silence_s=_SILENCE_S)
            for text in whole_text(lambda: response.read1(_READ_BYTES)):
                self._heard(text)
                at = 0
                while at < len(text):
                    found = _LINES.match(text, at)
                    if found is not None:
                        batch = _lines_of(found[0])
                        self.last, at = batch[-1].n, found.end()
                        yield batch
                        continue
                    end = text.index(_END, at)
                    event, at = text[at:end].removeprefix(b"\n"), end + len(_END)
                    line = _as_line(event)
                    if line is not None:
                        self.last = line[0]
                        yield [decode_line(line[1])]
                        continue
                    self._told(message_of(event))
                    if self._is_over:
                        return

    def _told(self, message: Message) -> None:
        """Note what an event says that is no line."""
        if message.event == "end":
            self.ended = json.loads(message.data)
        elif message.event == "jobs":
            self.has_jobs = True
        elif message.event == "partial" and self._begun is not None:
            self._begun(decode_line(message.data.encode()))

    def _answer_s(self) -> float:
        """How long to wait for an answer to begin: at most until the user has to be told something."""
        if self._absent_since is None:
            return _TOLD_AFTER_S
        absent_s = self._clock() - self._absent_since
        return max(_FIRST_PAUSE_S, min(_ANSWER_S, (PATIENCE_S if self.away else _TOLD_AFTER_S) - absent_s))

    def _heard(self, text: bytes) -> None:
        """Something came, so the server is there. But its greeting alone does not prove that it has the log."""
        if self.away:
            self.away = False
            if self._onlooker is not None:
                self._onlooker.back()
        events = text.split(_END, _GREETING)  # of a long text the first ones say it
        if any(event and not event.startswith(b"retry:") for event in events):
            self._absent_since, self._next_pause_s = None, _FIRST_PAUSE_S

    def _wait(self, why: str, began: float) -> None:
        """Wait before the next try. began: since when the server is away, if this is the first. Raises RunLostError."""
        if self._absent_since is None:
            self._absent_since = began
        absent_s = self._clock() - self._absent_since
        if absent_s >= PATIENCE_S:
            raise RunLostError(
                f"the server has been away for {PATIENCE_S:.0f} s ({why}); run {self._number} may go on there",
                hint=f"shiplap runs logs -f {self._number} follows it again",
            )
        if absent_s >= _TOLD_AFTER_S and not self.away:
            self.away = True
            if self._onlooker is not None:
                self._onlooker.away(
                    f"{why}: trying again until it has been away for {PATIENCE_S:.0f} s;"
                    f" run {self._number} goes on there"
                )
        left_s = (PATIENCE_S if self.away else _TOLD_AFTER_S) - absent_s
        self._pause(min(self._next_pause_s, left_s))
        self._next_pause_s = min(_LONGEST_PAUSE_S, self._next_pause_s * 2)


def whole_text(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Server-sent events with their ends, as many at a time as have come; one that was cut off is dropped.

    read: what has come by now; b"" at the end. What has come may be no whole event, and then the text is empty.
    """
    rest = b""
    while data := read():
        if b"\r" in data or rest.endswith(b"\r"):  # no line of ours ends so, but the specification allows it
            data, rest = (rest + data), b""
            held = b"\r" if data.endswith(b"\r") else b""
            data = data.removesuffix(held).replace(b"\r\n", b"\n") + held
        whole, end, rest = (rest + data).rpartition(_END)
        yield whole + end


def message_of(event: bytes) -> Message:
    """One event, decoded.  Spec: HTML, "Server-sent events"."""
    kind, identity = "message", ""
    data: list[str] = []
    for line in event.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            identity = value
    return Message(kind, identity, "\n".join(data))


def _lines_of(text: bytes) -> list[LogLine]:
    """The lines of events that are nothing else, as services send them: decoded at once, which takes half the time."""
    data, between = _BETWEEN.subn(b",", text[text.index(b"\ndata: ") + 7 : -len(_END)])
    found = _batches.decode(b"[%s]" % data)
    if len(found) != between + 1:
        raise msgspec.ValidationError("an event has not exactly one line")
    return found


def _as_line(event: bytes) -> tuple[int, bytes] | None:
    """The number and the data of an event that is a line of a log, as services send it; None for others."""
    head, found, data = event.partition(b"\ndata: ")
    number = head[4:]
    if found and head[:4] == b"id: " and number.isdigit() and b"\n" not in data:
        return int(number), data
    return None


def cancel_when(
    cancelled: threading.Event, follower: Follower, server: Server, number: int, unheard: Callable[[], object]
) -> threading.Thread:
    """A thread that cancels the run once ``cancelled`` is set; whoever follows the run then sees it end.

    unheard: called in that thread when the server is away.
    """

    def wait() -> None:
        cancelled.wait()
        try:
            with Client(server, timeout_s=_FIRST_PAUSE_S if follower.away else _CANCELLING_S) as client:
                client.call("POST", f"/runs/{number}/cancel")
        except ServerError as error:
            if error.status in UNAVAILABLE:  # any other status: the run has ended
                unheard()
        except UnreachableServerError:
            unheard()

    thread = threading.Thread(target=wait, name="cancel", daemon=True)
    thread.start()
    return thread
