"""A build's events as BuildKit tells them: vertices, how far they are, what they print, warnings.

Whoever follows a build gets all of it from its beginning, whenever they come. A follower who takes nothing makes the
build wait, as a terminal does that is stopped; one who is gone is forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from core.errors import ShiplapError
from core.events import (
    BuildPlanned,
    Event,
    StepFinished,
    StepInfo,
    StepOutput,
    StepProgress,
    StepStarted,
    Warned,
)
from dockerapi.buildkit import messages

_MOST_WAITING: Final = 2 << 20
_MOST_REMEMBERED: Final = 4 << 20
_PROGRESS_EACH_S: Final = 0.1
_DEFINITION: Final = "[internal] load build definition"


class Progress:
    """What happened in one build. Thread-safe; a Monitor.

    ref: the client's name of the build, from which vertices have their digests.
    """

    def __init__(self, ref: str) -> None:
        self._ref = ref
        self._lock = threading.Condition()
        self._past: deque[tuple[Any, int]] = deque()
        self._past_bytes = 0
        self._followers: dict[int, deque[tuple[Any, int]]] = {}
        self._waiting: dict[int, int] = {}
        self._is_over = False
        self._steps: dict[int, StepInfo] = {}
        self._started: dict[int, float] = {}
        self._transfers: dict[tuple[int, str], tuple[float, Any]] = {}
        self._numbers = 0

    def emit(self, event: Event) -> None:
        """As a Monitor."""
        if isinstance(event, BuildPlanned):
            self._steps |= {step.id: step for step in event.steps}
        elif isinstance(event, StepStarted):
            self._started[event.id] = event.at
            self._tell(vertices=[self._vertex(event.id, started=event.at)])
        elif isinstance(event, StepOutput):
            log = {"vertex": self._digest(event.id), "timestamp": _time(event.at), "stream": event.stream}
            self._tell(logs=[{**log, "msg": event.data}])
        elif isinstance(event, StepProgress):
            self._transfer(event)
        elif isinstance(event, StepFinished):
            self._finished(event)
        elif isinstance(event, Warned):
            self._warn(event)

    @contextlib.contextmanager
    def internal(self, name: str) -> Iterator[Callable[[str, int], None]]:
        """A vertex of ours within the block, which gets what tells how far something is: a name, and bytes."""
        self._numbers += 1
        number = -self._numbers
        self._steps[number] = StepInfo(number, name)
        began = time.time()
        self.emit(StepStarted(number, began))

        def told(what: str, size: int) -> None:
            self.emit(StepProgress(number, what, size, 0))

        try:
            yield told
        except BaseException as error:
            reason = error.message if isinstance(error, ShiplapError) else str(error)
            self.emit(StepFinished(number, "failed", time.time() - began, time.time(), reason))
            raise
        self.emit(StepFinished(number, "done", time.time() - began, time.time()))

    def end(self) -> None:
        """Nothing more is to come."""
        with self._lock:
            self._is_over = True
            self._lock.notify_all()

    def follow(self, gone: threading.Event) -> Generator[Any, None, None]:
        """What happened and what happens, until the build's end. gone: set where nobody wants it any more."""
        me = id(gone)
        with self._lock:
            self._followers[me] = deque(self._past)
            self._waiting[me] = 0
        try:
            while True:
                with self._lock:
                    mine = self._followers[me]
                    while not mine and not self._is_over and not gone.is_set():
                        self._lock.wait(1.0)
                    if gone.is_set() or not mine:
                        return
                    several = list(mine)
                    mine.clear()
                    self._waiting[me] = 0
                    self._lock.notify_all()
                for message, _size in several:
                    yield message
        finally:
            with self._lock:
                del self._followers[me], self._waiting[me]
                self._lock.notify_all()

    def _finished(self, event: StepFinished) -> None:
        began = self._started.get(event.id, event.at - event.duration_s)
        statuses = [
            {**status, "completed": _time(event.at)}
            for (step, _), (_, status) in self._transfers.items()
            if step == event.id
        ]
        failed = event.outcome in ("failed", "cancelled")
        vertex = self._vertex(event.id, started=began, completed=event.at)
        vertex["cached"] = event.outcome == "cached"
        vertex["error"] = _text(event.reason or event.outcome) if failed else ""
        self._tell(vertices=[vertex], statuses=statuses)

    def _transfer(self, event: StepProgress) -> None:
        now = time.time()
        key = event.id, event.what
        last, known = self._transfers.get(key, (0.0, None))
        status = {
            "ID": _text(event.what),
            "vertex": self._digest(event.id),
            "current": event.current_bytes,
            "total": event.total_bytes,
            "timestamp": _time(now),
            "started": known["started"] if known else _time(now),
        }
        is_due = now - last >= _PROGRESS_EACH_S
        self._transfers[key] = (now if is_due else last, status)
        if is_due:
            self._tell(statuses=[status])

    def _warn(self, event: Warned) -> None:
        warning: dict[str, Any] = {"level": 1, "vertex": _digest(f"{self._ref} {_DEFINITION}")}
        line = f" (line {event.line})" if event.line else ""
        warning["short"] = f"{event.rule + ': ' if event.rule else ''}{event.message}{line}".encode("utf-8", "replace")
        self._tell(warnings=[warning])

    def _vertex(self, number: int, *, started: float, completed: float | None = None) -> dict[str, Any]:
        step = self._steps.get(number)
        vertex: dict[str, Any] = {
            "digest": self._digest(number),
            "name": _text(step.name if step else f"step {number}"),
            "started": _time(started),
        }
        return vertex if completed is None else {**vertex, "completed": _time(completed)}

    def _digest(self, number: int) -> str:
        step = self._steps.get(number)
        is_definition = number < 0 and step is not None and step.name.startswith(_DEFINITION)
        return _digest(f"{self._ref} {_DEFINITION if is_definition else number}")

    def _tell(self, **members: Any) -> None:
        message = messages.StatusResponse(**members)
        size = message.ByteSize()
        with self._lock:
            self._past.append((message, size))
            self._past_bytes += size
            while self._past_bytes > _MOST_REMEMBERED:
                self._past_bytes -= self._past.popleft()[1]
            for me, mine in self._followers.items():
                mine.append((message, size))
                self._waiting[me] += size
            self._lock.notify_all()
            while any(waiting > _MOST_WAITING for waiting in self._waiting.values()) and not self._is_over:
                self._lock.wait(1.0)


def _text(text: str) -> str:
    """For a message: names of files in it need not be UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _time(at: float) -> dict[str, int]:
    seconds = int(at)
    return {"seconds": seconds, "nanos": int((at - seconds) * 1e9)}
