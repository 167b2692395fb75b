"""Progress of transfers, as data: what the command line paints and a build reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from core.events import Monitor, StepProgress

State: TypeAlias = Literal[
    "Waiting",
    "Downloading",
    "Pull complete",
    "Already exists",
    "Compressing",
    "Pushing",
    "Pushed",
    "Layer already exists",
    "Mounted from",
]
FINAL_STATES: Final = frozenset({"Pull complete", "Already exists", "Pushed", "Layer already exists", "Mounted from"})

_INTERVAL_S = 0.1


class LayerProgress(NamedTuple):
    """Where one layer stands, in docker's words.

    id: the first 12 digits of the digest that names it here.
    total_bytes: 0 when unknown.
    detail: what follows the state, as the repository of a mount.
    """

    id: str
    state: State
    current_bytes: int = 0
    total_bytes: int = 0
    detail: str = ""


class TransferMonitor(Protocol):
    """Receives progress from any thread; must be quick and must not raise."""

    def layer(self, progress: LayerProgress) -> None: ...

    def message(self, text: str) -> None:
        """A line for the person who waits: ``latest: Pulling from library/debian``."""


class NullTransferMonitor:
    """Drops everything."""

    def layer(self, progress: LayerProgress) -> None:
        del progress

    def message(self, text: str) -> None:
        del text


class StepTransferMonitor:
    """Transfers as the progress of one build step: ``sha256 1f2e3d4c5b6a: 12MB / 40MB``."""

    def __init__(self, monitor: Monitor, step_id: int) -> None:
        self._monitor = monitor
        self._step_id = step_id

    def layer(self, progress: LayerProgress) -> None:
        if progress.state in ("Downloading", "Pushing"):
            self._emit(progress, progress.current_bytes)
        elif progress.state in ("Pull complete", "Pushed"):
            self._emit(progress, progress.total_bytes)

    def message(self, text: str) -> None:
        del text  # the step's own name says it

    def _emit(self, progress: LayerProgress, current_bytes: int) -> None:
        self._monitor.emit(StepProgress(self._step_id, f"layer {progress.id}", current_bytes, progress.total_bytes))


class LayerReporter:
    """Reports one layer: every change of state, and moving bytes at most ten times a second."""

    def __init__(
        self, monitor: TransferMonitor, layer_id: str, total_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._monitor = monitor
        self._id = layer_id
        self._total = total_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State | None = None
        self._shown_at = float("-inf")

    def state(self, state: State, detail: str = "", *, current_bytes: int = 0) -> None:
        with self._lock:
            self._state = state
        self._monitor.layer(LayerProgress(self._id, state, current_bytes, self._total, detail))

    def moved(self, state: State, current_bytes: int) -> None:
        """So many bytes are through."""
        now = self._clock()
        with self._lock:
            if state == self._state and now - self._shown_at < _INTERVAL_S and current_bytes < self._total:
                return
            self._state, self._shown_at = state, now
        self._monitor.layer(LayerProgress(self._id, state, current_bytes, self._total))

    def passed(self, current_bytes: int) -> None:
        """So many bytes of what is pushed are through; shown once it is known how many there will be."""
        if self._total:
            self.moved("Pushing", current_bytes)

    def total(self, total_bytes: int) -> None:
        """The size, once it is known."""
        self._total = total_bytes
