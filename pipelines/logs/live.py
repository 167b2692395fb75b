"""The live part of logs: one Redis stream for each attempt, which holds what may not be stored yet.

An entry is a batch of lines. Its ID is the number of the batch's last line. So reading after ID n gives just the
batches that have lines after n, and a batch cannot be added twice. A line that has begun and not ended, such as a
prompt, has an entry of its own behind the batch before it; such a line is no part of the log.

Once an attempt has lost its job, its stream is taken away. What the attempt still sends goes nowhere, because only the
first write makes a stream. Redis may lose everything: the writer notices, and then stores its lines in the database at
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import redis

from pipelines.redisfaults import translated

_READ_BATCHES: Final = 64
_LAST_ENTRY: Final = 2**63
"""Behind all entries of a line that has begun: only whole lines come after it."""

_KEPT_AFTER_END_S: Final = 60
_FORGOTTEN_AFTER_S: Final = 24 * 3600  # for a stream that nobody ends, as after a restored backup


class Batch(NamedTuple):
    """A batch of the stream: lines first … last as JSON, with newlines between them.

    ended: the attempt is over; the rest is in the database.
    partial: no whole lines, but one that has begun after line ``last`` and not ended, as JSON.
    entry: the second half of the entry's ID in the stream.
    """

    first: int
    last: int
    data: bytes
    ended: bool = False
    partial: bytes = b""
    entry: int = 0

    def lines(self) -> list[tuple[int, bytes]]:
        return list(enumerate(self.data.split(b"\n"), self.first)) if self.data else []


class LiveLogs:
    """The streams. Every method raises QueueUnreachableError when Redis does not answer. Thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def add(self, job: int, attempt: int, batch: Batch, *, create: bool) -> bool:
        """Append a batch. False: the stream has these lines already, or there is no stream (any more)."""
        fields: Any = {"first": batch.first, "data": batch.data, "ended": int(batch.ended)}
        key = _key(job, attempt)
        with translated():
            try:
                made = self._redis.xadd(key, fields, id=f"{batch.last}-0", nomkstream=not create)
                if create:
                    self._redis.expire(key, _FORGOTTEN_AFTER_S)
            except redis.ResponseError as error:
                if "equal or smaller" in str(error):
                    return False
                raise
        return made is not None

    def add_partial(self, job: int, attempt: int, after: int, entry: int, data: bytes) -> None:
        """Show a line that has begun after line ``after``, in place of the last one shown. entry: from 1, grows."""
        key = _key(job, attempt)
        with translated():
            try:
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.xadd(key, {"partial": data}, id=f"{after}-{entry}", nomkstream=True)
                pipeline.xdel(key, f"{after}-{entry - 1}") if entry > 1 else None
                pipeline.execute()
            except redis.ResponseError as error:
                if "equal or smaller" not in str(error):
                    raise

    def read(self, job: int, attempt: int, after: int, *, wait_s: float, entry: int = 0) -> list[Batch]:
        """Batches after the one that ends with line ``after`` and its ``entry``; waits at most ``wait_s`` for one."""
        with translated():
            found: Any = self._redis.xread(
                {_key(job, attempt): f"{after}-{entry}"}, count=_READ_BATCHES, block=int(wait_s * 1000) or None
            )
        return [_batch(entry) for _, entries in found for entry in entries] if found else []

    def wait(self, positions: Mapping[tuple[int, int], int], wait_s: float) -> bool:
        """Wait until one of several streams has a batch after its position; False: none has, for that long.

        positions: by job and attempt, which need no stream yet, the last line that is known.
        """
        streams: Any = {_key(*which): f"{after}-{_LAST_ENTRY}" for which, after in positions.items()}
        with translated():
            return bool(self._redis.xread(streams, count=1, block=max(1, int(wait_s * 1000))))

    def trim(self, job: int, attempt: int, first: int) -> None:
        """Forget batches that end before line ``first``: they are stored."""
        with translated():
            self._redis.xtrim(_key(job, attempt), minid=f"{first}-0", approximate=False)

    def end(self, job: int, attempt: int) -> None:
        """Let followers see the end, then forget the stream. The attempt is over and all its lines are stored."""
        with translated():
            self._redis.expire(_key(job, attempt), _KEPT_AFTER_END_S)

    def take_away(self, job: int, attempt: int) -> list[Batch]:
        """Close the stream to its writer and to followers, and return what it has. May be called again."""
        key, taken = _key(job, attempt), f"{_key(job, attempt)}:taken"
        with translated():
            try:
                self._redis.rename(key, taken)
            except redis.ResponseError as error:
                if "no such key" not in str(error):
                    raise
            entries: Any = self._redis.xrange(taken)
        return [_batch(entry) for entry in entries]

    def forget_taken(self, job: int, attempt: int) -> None:
        """Forget what ``take_away`` returned: it is stored."""
        with translated():
            self._redis.delete(f"{_key(job, attempt)}:taken")


def _key(job: int, attempt: int) -> str:
    return f"shiplap:log:{job}:{attempt}"


def _batch(entry: Any) -> Batch:
    identifier, fields = entry
    if b"partial" in fields:
        last, _, number = identifier.partition(b"-")
        return Batch(int(last) + 1, int(last), b"", partial=fields[b"partial"], entry=int(number))
    return Batch(
        int(fields[b"first"]), int(identifier.partition(b"-")[0]), fields[b"data"], fields.get(b"ended") == b"1"
    )
