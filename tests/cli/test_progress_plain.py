"""The display for pipes, held against the text that it must give."""

from __future__ import annotations

import io
from collections.abc import Iterable
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.progress.plain import PlainDisplay
from cli.progress.text import LineSplitter
from core.events import (
    BuildPlanned,
    Event,
    StepFinished,
    StepInfo,
    StepOutcome,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)

PLAN = BuildPlanned(
    (StepInfo(0, "[internal] load build context"), StepInfo(1, "[1/2] RUN make", line=2), StepInfo(2, "[2/2] RUN test"))
)


def start(step: int, at: float) -> StepStarted:
    return StepStarted(step, 100 + at)


def out(step: int, at: float, data: bytes, stream: int = 1) -> StepOutput:
    return StepOutput(step, 2 if stream == 2 else 1, data, 100 + at)


def end(
    step: int, at: float, outcome: StepOutcome = "done", took: float = 0.0, reason: str | None = None
) -> StepFinished:
    return StepFinished(step, outcome, took, 100 + at, reason)


def shown(events: Iterable[Event]) -> str:
    sink = io.StringIO()
    now = [100.0]
    display = PlainDisplay(sink, clock=lambda: now[0])
    for event in events:
        now[0] = getattr(event, "at", now[0])
        display.handle(event)
        display.refresh()
    display.close()
    return sink.getvalue()


def golden(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_steps_one_after_the_other() -> None:
    events: list[Event] = [
        PLAN,
        *(start(0, 0), end(0, 0.1, took=0.1)),
        *(start(1, 1), out(1, 1.25, b"compiling\nlin"), out(1, 1.5, b"king\n"), end(1, 2.23, took=1.23)),
        *(start(2, 2.5), end(2, 2.5, "cached")),
    ]
    assert shown(events) == golden("""
        #1 [internal] load build context
        #1 DONE 0.1s

        #2 [1/2] RUN make
        #2 0.250 compiling
        #2 0.500 linking
        #2 DONE 1.2s

        #3 [2/2] RUN test
        #3 CACHED
        """)


def test_step_that_is_done_again_by_another_attempt() -> None:
    """Its worker was lost: what had been done is done once more. (That once filled the memory with its headers.)"""
    events: list[Event] = [
        PLAN,
        *(start(1, 0), end(1, 1, took=1), PLAN, start(1, 2), out(1, 3, b"again\n"), end(1, 4, took=2)),
        *(start(1, 5), end(1, 5, "cached")),
    ]
    assert shown(events) == golden("""
        #2 [1/2] RUN make
        #2 DONE 1.0s

        #2 [1/2] RUN make
        #2 1.000 again
        #2 DONE 2.0s

        #2 [1/2] RUN make
        #2 CACHED
        """)


def test_parallel_steps_take_turns_and_nothing_is_lost() -> None:
    events: list[Event] = [
        PLAN,
        *(start(1, 0), start(2, 0), out(1, 1, b"a1\n"), out(2, 2, b"b1\n"), out(1, 3, b"a2\n"), end(2, 4, took=4)),
        *(out(1, 5, b"a3\n"), end(1, 6, took=6)),
    ]
    assert shown(events) == golden("""
        #2 [1/2] RUN make
        #2 1.000 a1
        #2 3.000 a2
        #2 5.000 a3
        #2 DONE 6.0s

        #3 [2/2] RUN test
        #3 2.000 b1
        #3 DONE 4.0s
        """)


def test_step_that_waits_too_long_gets_its_turn() -> None:
    events: list[Event] = [
        PLAN,
        *(start(1, 0), start(2, 0), out(1, 1, b"a1\n"), out(2, 2, b"b1\n"), out(2, 8, b"b2\n"), out(1, 9, b"a2\n")),
        *(end(2, 10, took=10), end(1, 11, took=11)),
    ]
    assert shown(events) == golden("""
        #2 [1/2] RUN make
        #2 1.000 a1
        #2 ...

        #3 [2/2] RUN test
        #3 2.000 b1
        #3 8.000 b2
        #3 DONE 10.0s

        #2 [1/2] RUN make
        #2 9.000 a2
        #2 DONE 11.0s
        """)


def test_last_line_without_an_end_is_shown_when_the_step_ends() -> None:
    events: list[Event] = [
        PLAN,
        start(1, 0),
        out(1, 0.5, b"no newline", stream=2),
        end(1, 1, "failed", 1.0, "exit code: 2"),
    ]
    assert shown(events) == golden("""
        #2 [1/2] RUN make
        #2 1.000 no newline
        #2 ERROR: exit code: 2
        """)


def test_characters_split_between_events_and_streams_do_not_mix() -> None:
    snowman = "☃\n".encode()
    events: list[Event] = [
        PLAN,
        start(1, 0),
        out(1, 0, snowman[:2]),
        out(1, 0, b"err\n", stream=2),
        out(1, 0, snowman[2:]),
        end(1, 0),
    ]
    assert "#2 0.000 err\n#2 0.000 ☃\n" in shown(events)


def test_progress_bar_gives_a_line_each_second_and_its_end() -> None:
    ticks = [out(1, 1 + tick / 10, b"\r%d%%" % tick) for tick in range(50)]
    bar = [
        line
        for line in shown([PLAN, start(1, 0), *ticks, out(1, 6, b"\rdone\n"), end(1, 7)]).splitlines()
        if "%" in line
    ]
    assert 3 <= len(bar) <= 6


def test_control_sequences_do_not_reach_the_log() -> None:
    text = shown([PLAN, start(1, 0), out(1, 0, b"\x1b[2J\x1b]0;t\x07clean\n"), end(1, 0)])
    assert "#2 0.000 clean\n" in text
    assert "\x1b" not in text


def test_cancelled_step_and_reason_of_a_miss() -> None:
    events: list[Event] = [
        PLAN,
        start(1, 0),
        end(1, 1, "done", 1.0, "src/main.c changed"),
        start(2, 1),
        end(2, 2, "cancelled"),
    ]
    text = shown(events)
    assert "#2 DONE 1.0s (src/main.c changed)\n" in text
    assert "#3 CANCELED\n" in text


def test_transfers_are_told_at_their_end_and_seldom_before() -> None:
    steps = [StepProgress(0, "transferring context", n * 1_000_000, 3_000_000) for n in range(4)]
    text = shown([PLAN, start(0, 0), *steps, end(0, 1)])
    assert text.count("transferring context") == 1
    assert "#1 transferring context: 3MB / 3MB\n" in text


def test_warnings_come_last() -> None:
    warned = Warned("use JSON form\x1b[2J", line=7, rule="JSONArgsRecommended")
    text = shown([PLAN, warned, Warned("and this"), start(1, 0), end(1, 0)])
    assert text.endswith("\n2 warnings found:\n - JSONArgsRecommended: use JSON form (line 7)\n - and this\n")


def test_steps_that_no_plan_named_still_have_a_name() -> None:
    assert shown([start(7, 0), end(7, 0)]).startswith("#8 step 8\n")


def test_step_that_never_ended_shows_what_it_wrote() -> None:
    assert "#3 1.000 b\n" in shown([PLAN, start(1, 0), start(2, 0), out(2, 1, b"b\n")])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="ab \t\n\r\x1b[m\u00e9\u3000", max_size=40).map(str.encode), max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_lines_look_the_same_taken_many_at_a_time_or_each(texts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(texts)
    pieces: list[bytes] = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]

    def shown() -> str:
        sink = io.StringIO()
        display = PlainDisplay(sink, clock=lambda: 7.0)
        display.handle(StepStarted(0, 5.0))
        for number, piece in enumerate(pieces):
            display.handle(StepOutput(0, 2 if number % 2 else 1, piece, 6.0))
        display.close()
        return sink.getvalue()

    at_once = shown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LineSplitter, "feed_plain", lambda self, data: None)
        assert at_once == shown()
