"""What the step that pushes a run's image says of it."""

from __future__ import annotations

import pytest

from builder.errors import BuildCancelledError
from core.errors import ShiplapError
from core.events import Event, StepFinished, StepInfo, StepProgress
from registry.client.monitor import LayerProgress, State
from registry.errors import RegistryError
from worker.pushstep import PushStep


class Events:
    """A monitor that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def emit(self, event: Event) -> None:
        self.heard.append(event)


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([("one", "Pushed"), ("two", "Pushed")], "2 layers sent"),
        ([("one", "Pushed"), ("two", "Layer already exists")], "1 layer sent"),
        ([("one", "Layer already exists"), ("two", "Mounted from")], "the registry had all layers"),
    ],
)
def test_layers_count_once_however_many_names_the_image_has(states: list[tuple[str, State]], told: str) -> None:
    events = Events()
    with PushStep(events, lambda name: StepInfo(7, name)) as step:
        for _ in ("app:7", "app:main", "app:latest"):
            transfer = step.transfer()
            for layer, state in states:
                transfer.layer(LayerProgress(layer, state, 10, 10))
    last = events.heard[-1]
    assert isinstance(last, StepFinished)
    assert last.reason == told


def test_bytes_of_all_layers_are_added_up_as_they_go_and_whole_once_they_are_there() -> None:
    events = Events()
    with PushStep(events, lambda name: StepInfo(7, name)) as step:
        transfer = step.transfer()
        for progress in (
            LayerProgress("one", "Waiting", 0, 10),
            LayerProgress("two", "Waiting", 0, 30),
            LayerProgress("one", "Pushing", 4, 10),
            LayerProgress("one", "Pushed", 4, 10),
            LayerProgress("two", "Mounted from", 0, 30, "team/base"),
        ):
            transfer.layer(progress)
    shown = [event for event in events.heard if isinstance(event, StepProgress)]
    assert shown == [StepProgress(7, "layers", done, 40) for done in (4, 10, 40)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(BuildCancelledError("cancelled"), "cancelled"), (RegistryError("the registry is away"), "failed")],
)
def test_push_that_ends_by_an_error_says_which(error: ShiplapError, outcome: str) -> None:
    events = Events()

    def push() -> None:
        with PushStep(events, lambda name: StepInfo(7, name)) as step:
            step.transfer().layer(LayerProgress("one", "Pushed", 10, 10))
            raise error

    with pytest.raises(type(error)):
        push()
    last = events.heard[-1]
    assert isinstance(last, StepFinished)
    assert (last.id, last.outcome, last.reason) == (7, outcome, str(error))


def test_run_that_pushes_nothing_has_no_such_step() -> None:
    events = Events()
    with PushStep(events, lambda name: StepInfo(7, name)):
        pass
    assert events.heard == []
