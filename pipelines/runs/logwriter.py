"""A build's monitor in a worker: numbers, masks and publishes what the build says, and stores it.

One thread does it all, so that ``emit`` costs the build next to nothing. Lines go to Redis within _TICK_S. They go to
the database when a step has ended, when there are many, or after _STORE_AFTER_S; when Redis is away, at once.

Everything stored is fenced: a worker whose job was given to another finds out here, and stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import delete, insert
from sqlalchemy.engine import Connection

from core.events import BuildPlanned, Event, StepFinished, StepOutput, StepStarted
from core.masking import Masker
from pipelines.database import Database
from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError, StaleAttemptError
from pipelines.logs.lines import LineMaker, LogLine, encode_line, encode_lines, text_size
from pipelines.logs.live import Batch, LiveLogs
from pipelines.logs.store import CHUNK_BYTES, CHUNK_LINES, Line, store_lines
from pipelines.model import Claim, Step, StepState
from pipelines.runs.claims import fence
from pipelines.schema import steps as steps_table

_TICK_S: Final = 0.01
_STORE_AFTER_S: Final = 2.0
_STORE_PAUSE_S: Final = 0.25
_RETRY_S: Final = 1.0
_PENDING_BYTES: Final = 8 << 20
_UNSTORED_BYTES: Final = 32 << 20
_KEPT_LIVE_BYTES: Final = 4 << 20  # stored lines that stay in Redis, for followers that are a little behind
_EVENT_BYTES: Final = 200
_BATCH_BYTES: Final = 256 << 10  # so much is sent without waiting for more
_PARTIAL_PAUSE_S: Final = 0.4  # between two looks at the line that has begun
_Item: TypeAlias = Event | str | Mapping[int, int]
_log = logging.getLogger(__name__)


class LogWriter:
    """The log of one attempt. lost: called once, from the writer's thread, when the job is no longer this attempt's."""

    def __init__(
        self, claim: Claim, database: Database, live: LiveLogs, masker: Masker, *, lost: Callable[[], None]
    ) -> None:
        self._claim = claim
        self._database = database
        self._live = live
        self._masker = masker
        self._lost = lost
        self._maker = LineMaker(claim.next_line, masker, time.time)
        self._wake = threading.Condition()
        self._pending: deque[_Item] = deque()
        self._pending_bytes = 0
        self._closing = False
        self._stale = False
        self._unstored: list[Line] = []
        self._unstored_bytes = 0  # as JSON
        self._sizes: list[int] = []  # of each line's text
        self._kept: deque[tuple[int, int]] = deque()  # last line and size of the batches in Redis
        self._kept_bytes = 0
        self._steps: dict[int, Step] = {}
        self._changed: set[int] = set()
        self._may_create = True  # the stream: at first; after a loss only once the run is known to be ours
        self._stream_lost = False
        self._stored_at = time.monotonic()
        self._partial_at = time.monotonic()
        self._partial_entries = (0, 0)  # after which line, and how many
        self._has_begun = False
        self._store_soon = False
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name=f"log of run {claim.run.number}", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Take an event of the build; waits only while far more is pending than can be written."""
        self._put(event, len(event.data) if isinstance(event, StepOutput) else _EVENT_BYTES)

    def status(self, text: str) -> None:
        """Log a line of the service's own."""
        self._put(text, _EVENT_BYTES)

    def sizes(self, by_step: Mapping[int, int]) -> None:
        """Note how large the steps' layers are, in bytes."""
        self._put(by_step, _EVENT_BYTES)

    def close(self) -> None:
        """Publish what is pending and end the thread; ``store`` stores the rest. May be called again."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()

    def store(self, connection: Connection) -> None:
        """Store what is not stored yet, in the caller's transaction, which holds the job. After ``close``."""
        store_lines(connection, self._claim.number, self._claim.attempt, self._unstored, self._sizes)
        self._store_steps(connection)

    def store_now(self) -> None:
        """``store`` in a transaction of its own. Raises StaleAttemptError and DatabaseUnreachableError."""
        with self._database.write() as connection:
            fence(connection, self._claim)
            self.store(connection)
        self._forget()

    def masked(self, text: str) -> str:
        """``text`` as it may be shown."""
        return self._masker.mask(text)

    def end(self) -> None:
        """Let followers see the end, after the last ``store`` has been committed."""
        try:
            batch = Batch(self._maker.next, self._maker.next, b"", ended=True)
            self._live.add(self._claim.number, self._claim.attempt, batch, create=self._may_create)
            self._live.end(self._claim.number, self._claim.attempt)
        except QueueUnreachableError as error:
            _log.warning("run %d: followers wait for the database: %s", self._claim.run.number, error)

    def add_last(self, text: str) -> None:
        """Add one more line, on how the run ended: after ``close`` and before ``store``."""
        self._keep([self._maker.status(text)])

    def _put(self, item: _Item, size: int) -> None:
        with self._wake:
            while self._pending_bytes > _PENDING_BYTES and not self._closing and not self._stale:
                self._wake.wait()
            if self._stale:
                return
            self._pending.append(item)
            self._pending_bytes += size
            if len(self._pending) == 1:
                self._wake.notify_all()

    def _run(self) -> None:
        try:
            self._work()
        except Exception:  # a bug of ours must not leave a build waiting for a log that nobody writes
            _log.exception("run %d: its log broke off", self._claim.run.number)
            self._give_up()

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._wake:
                if not self._pending and not self._closing:
                    self._wake.wait(_STORE_PAUSE_S if self._unstored or self._changed or self._has_begun else None)
                if not self._closing and self._pending and self._pending_bytes < _BATCH_BYTES:
                    self._wake.wait(_TICK_S)  # so that a batch is more than one line
                items, self._pending = self._pending, deque()
                self._pending_bytes = 0
                closing = self._closing
                if self._unstored_bytes < _UNSTORED_BYTES:
                    self._wake.notify_all()
            if self._stale:
                continue
            self._take(items, closing=closing)
            if not closing and self._is_time():
                self._try_to_store()
            while self._unstored_bytes >= _UNSTORED_BYTES and not self._closing and not self._stale:
                time.sleep(_RETRY_S)  # no database: the build has to wait, for memory is not for logs
                self._try_to_store()

    def _take(self, items: Iterable[_Item], *, closing: bool) -> None:
        """Make lines of the items, and publish the lines."""
        lines: list[LogLine] = []
        for item in items:
            lines += self._lines(item)
        if closing:
            lines += self._maker.close()
        self._has_begun = self._has_begun or bool(items)
        self._publish(self._keep(lines))
        if self._has_begun and not closing:
            self._publish_begun()

    def _lines(self, item: _Item) -> list[LogLine]:
        if isinstance(item, str):
            return [self._maker.status(item)]
        if isinstance(item, Mapping):
            for step_id in item.keys() & self._steps.keys():
                self._steps[step_id] = msgspec.structs.replace(self._steps[step_id], size_bytes=item[step_id])
                self._changed.add(step_id)
            return []
        first = self._maker.next
        lines = self._maker.lines(item)
        self._note(item, first, self._maker.next - 1)
        return lines

    def _note(self, event: Event, first: int, last: int) -> None:
        """Keep the steps' rows up to date with the event."""
        match event:
            case BuildPlanned(steps):
                for step in steps:
                    if step.id not in self._steps:
                        self._steps[step.id] = Step(
                            step.id, self._masker.mask(step.name), step.stage, step.line, "waiting"
                        )
                        self._changed.add(step.id)
            case StepStarted(step_id, at):
                self._change(step_id, first, last, state="running", started_at=at)
            case StepFinished():
                reason = self._masker.mask(event.reason or "")
                self._change(event.id, first, last, event.outcome, duration_s=event.duration_s, reason=reason)
                self._store_soon = True
            case StepOutput(step_id):
                self._change(step_id, first, last)
            case _:
                pass

    def _change(
        self,
        step_id: int,
        first: int,
        last: int,
        state: StepState | None = None,
        *,
        started_at: float | None = None,
        duration_s: float | None = None,
        reason: str = "",
    ) -> None:
        step = self._steps.get(step_id)
        if step is None:
            return
        self._steps[step_id] = msgspec.structs.replace(
            step,
            state=state or step.state,
            started_at=step.started_at if started_at is None else started_at,
            duration_s=step.duration_s if duration_s is None else duration_s,
            reason=reason or step.reason,
            first_line=step.first_line or (first if last >= first else 0),
            last_line=max(step.last_line, last if last >= first else 0),
        )
        self._changed.add(step_id)

    def _keep(self, lines: list[LogLine]) -> list[Line]:
        """Keep the lines to be stored; returns them encoded."""
        if not lines:
            return []
        first = lines[0].n
        data = encode_lines(lines)
        encoded = list(zip(range(first, first + len(data)), data, strict=True))
        self._unstored += encoded
        self._unstored_bytes += sum(map(len, data)) + len(data)
        self._sizes += [text_size(line.text) for line in lines]
        return encoded

    def _publish(self, lines: list[Line]) -> None:
        if not lines:
            return
        batch = Batch(lines[0][0], lines[-1][0], b"\n".join(data for _, data in lines))
        try:
            if self._live.add(self._claim.number, self._claim.attempt, batch, create=self._may_create):
                self._may_create = False
                self._kept.append((batch.last, len(batch.data)))
                self._kept_bytes += len(batch.data)
                return
        except QueueUnreachableError as error:
            if not self._stream_lost:
                _log.warning("run %d: lines go to the database only: %s", self._claim.run.number, error)
        self._may_create = False  # taken away, or lost by Redis: the database knows which
        self._stream_lost = self._store_soon = True

    def _publish_begun(self) -> None:
        """Show lines that have begun and not ended: some time after their beginning, and again as they grow."""
        now = time.monotonic()
        if self._stream_lost or self._may_create or now - self._partial_at < _PARTIAL_PAUSE_S:
            return
        self._partial_at = now
        self._has_begun = False
        after = self._maker.next - 1
        for line in self._maker.partials():
            known, entries = self._partial_entries
            self._partial_entries = (after, entries + 1 if known == after else 1)
            try:
                number, attempt = self._claim.number, self._claim.attempt
                self._live.add_partial(number, attempt, after, self._partial_entries[1], encode_line(line))
            except QueueUnreachableError:
                return  # the next batch of lines finds out what that means

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._retry_at or not (self._unstored or self._changed):
            return False
        if len(self._unstored) >= CHUNK_LINES or self._unstored_bytes >= CHUNK_BYTES:
            return True
        return now - self._stored_at > (_STORE_PAUSE_S if self._store_soon else _STORE_AFTER_S)

    def _try_to_store(self) -> None:
        try:
            with self._database.write() as connection:
                fence(connection, self._claim)
                self.store(connection)
        except StaleAttemptError:
            self._give_up()
            return
        except DatabaseUnreachableError as error:
            _log.warning("run %d: its log waits for the database: %s", self._claim.run.number, error)
            self._retry_at = time.monotonic() + _RETRY_S
            return
        stored_up_to = self._unstored[-1][0] if self._unstored else 0
        self._forget()
        self._trim(stored_up_to)

    def _forget(self) -> None:
        self._unstored, self._unstored_bytes, self._sizes = [], 0, []
        self._changed.clear()
        self._stored_at = time.monotonic()
        self._may_create = self._may_create or self._stream_lost
        self._store_soon = self._stream_lost = False

    def _trim(self, stored_up_to: int) -> None:
        first = 0
        while self._kept and self._kept_bytes > _KEPT_LIVE_BYTES and self._kept[0][0] <= stored_up_to:
            last, size = self._kept.popleft()
            self._kept_bytes -= size
            first = last + 1
        if first:
            try:
                self._live.trim(self._claim.number, self._claim.attempt, first)
            except QueueUnreachableError:
                self._store_soon = True

    def _give_up(self) -> None:
        with self._wake:
            self._stale = True
            self._wake.notify_all()
        self._lost()

    def _store_steps(self, connection: Connection) -> None:
        if not self._changed:
            return
        job, attempt = self._claim.number, self._claim.attempt
        key = (steps_table.c.job == job, steps_table.c.attempt == attempt)
        connection.execute(delete(steps_table).where(*key, steps_table.c.step.in_(self._changed)))
        rows = [self._steps[index] for index in sorted(self._changed)]
        connection.execute(
            insert(steps_table),
            [{**msgspec.structs.asdict(row), "step": row.index, "job": job, "attempt": attempt} for row in rows],
        )
