"""Several transfers at a time; the first that fails ends the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from registry.errors import TransferCancelledError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    act: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int, stop: threading.Event, name: str
) -> list[_Result]:
    """``[act(item) for item in items]`` by threads. Once all have ended, raises the error of the first that failed.

    stop: makes an ``act`` under way end with TransferCancelledError. It is set here when another one failed or the
    caller is interrupted, and cleared again unless the caller had set it.
    """
    if len(items) == 1:
        return [act(items[0])]
    return _Work(act, items, stop).done(min(workers, len(items)), name)


class _Work(Generic[_Item, _Result]):
    """The items of one call. (``concurrent.futures`` takes 5 ms to load.)"""

    def __init__(self, act: Callable[[_Item], _Result], items: Sequence[_Item], stop: threading.Event) -> None:
        self._act = act
        self._stop = stop
        self._lock = threading.Lock()
        self._left = iter(list(enumerate(items)))
        self._results: dict[int, _Result] = {}
        self._errors: list[BaseException] = []
        """In the order in which they came: what ``stop`` leads to need not be a TransferCancelledError."""
        self._was_stopped = False

    def done(self, workers: int, name: str) -> list[_Result]:
        from contextvars import copy_context

        threads = [
            threading.Thread(target=copy_context().run, args=(self._go_through,), name=f"{name}-{number}")
            for number in range(workers)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            with self._lock:
                self._left = iter(())
            self._stop.set()
            for thread in threads:
                thread.join()
            raise
        if self._errors:
            if not self._was_stopped:
                self._stop.clear()
            raise next((e for e in self._errors if not isinstance(e, TransferCancelledError)), self._errors[0])
        return [self._results[position] for position in sorted(self._results)]

    def _go_through(self) -> None:
        """Take items until there are none, or one has failed."""
        while True:
            with self._lock:
                taken = None if self._errors else next(self._left, None)
            if taken is None:
                return
            try:
                self._results[taken[0]] = self._act(taken[1])
            except BaseException as error:  # it is raised again where all is waited for
                with self._lock:
                    if not self._errors:
                        self._was_stopped = self._stop.is_set()
                    self._errors.append(error)
                self._stop.set()
