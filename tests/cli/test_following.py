"""Following a run while its server is away: what is said when, when it is given up, and that no line is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.remote import following
from cli.remote.build import _events
from cli.remote.errors import RunLostError, ServerError
from cli.remote.following import Follower, cancel_when, message_of, whole_text
from cli.remote.http import Client
from cli.remote.logchoice import LogChoice
from cli.remote.servers import Server
from core.events import StepOutput, StepStarted
from pipelines.logs.lines import LogLine
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.scripted import Held, scripted

RUN = 7
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 1000\n\n"
END = b'event: end\ndata: {"number": 7, "state": "succeeded"}\n\n'


class Clock:
    """Time that passes by pauses only."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Onlooker:
    """Keeps what it is told, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.told: list[tuple[str, float]] = []
        self.texts: list[str] = []
        self._clock = clock

    def away(self, text: str) -> None:
        self.told.append(("away", self._clock()))
        self.texts.append(text)

    def back(self) -> None:
        self.told.append(("back", self._clock()))


def event(number: int) -> bytes:
    return b'id: %d\ndata: {"n":%d,"kind":"output","text":"line %d","at":1.0}\n\n' % (number, number, number)


def refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def nobody() -> Server:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Server(f"http://127.0.0.1:{listener.getsockname()[1]}", "token")


def test_absence_is_told_after_three_seconds_and_given_up_after_sixty() -> None:
    clock = Clock()
    onlooker = Onlooker(clock)
    follower = Follower(nobody(), RUN, onlooker=onlooker, clock=clock, pause=clock.pause)
    with pytest.raises(RunLostError, match=r"away for 60 s \(.*Connection refused\); run 7 may go on there") as caught:
        list(follower.lines())
    assert [what for what, _ in onlooker.told] == ["away"]
    assert onlooker.told[0][1] == pytest.approx(1003.0)
    assert "Connection refused" in onlooker.texts[0]
    assert clock.now == pytest.approx(1060.0)
    assert caught.value.hint == "shiplap runs logs -f 7 follows it again"


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"503 Service Unavailable", b"504 Gateway Timeout"])
def test_proxy_whose_server_is_restarted_counts_as_away(status: bytes) -> None:
    clock = Clock()
    onlooker = Onlooker(clock)
    answers = [refusal(status)] * 6 + [STREAM + event(1) + END]
    with scripted(*answers) as there:
        follower = Follower(Server(there.url, "token"), RUN, onlooker=onlooker, clock=clock, pause=clock.pause)
        assert [line.n for line in follower.lines()] == [1]
    assert [what for what, _ in onlooker.told] == ["away", "back"]
    assert follower.ended == {"number": 7, "state": "succeeded"}


def test_refusal_is_no_absence() -> None:
    clock = Clock()
    with scripted(refusal(b"404 Not Found")) as there:
        with pytest.raises(ServerError):
            list(Follower(Server(there.url, "token"), RUN, clock=clock, pause=clock.pause).lines())
        assert len(there.asked) == 1


def test_stream_that_is_cut_anywhere_goes_on_behind_the_last_whole_line() -> None:
    clock = Clock()
    whole = event(1) + event(2) + event(3)
    for cut in range(len(whole)):
        had = sum(len(event(1)) * number <= cut for number in (1, 2, 3))
        rest = b"".join(map(event, range(had + 1, 4)))
        with scripted(STREAM + whole[:cut], STREAM + rest + END) as there:
            follower = Follower(Server(there.url, "token"), RUN, clock=clock, pause=clock.pause)
            assert [(line.n, line.text) for line in follower.lines()] == [(n, f"line {n}") for n in (1, 2, 3)]
            assert b"Last-Event-ID: %d\r\n" % had in there.asked[1]


def test_short_breaks_are_told_to_nobody() -> None:
    clock = Clock()
    onlooker = Onlooker(clock)
    answers = [STREAM + event(number) for number in range(1, 40)]
    with scripted(*answers, STREAM + END) as there:
        follower = Follower(Server(there.url, "token"), RUN, onlooker=onlooker, clock=clock, pause=clock.pause)
        assert [line.n for line in follower.lines()] == list(range(1, 40))
    assert onlooker.told == []


def test_server_that_greets_and_hangs_up_is_given_up() -> None:
    clock = Clock()
    with (
        scripted(STREAM) as there,
        pytest.raises(RunLostError, match="has ended the connection"),
    ):
        list(Follower(Server(there.url, "token"), RUN, clock=clock, pause=clock.pause).lines())
    assert clock.now == pytest.approx(1060.0)


@pytest.mark.parametrize("before", [(), (STREAM + event(1),)], ids=["from the start", "after a line"])
def test_server_that_accepts_and_says_nothing_is_away(
    monkeypatch: pytest.MonkeyPatch, before: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(following, "_TOLD_AFTER_S", 0.3)
    monkeypatch.setattr(following, "PATIENCE_S", 1.0)
    monkeypatch.setattr(following, "_ANSWER_S", 0.3)
    onlooker = Onlooker(time.monotonic)
    got: list[int] = []
    with scripted(*before, Held()) as there:
        follower = Follower(Server(there.url, "token"), RUN, onlooker=onlooker)
        with pytest.raises(RunLostError, match="timed out"):
            got.extend(line.n for line in follower.lines())
    assert got == [1] * len(before)
    assert [what for what, _ in onlooker.told] == ["away"]


def test_stream_that_falls_silent_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_SILENCE_S", 0.2)
    monkeypatch.setattr(following, "PATIENCE_S", 4.0)
    onlooker = Onlooker(time.monotonic)
    with scripted(Held(STREAM + event(1)), b"") as there, pytest.raises(RunLostError):
        list(Follower(Server(there.url, "token"), RUN, onlooker=onlooker).lines())
    assert "has been silent for" in onlooker.texts[0]


@pytest.mark.parametrize("answers", [None, [refusal(b"502 Bad Gateway")], [b""]], ids=["nobody", "proxy", "hangs up"])
def test_cancelling_at_a_server_that_is_away_is_told(answers: list[bytes] | None) -> None:
    cancelled, unheard = threading.Event(), threading.Event()
    if answers is None:
        server = nobody()
        thread = cancel_when(cancelled, Follower(server, RUN), server, RUN, unheard.set)
        cancelled.set()
        thread.join(stretched(30))
    else:
        with scripted(*answers) as there:
            server = Server(there.url, "token")
            thread = cancel_when(cancelled, Follower(server, RUN), server, RUN, unheard.set)
            cancelled.set()
            thread.join(stretched(30))
    assert unheard.is_set()


def test_cancelling_at_a_server_that_is_there_is_asked_once() -> None:
    cancelled, unheard = threading.Event(), threading.Event()
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with scripted(answer) as there:
        server = Server(there.url, "token")
        thread = cancel_when(cancelled, Follower(server, RUN), server, RUN, unheard.set)
        assert there.asked == []
        cancelled.set()
        eventually(lambda: bool(there.asked), why="the server is asked")
        thread.join(stretched(30))
        assert len(there.asked) == 1
        assert there.asked[0].startswith(b"POST /api/v1/runs/7/cancel ")
    assert not unheard.is_set()


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 200), max_size=12), end=st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_the_same_however_they_are_cut(cuts: list[int], end: bytes) -> None:
    lines = [
        "retry: 1", "", "id: 1", 'data: {"n": 1}', "", ": still here", "", "event: partial", "data: a", "data:b", "",
        "", "id: 2", "data: \u00e9", "", "id: 3", "data: cut off",
    ]  # fmt: skip
    data = end.join(line.encode() for line in lines)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    whole = b"".join(whole_text(iter([*pieces, b""]).__next__))
    found = [event.removeprefix(b"\n") for event in whole.split(b"\n\n")]
    assert [message_of(event)[1:] for event in found if event] == [
        ("", ""), ("1", '{"n": 1}'), ("", ""), ("", "a\nb"), ("2", "\u00e9")
    ]  # fmt: skip
    assert [message_of(event).event for event in found if b"partial" in event] == ["partial"]


def test_lines_among_other_events_come_once_each_and_in_order() -> None:
    odd = b'id: 2\ndata: {"n":2,"kind":"output","text":"id: 9\\ndata: ","at":1.0}\n\n'
    partial = b'event: partial\ndata: {"n":3,"kind":"output","text":"beg","at":1.0}\n\n'
    with scripted(STREAM + event(1) + odd + b": still here\n\n" + partial + b"\n" + event(3) + event(4) + END) as there:
        begun: list[LogLine] = []
        follower = Follower(Server(there.url, "token"), RUN, begun=begun.append)
        found = [(line.n, line.text) for line in follower.lines()]
    assert found == [(1, "line 1"), (2, "id: 9\ndata: "), (3, "line 3"), (4, "line 4")]
    assert ([line.text for line in begun], follower.last) == (["beg"], 4)


def test_lines_of_one_moment_are_one_piece_of_output() -> None:
    lines = [
        LogLine(1, "start", "RUN", 5.0, 3), LogLine(2, "output", "a", 6.0, 3, 1), LogLine(3, "output", "", 6.0, 3, 1),
        LogLine(4, "output", "err", 6.0, 3, 2), LogLine(5, "output", "b", 6.0, 3, 1),
        LogLine(6, "output", "c", 7.0, 3, 1), LogLine(7, "status", "attempt 2", 7.0),
        LogLine(8, "status", "attempt 3", 7.0),
    ]  # fmt: skip
    assert [(line.n, event) for line, event in _events(lines)] == [
        (1, StepStarted(3, 5.0)), (2, StepOutput(3, 1, b"a\n\n", 6.0)), (4, StepOutput(3, 2, b"err\n", 6.0)),
        (5, StepOutput(3, 1, b"b\n", 6.0)), (6, StepOutput(3, 1, b"c\n", 7.0)), (7, None), (8, None),
    ]  # fmt: skip


def test_a_page_in_place_of_a_log_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(Server("http://127.0.0.1:1", ""))
    monkeypatch.setattr(client, "get", lambda path, query: b"<html>")
    with pytest.raises(ServerError, match="no JSON of a service's"):
        list(LogChoice().stored(client, "/runs/1", 3))
