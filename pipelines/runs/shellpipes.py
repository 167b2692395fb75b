"""What a shell and the terminal of whoever opened it say to each other, by way of Redis: a bounded stream each way.

    terminal ── web process ──▶ shiplap:shell:N:in ──▶ worker ── the shell
             ◀─────────────  shiplap:shell:N:out  ◀──

The streams carry bytes and decide nothing: who may open which shell is a row of ``pipelines.runs.shells``. Whoever
writes waits while the other side has not read much of what came before. Each side says now and then that it is there;
one that hears nothing for SILENCE_S takes the other for dead. What nobody reads is gone a minute later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import redis

from pipelines.redisfaults import as_int, translated

SILENCE_S: Final = 30.0
TICK_S: Final = 5.0
PIECE_BYTES: Final = 16 << 10
_PIECES: Final = 32  # that wait in a stream: 512 KiB
_PAUSE_S: Final = 0.02
_FORGOTTEN_AFTER_S: Final = 60
_READ_AT_ONCE: Final = 16

Kind: TypeAlias = Literal["data", "size", "tick", "opened", "ended"]
Side: TypeAlias = Literal["worker", "terminal"]
_KINDS: Final[tuple[Kind, ...]] = ("data", "size", "tick", "opened", "ended")


class Said(NamedTuple):
    """One message.

    kind: ``data`` of the terminal; its new ``size``, as ``ROWS COLUMNS``; ``tick``: the side that says it is there;
    ``opened``: the shell runs; ``ended``: of the worker, what became of it; of the terminal, that nobody is there.
    """

    kind: Kind
    data: bytes = b""


class ShellPipes:
    """The streams of all shells. Thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def end(self, shell: int, side: Side) -> PipeEnd:
        """What one side of a shell reads and writes."""
        return PipeEnd(self._redis, shell, side)


class PipeEnd:
    """One side's end. One thread may read while others write. Every method raises QueueUnreachableError."""

    def __init__(self, client: redis.Redis, shell: int, side: Side) -> None:
        streams = (f"shiplap:shell:{shell}:in", f"shiplap:shell:{shell}:out")
        self._reads, self._writes = streams if side == "worker" else streams[::-1]
        self._redis = client
        self._after = "0-0"
        self.heard_at = time.monotonic()

    def say(self, kind: Kind, data: bytes = b"", *, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """Write a message of at most PIECE_BYTES; waits while too much is unread. False: it was given up.

        gives_up: asked while it waits.
        """
        with translated():
            while kind in ("data", "size") and as_int(self._redis.xlen(self._writes)) >= _PIECES:
                if gives_up():
                    return False
                time.sleep(_PAUSE_S)
            pipeline = self._redis.pipeline(transaction=False)
            # What a side says of itself is said although the stream is full, and never so often that it would grow.
            fields: Any = {"kind": kind, "data": data}
            pipeline.xadd(self._writes, fields, maxlen=4 * _PIECES, approximate=False)
            pipeline.expire(self._writes, _FORGOTTEN_AFTER_S)
            pipeline.execute()
        return True

    def hear(self, wait_s: float) -> list[Said]:
        """What the other side has said since; waits at most ``wait_s`` for something. What was read is forgotten."""
        with translated():
            block = max(1, int(wait_s * 1000))
            found: Any = self._redis.xread({self._reads: self._after}, count=_READ_AT_ONCE, block=block)
            entries = [entry for _, stream in found for entry in stream] if found else []
            if entries:
                self._after = entries[-1][0]
                self._redis.xdel(self._reads, *(identifier for identifier, _ in entries))
        said = [found for _, fields in entries if (found := _said(fields)) is not None]
        if said:
            self.heard_at = time.monotonic()
        return said

    def is_silent(self) -> bool:
        """Whether nothing was heard for so long that nobody is there any more."""
        return time.monotonic() - self.heard_at > SILENCE_S


def _said(fields: Any) -> Said | None:
    """A message; None for one that nobody of ours wrote."""
    kind = fields.get(b"kind", b"").decode("ascii", "replace")
    return next((Said(known, fields.get(b"data", b"")) for known in _KINDS if known == kind), None)
