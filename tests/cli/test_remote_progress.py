"""Lines of a run that have not ended, as a build on a server shows them: as one here does, and once."""

from __future__ import annotations

import io
import json
import re

import pytest

from cli.building.report import BuildReport
from cli.progress.jsonlines import JsonDisplay
from cli.progress.plain import PlainDisplay
from cli.remote.build import _Shown
from core.events import Event, StepOutput, StepProgress, StepStarted
from core.masking import Masker
from pipelines.logs.lines import LineMaker, LogLine, decode_line, encode_line, to_event
from tests.cli.test_progress_tty import Watched


class Report(BuildReport):
    """Hands events on to a display of the test's."""

    def __init__(self, display: object) -> None:
        super().__init__("quiet", io.StringIO())
        self._display = display
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._display.handle(event)  # type: ignore[attr-defined]


class Remote:
    """A worker's log and the command that follows it: each piece of output is followed by a look at what has begun."""

    def __init__(self, display: object) -> None:
        self.report = Report(display)
        self.shown = _Shown(self.report)
        self._maker = LineMaker(1, Masker([b"hunter2-hunter2"]), lambda: 100.0)

    def out(self, *pieces: bytes, step: int = 0, at: float = 100.0) -> None:
        for data in pieces:
            for line in self._maker.lines(StepOutput(step, 1, data, at)):
                event = to_event(decode_line(encode_line(line)))
                assert event is not None
                self.shown.emit(event)
            for line in self._maker.partials():
                self.shown.begin(decode_line(encode_line(line)))


def told(display: PlainDisplay, sink: io.StringIO) -> list[str]:
    display.close()
    return re.findall(r"^#2 \d+\.000 (.*)$", sink.getvalue(), re.MULTILINE)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"Password: ", b"wrong", b"\nnext\n"], ["Password: wrong", "next"]),
        ([b"one", b"\n", b"two\n"], ["one", "two"]),
        ([b"10 %", b"\r50 %", b"\r100 %\n"], ["10 %", "100 %"]),
        ([b"10 %\r", b"10 %\r", b"done\n"], ["done"]),
        ([b"1", b"\r100\n"], ["100"]),
        ([b"key hunter2", b"-hunter2 is", b" known\n"], ["key *** is known"]),
        ([b"x" * 5000, b"y\n"], ["x" * 5000 + "y"]),
        ([b"\xc3", b"\xbc", b"\n"], ["\u00fc"]),
    ],
    ids=range(8),
)
def test_line_that_began_is_told_once_when_it_ends(pieces: list[bytes], lines: list[str]) -> None:
    sink = io.StringIO()
    display = PlainDisplay(sink, clock=lambda: 100.0)
    remote = Remote(display)
    remote.out(*pieces)
    assert told(display, sink) == lines


def test_prompt_and_bar_are_seen_on_a_terminal_before_they_end() -> None:
    seen = Watched(columns=60)
    remote = Remote(seen.display)
    seen.plan("[internal] send build context", "[1/2] RUN ask", "[2/2] RUN load")
    seen.start(1)
    seen.start(2)
    remote.out(b"Password: ")
    assert "# Password:" in seen.look()
    remote.out(b" 10 %", b"\r 50 %", step=1)
    screen = seen.look()
    assert "# Password:" in screen
    assert "#  50 %" in screen
    assert "10 %" not in screen
    remote.out(b"\r100 %\n", step=1)
    remote.out(b"given\n")
    screen = seen.look()
    assert screen.count("Password: given") == screen.count("100 %") == 1
    assert screen.count("Password") == 1
    assert "50 %" not in screen


def test_attempt_that_was_lost_leaves_no_half_line_before_the_next_one_s() -> None:
    seen = Watched(columns=60)
    remote = Remote(seen.display)
    seen.plan("[internal] send build context", "[1/1] RUN ask")
    seen.start(1)
    remote.out(b"half")
    remote.shown.emit(StepStarted(0, 100.0))
    remote._maker = LineMaker(1, Masker(), lambda: 100.0)
    remote.out(b"whole\n")
    assert [line for line in seen.look().splitlines() if "#" in line] == [" => => # half", " => => # whole"]


def test_bytes_of_a_transfer_move() -> None:
    seen = Watched(columns=60)
    remote = Remote(seen.display)
    seen.plan("[internal] send build context", "pushing image")
    seen.start(1)
    remote.shown.emit(StepProgress(0, "layers", 0, 90_000_000))
    remote.shown.begin(LogLine(0, "progress", "layers", 100.0, 0, current_bytes=45_000_000, total_bytes=90_000_000))
    assert "# layers: 45MB / 90MB" in seen.look()


def test_last_lines_of_a_failure_have_no_halves() -> None:
    remote = Remote(PlainDisplay(io.StringIO()))
    remote.out(b"10 %", b"\r99 %", b"\nerror: no ", b"such file\n")
    assert b"".join(remote.shown._tails[1]) == b"10 %\r99 %\nerror: no such file\n"


def test_programs_get_the_output_as_it_came() -> None:
    sink = io.StringIO()
    remote = Remote(JsonDisplay(sink))
    remote.out(b"Password: ", b"given\n", b"10 %", b"\r50 %\n")
    assert "".join(json.loads(line)["text"] for line in sink.getvalue().splitlines()) == "Password: given\n10 %\r50 %\n"
