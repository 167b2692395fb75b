"""Carrying events to a display, and JSON progress."""

from __future__ import annotations

import io
import json
import threading
import time

from cli.progress.jsonlines import JsonDisplay
from cli.progress.pump import Pump
from core.events import BuildPlanned, Event, StepFinished, StepInfo, StepOutput, StepProgress, StepStarted, Warned
from tests.toolkit.bounds import stretched


class Recorder:
    interval_s = 0.01

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.refreshes = 0
        self.closed = False

    def handle(self, event: Event) -> None:
        self.seen.append(event)

    def refresh(self) -> None:
        self.refreshes += 1

    def close(self) -> None:
        self.closed = True


def output(step: int, number: int) -> StepOutput:
    return StepOutput(step, 1, b"%d\n" % number, 0.0)


def send(pump: Pump[Event], step: int) -> None:
    for number in range(5000):
        pump.emit(output(step, number))


def test_events_of_several_threads_arrive_each_threads_in_order() -> None:
    display = Recorder()
    with Pump(display) as pump:
        threads = [threading.Thread(target=send, args=(pump, step)) for step in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert display.closed
    for step in range(4):
        mine = [event.data for event in display.seen if isinstance(event, StepOutput) and event.id == step]
        assert mine == [b"%d\n" % n for n in range(5000)]


def test_closing_twice_is_allowed() -> None:
    pump = Pump(Recorder())
    pump.close()
    pump.close()


def test_build_goes_on_when_nobody_reads_the_progress() -> None:
    class Gone(Recorder):
        def refresh(self) -> None:
            raise BrokenPipeError

    with Pump(Gone()) as pump:
        for number in range(10_000):
            pump.emit(output(0, number))


def test_display_is_refreshed_while_nothing_happens() -> None:
    display = Recorder()
    with Pump(display):
        deadline = time.monotonic() + stretched(10)
        while display.refreshes < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert display.refreshes >= 3


def test_slow_reader_holds_the_build_up_instead_of_filling_memory() -> None:
    gate = threading.Event()

    class Stuck(Recorder):
        def handle(self, event: Event) -> None:
            gate.wait(stretched(10))
            super().handle(event)

    display = Stuck()
    pump = Pump(display)
    sent = []

    def send() -> None:
        for number in range(5000):
            pump.emit(output(0, number))
            sent.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert len(sent) < 5000
    gate.set()
    thread.join()
    pump.close()
    assert len(display.seen) == 5000


def test_json_has_an_object_for_every_kind_of_event() -> None:
    snowman = "☃".encode()
    events: list[Event] = [
        BuildPlanned((StepInfo(0, "[1/1] RUN a", "build", 3),)),
        StepStarted(0, 1.5),
        StepOutput(0, 1, b"x" + snowman[:1], 1.6),
        StepOutput(0, 2, b"\xff\n", 1.6),
        StepOutput(0, 1, snowman[1:], 1.7),
        StepProgress(0, "exporting", 5, 10),
        Warned("careful", 3, "Rule"),
        StepFinished(0, "failed", 0.5, 2.0, "exit code: 1"),
    ]
    sink = io.StringIO()
    display = JsonDisplay(sink)
    for event in events:
        display.handle(event)
    display.close()
    assert [json.loads(line) for line in sink.getvalue().splitlines()] == [
        {"event": "plan", "steps": [{"id": 0, "name": "[1/1] RUN a", "stage": "build", "line": 3}]},
        {"event": "start", "id": 0, "at": 1.5},
        {"event": "output", "id": 0, "stream": 1, "text": "x", "at": 1.6},
        {"event": "output", "id": 0, "stream": 2, "text": "�\n", "at": 1.6},
        {"event": "output", "id": 0, "stream": 1, "text": "☃", "at": 1.7},
        {"event": "progress", "id": 0, "what": "exporting", "current_bytes": 5, "total_bytes": 10},
        {"event": "warning", "message": "careful", "line": 3, "rule": "Rule"},
        {"event": "finish", "id": 0, "outcome": "failed", "duration_s": 0.5, "at": 2.0, "reason": "exit code: 1"},
    ]
