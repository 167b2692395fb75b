"""What is shown of transfers to and from a registry, on a terminal and in a pipe; and how often it is reported."""

from __future__ import annotations

import io

import pytest

from cli.progress.screen import Row, Screen
from cli.progress.transfers import PlainTransfers, TtyTransfers, open_transfers
from core.events import Event, StepProgress
from registry.client.monitor import LayerProgress, LayerReporter, State, StepTransferMonitor
from tests.toolkit.bounds import eventually


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Broken(io.StringIO):
    """Nobody reads it any more."""

    written = 0

    def write(self, text: str) -> int:
        self.written += 1
        raise BrokenPipeError


def screen(sink: io.StringIO, lines: int = 24) -> Screen:
    return Screen(sink, size=lambda: (80, lines), colours=False)


def layer(name: str, state: State, current: int = 0, total: int = 0, detail: str = "") -> LayerProgress:
    return LayerProgress(name, state, current, total, detail)


def test_lines_of_a_pipe_come_when_a_layer_is_done_and_now_and_then() -> None:
    sink, clock = io.StringIO(), Clock()
    with PlainTransfers(sink, clock=clock) as display:
        display.message("latest: Pulling\nfrom x")
        display.layer(layer("a", "Waiting"))
        display.layer(layer("a", "Downloading", 1000, 5000))
        clock.now += 9.9
        display.layer(layer("a", "Downloading", 2000, 5000))
        clock.now += 0.1
        display.layer(layer("a", "Downloading", 3000, 5000))
        clock.now += 9.9
        display.layer(layer("a", "Downloading", 4000, 5000))
        display.layer(layer("b", "Pushing", 7, 0))
        clock.now += 20
        display.layer(layer("b", "Pushing", 8, 0))
        display.layer(layer("c", "Compressing", 1, 2))
        display.layer(layer("a", "Pull complete", 5000, 5000))
        display.layer(layer("b", "Mounted from", 0, 0, "x/y"))
    assert sink.getvalue().splitlines() == [
        "latest: Pulling from x", "a: Downloading 3kB/5kB", "b: Pushing 8B", "a: Pull complete", "b: Mounted from x/y",
    ]  # fmt: skip


def test_nothing_is_shown_of_a_quiet_transfer_and_a_broken_pipe_ends_the_lines_only() -> None:
    with open_transfers("quiet", io.StringIO()) as quiet:
        quiet.message("x")
        quiet.layer(layer("a", "Pushed"))
    sink = Broken()
    with open_transfers("plain", sink) as display:
        display.message("x")
        display.layer(layer("a", "Pushed"))
    assert sink.written == 1
    assert isinstance(open_transfers("tty", io.StringIO()), TtyTransfers)


def test_rows_have_a_bar_and_a_rate_while_a_layer_moves() -> None:
    clock = Clock()
    display = TtyTransfers(screen(io.StringIO()), clock=clock)
    display.message("latest: Pulling")
    display.layer(layer("a", "Waiting"))
    display.layer(layer("b", "Downloading", 0, 4000))
    display.layer(layer("c", "Downloading", 10, 0))
    assert display.rows(None) == [
        Row("latest: Pulling"),
        Row("a: Waiting"),
        Row(f"b: Downloading [>{' ' * 29}] 0B/4kB"),
        Row("c: Downloading 10B"),
    ]
    clock.now += 2
    display.layer(layer("b", "Downloading", 1000, 4000))
    assert display.rows(None)[2] == Row(f"b: Downloading [{'=' * 7}>{' ' * 22}] 1kB/4kB", "500B/s")
    clock.now += 2
    display.layer(layer("b", "Downloading", 4000, 4000))
    assert display.rows(None)[2] == Row(f"b: Downloading [{'=' * 30}] 4kB/4kB", "1.5kB/s")  # of the last three seconds
    display.layer(layer("b", "Pull complete"))
    display.layer(layer("c", "Mounted from", detail="x\ny"))
    assert display.rows(None)[2:] == [Row("b: Pull complete", style="good"), Row("c: Mounted from x y", style="good")]


def test_rate_begins_anew_with_another_state_and_is_none_at_first() -> None:
    clock = Clock()
    display = TtyTransfers(screen(io.StringIO()), clock=clock)
    display.layer(layer("a", "Downloading", 0, 100))
    clock.now += 0.09
    display.layer(layer("a", "Downloading", 50, 100))
    assert display.rows(None)[0].right == ""
    clock.now += 0.02
    assert display.rows(None)[0].right != ""
    display.layer(layer("a", "Pushing", 60, 100))
    assert display.rows(None)[0].right == ""
    clock.now += 1
    display.layer(layer("a", "Pushing", 50, 100))
    assert display.rows(None)[0].right == ""  # what begins again has no rate below zero


def test_layers_that_are_done_give_way_where_there_is_no_room() -> None:
    display = TtyTransfers(screen(io.StringIO()), clock=Clock())
    for number in range(8):
        display.layer(layer(str(number), "Pushed" if number < 5 else "Waiting"))
    assert [row.text for row in display.rows(10)] == [f"{n}: {'Pushed' if n < 5 else 'Waiting'}" for n in range(8)]
    assert [row.text for row in display.rows(9)] == [
        "… 2 more layers done", "2: Pushed", "3: Pushed", "4: Pushed", "5: Waiting", "6: Waiting", "7: Waiting",
    ]  # fmt: skip
    assert [row.text for row in display.rows(4)] == ["… 5 more layers done", "5: Waiting", "6: Waiting"]
    assert [row.text for row in display.rows(3)] == ["… 5 more layers done", "5: Waiting"]
    assert len(display.rows(0)) == 1
    assert len(display.rows(None)) == 8


def test_terminal_is_painted_while_it_goes_on_and_at_the_end() -> None:
    sink = io.StringIO()
    with TtyTransfers(screen(sink)) as display:
        display.layer(layer("a", "Downloading", 1, 2))
        eventually(lambda: "a: Downloading" in sink.getvalue())
        display.layer(layer("a", "Pull complete"))
    assert sink.getvalue().rpartition("\x1b[1A")[2].startswith("a: Pull complete")
    broken = Broken()
    with TtyTransfers(screen(broken)) as display:
        eventually(lambda: broken.written > 0)
    assert broken.written == 1


class Noted:
    def __init__(self) -> None:
        self.layers: list[LayerProgress] = []
        self.events: list[Event] = []

    def layer(self, progress: LayerProgress) -> None:
        self.layers.append(progress)

    def message(self, text: str) -> None: ...

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_moving_bytes_are_reported_ten_times_a_second_and_the_end_always() -> None:
    noted, clock = Noted(), Clock()
    reporter = LayerReporter(noted, "a", 100, clock=clock)
    reporter.state("Waiting")
    reporter.moved("Downloading", 1)
    clock.now += 0.09
    reporter.moved("Downloading", 2)
    clock.now += 0.02
    reporter.moved("Downloading", 3)
    reporter.moved("Downloading", 4)
    reporter.moved("Downloading", 100)
    reporter.total(200)
    reporter.moved("Downloading", 150)
    reporter.state("Mounted from", "x", current_bytes=7)
    assert noted.layers == [
        layer("a", "Waiting", 0, 100), layer("a", "Downloading", 1, 100), layer("a", "Downloading", 3, 100),
        layer("a", "Downloading", 100, 100), layer("a", "Mounted from", 7, 200, "x"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "current"),
    [
        ("Downloading", 5),
        ("Pushing", 5),
        ("Pull complete", 9),
        ("Pushed", 9),
        ("Waiting", None),
        ("Already exists", None),
    ],
)
def test_transfer_is_the_progress_of_a_step(state: State, current: int | None) -> None:
    noted = Noted()
    monitor = StepTransferMonitor(noted, 3)
    monitor.message("x")
    monitor.layer(layer("a", state, 5, 9))
    assert noted.events == ([] if current is None else [StepProgress(3, "layer a", current, 9)])
