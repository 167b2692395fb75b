"""Displays of transfers to and from a registry: a bar for each layer on a terminal, lines in a pipe.

Both displays are a ``registry.client.TransferMonitor`` and a context manager. When nobody reads any more, the transfer
goes on without them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from cli.progress.screen import Row, Screen, terminal_size
from cli.progress.text import one_line, size_text
from registry.client.monitor import FINAL_STATES, LayerProgress, TransferMonitor

_INTERVAL_S = 0.1
_RATE_WINDOW_S = 3.0
_PLAIN_INTERVAL_S = 10.0  # a layer that is still moving gets a line this often
_BAR_CELLS = 30
_MOVING = ("Downloading", "Pushing")


class TransferDisplay(TransferMonitor, Protocol):
    """The display that ``open_transfers`` gives."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_transfers(mode: str, sink: TextIO, *, colours: bool = True) -> TransferDisplay:
    """The display for ``mode``: tty, plain or quiet."""
    if mode == "tty":
        return TtyTransfers(Screen(sink, size=lambda: terminal_size(sink), colours=colours))
    return PlainTransfers(None if mode == "quiet" else sink)


class PlainTransfers:
    """Prints a line when a layer is done, and now and then one on its progress. sink None: prints nothing."""

    def __init__(self, sink: TextIO | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._shown_at: dict[str, float] = {}

    def layer(self, progress: LayerProgress) -> None:
        now = self._clock()
        with self._lock:
            since = now - self._shown_at.setdefault(progress.id, now)
            if progress.state in FINAL_STATES or (progress.state in _MOVING and since >= _PLAIN_INTERVAL_S):
                self._shown_at[progress.id] = now
                self._write(_line(progress))

    def message(self, text: str) -> None:
        with self._lock:
            self._write(one_line(text))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _write(self, line: str) -> None:
        if self._sink is not None:
            try:
                self._sink.write(line + "\n")
                self._sink.flush()
            except OSError:  # nobody reads any more
                self._sink = None


class _Layer:
    __slots__ = ("progress", "samples")

    def __init__(self, progress: LayerProgress) -> None:
        self.progress = progress
        self.samples: deque[tuple[float, int]] = deque()

    def update(self, progress: LayerProgress, now: float) -> None:
        if progress.state != self.progress.state:
            self.samples.clear()
        self.progress = progress
        self.samples.append((now, progress.current_bytes))
        while now - self.samples[0][0] > _RATE_WINDOW_S:
            self.samples.popleft()

    def rate(self, now: float) -> float:
        """Bytes per second over the last seconds; 0 while there is nothing to tell."""
        if not self.samples or now - self.samples[0][0] < _INTERVAL_S:
            return 0.0
        began, at_first = self.samples[0]
        return max(0, self.progress.current_bytes - at_first) / (now - began)


class TtyTransfers:
    """A row for each layer, painted ten times a second from a thread of its own."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._lock = threading.Lock()
        self._messages: list[str] = []
        self._layers: dict[str, _Layer] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def layer(self, progress: LayerProgress) -> None:
        now = self._clock()
        with self._lock:
            self._layers.setdefault(progress.id, _Layer(progress)).update(progress, now)

    def message(self, text: str) -> None:
        with self._lock:
            self._messages.append(one_line(text))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def rows(self, height: int | None) -> list[Row]:
        """Messages and layers, in the order they came. With ``height``, layers that are done give way."""
        now = self._clock()
        with self._lock:
            layers = list(self._layers.values())
            rows = [Row(text) for text in self._messages]
            done = [layer for layer in layers if layer.progress.state in FINAL_STATES]
            excess = 0 if height is None else len(rows) + len(layers) - max(1, height - 2)
            hidden = done[: excess + 1] if excess > 0 else []
            if hidden:
                rows.append(Row(f"… {len(hidden)} more layers done", style="good"))
            rows += [_row(layer, now) for layer in layers if not any(layer is gone for gone in hidden)]
        return rows if height is None else rows[: max(1, height - 1)]

    def _run(self) -> None:
        try:
            while not self._ended.wait(_INTERVAL_S):
                self._screen.paint(self.rows(self._screen.height))
            self._screen.paint(self.rows(None))
        except OSError:
            return  # nobody looks any more


def _row(layer: _Layer, now: float) -> Row:
    progress = layer.progress
    if progress.state not in _MOVING or not progress.total_bytes:
        return Row(_line(progress), style="good" if progress.state in FINAL_STATES else "plain")
    filled = min(_BAR_CELLS, _BAR_CELLS * progress.current_bytes // progress.total_bytes)
    bar = ("=" * filled + ">")[:_BAR_CELLS].ljust(_BAR_CELLS)
    rate = layer.rate(now)
    return Row(
        f"{progress.id}: {progress.state:11} [{bar}] {_amount(progress)}",
        f"{size_text(rate)}/s" if rate else "",
    )


def _line(progress: LayerProgress) -> str:
    text = f"{progress.id}: {progress.state}"
    if progress.state in _MOVING:
        return f"{text} {_amount(progress)}"
    return f"{text} {one_line(progress.detail)}" if progress.detail else text


def _amount(progress: LayerProgress) -> str:
    total = f"/{size_text(progress.total_bytes)}" if progress.total_bytes else ""
    return f"{size_text(progress.current_bytes)}{total}"
