"""The push of a run's image as a step of the build: one row, with the bytes of all its layers together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from builder.errors import BuildCancelledError
from core.events import BuildPlanned, Monitor, StepFinished, StepInfo, StepOutcome, StepProgress, StepStarted
from registry.client.monitor import FINAL_STATES, LayerProgress

_NAME: Final = "pushing image"
_WHAT: Final = "layers"


class PushStep:
    """Shows the pushes of a run as one step, as a context manager.

    The step begins with the first transfer; where nothing is sent anywhere there is none.

    new_step: makes the step, behind all steps of the build.
    """

    def __init__(self, monitor: Monitor, new_step: Callable[[str], StepInfo]) -> None:
        self._monitor = monitor
        self._new_step = new_step
        self._step: StepInfo | None = None
        self._began = 0.0
        self._transfers: list[_Transfer] = []

    def transfer(self) -> _Transfer:
        """The monitor of one more push."""
        if self._step is None:
            self._began = time.monotonic()
            self._step = self._new_step(_NAME)
            self._monitor.emit(BuildPlanned((self._step,)))
            self._monitor.emit(StepStarted(self._step.id, time.time()))
        made = _Transfer(self._monitor, self._step.id)
        self._transfers.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._step is None:
            return
        outcome: StepOutcome = "done"
        if error is not None:
            outcome = "cancelled" if isinstance(error, BuildCancelledError) else "failed"
        reason = self._told() if error is None else str(error)
        duration_s = time.monotonic() - self._began
        self._monitor.emit(StepFinished(self._step.id, outcome, duration_s, time.time(), reason))

    def _told(self) -> str:
        sent = len(set().union(*(transfer.sent for transfer in self._transfers)))
        if sent:
            return "1 layer sent" if sent == 1 else f"{sent} layers sent"
        return "the registry had all layers"


class _Transfer:
    """A TransferMonitor that adds up. sent: the layers that had to be sent; small ones are sent without asking."""

    def __init__(self, monitor: Monitor, step_id: int) -> None:
        self._monitor = monitor
        self._step_id = step_id
        self._lock = threading.Lock()
        self._layers: dict[str, LayerProgress] = {}

    def layer(self, progress: LayerProgress) -> None:
        with self._lock:
            self._layers[progress.id] = progress
            current = sum(_done_bytes(layer) for layer in self._layers.values())
            total = sum(layer.total_bytes for layer in self._layers.values())
        if progress.state == "Pushing" or progress.state in FINAL_STATES:
            self._monitor.emit(StepProgress(self._step_id, _WHAT, current, total))

    def message(self, text: str) -> None:
        del text  # the step's own name says the same

    @property
    def sent(self) -> set[str]:
        with self._lock:
            return {name for name, layer in self._layers.items() if layer.state == "Pushed"}


def _done_bytes(layer: LayerProgress) -> int:
    return layer.total_bytes if layer.state in FINAL_STATES else layer.current_bytes
