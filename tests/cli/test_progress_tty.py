"""The live display, seen through a terminal."""

from __future__ import annotations

import io
from textwrap import dedent

from cli.progress.screen import Row, Screen
from cli.progress.tty import TtyDisplay
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutcome, StepOutput, StepProgress, StepStarted, Warned
from tests.cli.terminal import Terminal


class Watched:
    """A display on a terminal whose clock and size the test sets."""

    def __init__(self, columns: int = 60, lines: int = 24, *, colours: bool = False) -> None:
        self.now = 100.0
        self.sink = io.StringIO()
        self.terminal = Terminal(columns, lines)
        screen = Screen(self.sink, size=lambda: (self.terminal.columns, self.terminal.lines), colours=colours)
        self.display = TtyDisplay(screen, clock=lambda: self.now)

    def plan(self, *names: str) -> None:
        self.display.handle(BuildPlanned(tuple(StepInfo(number, name) for number, name in enumerate(names))))

    def start(self, step: int) -> None:
        self.display.handle(StepStarted(step, self.now))

    def out(self, step: int, data: bytes) -> None:
        self.display.handle(StepOutput(step, 1, data, self.now))

    def end(self, step: int, outcome: StepOutcome = "done", took: float = 0.0) -> None:
        self.display.handle(StepFinished(step, outcome, took, self.now))

    def look(self, after_s: float = 1.0) -> str:
        self.now += after_s
        self.display.refresh()
        return self._update()

    def close(self) -> str:
        self.display.close()
        return self._update()

    def _update(self) -> str:
        self.terminal.write(self.sink.getvalue())
        self.sink.truncate(0)
        self.sink.seek(0)
        return self.terminal.text


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def test_running_step_shows_its_time_and_last_lines() -> None:
    seen = Watched(columns=40)
    seen.plan("[1/2] WORKDIR /x", "[2/2] RUN make")
    seen.start(0)
    seen.end(0, "cached")
    seen.start(1)
    seen.out(1, b"".join(b"line %d\n" % number for number in range(9)) + b"unfinished")
    assert seen.look(2.5) == golden("""
        [+] Building 2.5s (1/2)
         => CACHED [1/2] WORKDIR /x        0.0s
         => [2/2] RUN make                 2.5s
         => => # line 4
         => => # line 5
         => => # line 6
         => => # line 7
         => => # line 8
         => => # unfinished
        """)


def test_step_that_is_done_again_runs_again() -> None:
    seen = Watched(columns=40)
    seen.plan("RUN make")
    seen.start(0)
    seen.end(0, took=2.0)
    assert "(1/1)" in seen.look()
    seen.start(0)
    assert "(0/1)" in seen.look()


def test_summary_stays_without_the_output() -> None:
    seen = Watched(columns=40)
    seen.plan("[1/2] RUN a", "[2/2] RUN b", "[3/3] RUN never")
    seen.start(0)
    seen.out(0, b"noise\n")
    seen.look(1)
    seen.end(0, took=1.0)
    seen.start(1)
    seen.look(1)
    seen.end(1, "failed", took=1.04)
    assert seen.close() == golden("""
        [+] Building 2.0s (2/3)
         => [1/2] RUN a                    1.0s
         => ERROR [2/2] RUN b              1.0s
        """)


def test_build_that_is_over_at_once_paints_once() -> None:
    seen = Watched()
    seen.plan("[1/1] RUN a")
    seen.start(0)
    assert seen.look(0.1) == ""
    seen.end(0, "cached")
    assert "FINISHED" in seen.close()
    assert seen.sink.getvalue().count("Building") <= 1


def test_long_lines_and_names_are_cut_to_one_row() -> None:
    seen = Watched(columns=30)
    seen.plan("[1/1] RUN " + "x" * 100)
    seen.start(0)
    seen.out(0, b"y" * 500 + b"\n" + "日本語".encode() * 50 + b"\n")
    text = seen.look()
    assert len(text.splitlines()) == 4
    assert all("…" in line for line in text.splitlines()[1:])


def test_control_characters_of_the_output_are_harmless() -> None:
    seen = Watched()
    seen.plan("[1/1] RUN \x1b[2Jx")
    seen.start(0)
    seen.out(0, b"\x1b[2J\x1b[H\x1b]0;owned\x07\x1b[31mred\x1b[0m\tok\a\n")
    assert seen.look().endswith("# red     ok")  # the terminal of the test refuses every sequence it does not know


def test_many_steps_fit_into_a_small_window_running_ones_first() -> None:
    seen = Watched(columns=40, lines=8)
    seen.plan(*(f"[{number}/20] RUN {number}" for number in range(20)))
    for number in range(18):
        seen.start(number)
        seen.end(number)
    seen.start(18)
    seen.out(18, b"a\nb\n")
    text = seen.look()
    assert len(text.splitlines()) <= 7
    assert "more steps done" in text
    assert "[18/20] RUN 18" in text
    assert text.endswith("# b")


def test_more_running_steps_than_rows_never_scroll_the_window() -> None:
    seen = Watched(columns=40, lines=6)
    seen.plan(*(f"RUN {number}" for number in range(30)))
    for number in range(30):
        seen.start(number)
        seen.out(number, b"output\n")
    for _ in range(3):
        assert len(seen.look().splitlines()) <= 5


def test_summary_shows_every_step_even_when_taller_than_the_window() -> None:
    seen = Watched(columns=40, lines=8)
    seen.plan(*(f"RUN {number}" for number in range(20)))
    for number in range(20):
        seen.start(number)
        seen.end(number)
        seen.look(0.2)
    text = seen.close()
    assert len(text.splitlines()) == 21
    assert text.count("Building") == 1


def test_narrower_window_leaves_no_remains() -> None:
    seen = Watched(columns=80)
    seen.plan("[1/1] RUN " + "x" * 60)
    seen.start(0)
    seen.look()
    before = seen.terminal.text.splitlines()
    seen.terminal = Terminal(40, 24)
    seen.terminal.write("".join(line + "\n" for line in before))  # the terminal wraps what was there
    text = seen.look()
    assert text.count("Building") == 1
    assert len(text.splitlines()) == 2


def test_transfer_is_shown_while_it_runs() -> None:
    seen = Watched()
    seen.plan("[internal] load build context")
    seen.start(0)
    seen.display.handle(StepProgress(0, "transferring context", 12_000_000, 40_000_000))
    assert seen.look().endswith("# transferring context: 12MB / 40MB")


def test_warnings_follow_the_summary() -> None:
    seen = Watched()
    seen.plan("RUN a")
    seen.display.handle(Warned("mind this", 3))
    assert seen.close().endswith("1 warning found:\n - mind this (line 3)")


def test_colours_are_closed_on_every_row() -> None:
    sink = io.StringIO()
    Screen(sink, size=lambda: (20, 10), colours=True).paint([Row("a", style="good"), Row("b"), Row("c", style="bad")])
    assert sink.getvalue() == "\x1b[34ma\x1b[0m\x1b[K\nb\x1b[K\n\x1b[31mc\x1b[0m\x1b[K\n\x1b[J"
