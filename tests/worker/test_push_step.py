"""What the step that pushes a run's image says of it."""

from __future__ import annotations

import pytest

from core.events import Event, StepFinished, StepInfo
from registry.client.monitor import LayerProgress, State
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
