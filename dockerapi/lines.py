"""A body that a thread makes while it works: progress as lines of JSON, and errors among them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import flask

from core.errors import ShiplapError
from dockerapi import answering, handover
from dockerapi.errors import ApiError, message_of
from registry.errors import NotFoundError

_MOST_WAITING: Final = 256
"""Lines that a slow client has not taken. A piece of a step's output is up to 64 KiB, and its writer waits."""

_LOOK_EACH_S: Final = 1.0


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Lines:
    """Progress as lines of JSON. Given from the thread that works, taken by the one that answers.

    cancelled: set when the client went away.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue(_MOST_WAITING)
        self.cancelled = threading.Event()

    def put(self, line: dict[str, Any] | BaseException | None) -> None:
        """Add a line, an error, or the end. Where nobody takes any, this waits; what is only progress is dropped."""
        while not self.cancelled.is_set():
            try:
                self._queue.put(line, timeout=0.5)
                return
            except queue.Full:
                if isinstance(line, dict) and "progressDetail" in line:
                    return

    def get(self) -> dict[str, Any] | BaseException | None:
        """The next line. Raises ClientGoneError, also while nothing is said: a step of a build may be silent for ever.

        To be called in the thread of the request.
        """
        while True:
            try:
                return self._queue.get(timeout=_LOOK_EACH_S)
            except queue.Empty:
                if handover.has_gone():
                    raise ClientGoneError from None


class _Body:
    """The lines as pieces of a body. first: was taken already. Its end, however it comes, cancels the work."""

    def __init__(self, lines: Lines, first: dict[str, Any] | BaseException | None) -> None:
        self._lines = lines
        self._pieces = self._read(first)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        self._lines.cancelled.set()

    def _read(self, line: dict[str, Any] | BaseException | None) -> Iterator[bytes]:
        while line is not None:
            if isinstance(line, ShiplapError):
                yield answering.encoded(failed(line))
                return
            if isinstance(line, BaseException):
                raise line
            yield answering.encoded(line)
            try:
                line = self._lines.get()
            except ClientGoneError:
                return


def streamed(work: Callable[[Lines], None]) -> flask.Response:
    """Answer with what a thread says. An error before anything was said is an answer of its own.

    work: ends soon after its lines are cancelled, which they are when the client goes away.
    """
    lines = Lines()

    def run() -> None:
        try:
            work(lines)
            lines.put(None)
        except Exception as error:
            # The outermost layer of this thread: whoever answers tells it.
            lines.put(error)

    threading.Thread(target=run, name="transfer", daemon=True).start()
    try:
        first = lines.get()
        if isinstance(first, NotFoundError):
            raise ApiError(404, first.message)
        if isinstance(first, BaseException):
            raise first
    except BaseException as error:
        lines.cancelled.set()
        if isinstance(error, ClientGoneError):
            return handover.gone()
        raise
    return answering.pieces(_Body(lines, first))


def failed(error: ShiplapError) -> dict[str, Any]:
    """An error within a stream of JSON."""
    text = message_of(error)
    return {"errorDetail": {"message": text}, "error": text}
