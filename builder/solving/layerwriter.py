"""A thread that turns finished upper directories into layers while the stage goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from core.cancellation import Question, asking

_Job: TypeAlias = tuple[Callable[[], None], Callable[[BaseException], None]]


class LayerWriter:
    """Runs jobs one after another, in order. Started by the first job: a cached stage never starts it.

    question: asked by jobs whether they have to end.
    on_error: called with the first error. Later jobs are not run. They fail with the same error, since each builds on
    the one before.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], None], question: Question) -> None:
        self._name = name
        self._question = question
        self._on_error = on_error
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, job: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
        """Queue ``job``. When it or an earlier job raises, ``fail`` is called with the error."""
        self._jobs.put((job, fail))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name)
            self._thread.start()

    def finish(self) -> None:
        """Wait for all jobs."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        error: BaseException | None = None
        while (job := self._jobs.get()) is not None:
            run, fail = job
            if error is None:
                try:
                    with asking(self._question):
                        run()
                except BaseException as raised:
                    error = raised
                    self._on_error(raised)
            if error is not None:
                fail(error)
