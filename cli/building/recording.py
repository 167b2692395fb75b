"""Keeps what a build on this machine was: for ``shiplap build history``, which ``cli.building.pastbuilds`` reads.

    ROOT/history/                 mode 0700: nobody else's
      AT-ID.json                  one build that has ended; AT: milliseconds since the epoch, ID: the build's
      AT-ID.log                   what was shown of one that ran steps, an event a line; locked while it runs

A build that the cache answers writes one small file, and nothing waits for the disk: a history that loses its last
minute with the machine's power is still one. Whatever goes wrong here is no fault of the build, and does not stop it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from core.events import BuildPlanned, Event, StepFinished, StepOutput, StepProgress, StepStarted

if TYPE_CHECKING:
    from io import TextIOWrapper

    from cli.progress.jsonlines import JsonDisplay
    from core.masking import Masker

DIRECTORY: Final = "history"
MOST_BUILDS: Final = 300
MOST_BYTES: Final = 64 << 20
_MOST_LOG: Final = 4 << 20
"""Bytes of a log's beginning; of what follows only the end is kept."""

_TAIL: Final = 256 << 10
_MOST_STEPS: Final = 1000
_MOST_TEXT: Final = 16 << 10  # characters of an error
_OF_VARIABLES: Final = frozenset({"arg", "env", "option"})  # reasons of a miss whose values come from build arguments
_FLUSH_S: Final = 1.0
_EVERY: Final = "0"
"""The first digit of the IDs of those cached builds after which old ones are removed: one in sixteen."""


class Recorder:
    """One build, from when its context is open. A core.events.Monitor.

    what: the build as it was asked for: values for JSON, without what is secret.
    began_at: seconds since the epoch.
    """

    def __init__(self, root: Path, what: Mapping[str, Any], began_at: float) -> None:
        self._directory = root / DIRECTORY
        self._what = what
        self._began_at = began_at
        self._id = os.urandom(13).hex()
        self._log: _Log | None = None
        self._secrets: tuple[bytes, ...] = ()

    def masking(self, secrets: Iterable[bytes]) -> None:
        """The content of the build's secrets: none of it is kept."""
        self._secrets = tuple(secrets)

    def open_log(self) -> None:
        """Steps are going to run. To be called before anything is told."""
        masker = self._masker()
        with contextlib.suppress(OSError):
            self._make()
            log = _Log(self._path(".log"), masker)
            log.begin({"event": "build", "id": self._id, "at": self._began_at, **self._masked(self._what)})
            self._log = log

    def emit(self, event: Event) -> None:
        log = self._log
        if log is not None:
            try:
                log.emit(event)
            except OSError:
                self._log = None

    def end(self, state: str, steps: list[dict[str, Any]], duration_s: float, **more: Any) -> None:
        """The build has ended. state: ``completed``, ``error`` or ``cancelled``. more: further members."""
        record = {
            "id": self._id, "at": round(self._began_at, 3), "state": state, "duration_s": round(duration_s, 4),
            **self._what, **more, "steps": steps[:_MOST_STEPS],
        }  # fmt: skip
        if "error" in record:
            record["error"] = record["error"][:_MOST_TEXT]
        with contextlib.suppress(OSError):
            if self._log is not None:
                self._log.end()
            self._make()
            data = json.dumps(self._masked(record), ensure_ascii=False, separators=(",", ":"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self._path(".json"), flags, 0o600)
            try:
                os.write(descriptor, data.encode("utf-8", "replace"))
            finally:
                os.close(descriptor)
            if self._log is not None or self._id[0] == _EVERY:
                remove_old(self._directory)

    def _path(self, ending: str) -> str:
        return f"{self._directory}/{round(self._began_at * 1000):014}-{self._id}{ending}"

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)

    def _masker(self) -> Masker | None:
        if not self._secrets:
            return None
        from core.masking import MIN_LENGTH, Masker

        return Masker(secret for secret in self._secrets if len(secret.strip()) >= MIN_LENGTH)

    def _masked(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        masker = self._masker()
        if masker is None:
            return record
        masked: Mapping[str, Any] = _each_text(record, masker)
        return masked


class _Log:
    """The file of what was shown. ``emit`` may be called by several threads at once. Raises OSErrors."""

    def __init__(self, path: str, masker: Masker | None) -> None:
        from cli.progress.jsonlines import JsonDisplay

        self._masker = masker
        self._lock = threading.Lock()
        self._tail: deque[StepOutput] = deque()
        self._tail_bytes = self._left_out = self._written = 0
        self._flushed_at = time.monotonic()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # nobody has it but, for a moment, who looks whether the build runs
        self._file: TextIOWrapper = open(descriptor, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._display: JsonDisplay = JsonDisplay(_Counted(self))  # type: ignore[arg-type]

    def begin(self, head: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(head, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def emit(self, event: Event) -> None:
        if isinstance(event, StepProgress):
            return
        with self._lock:
            if self._file.closed:
                return
            if isinstance(event, StepOutput) and self._written >= _MOST_LOG:
                self._keep(event)
                return
            event = _without_values(event)
            self._display.handle(event if self._masker is None else _masked_event(event, self._masker))
            if time.monotonic() - self._flushed_at >= _FLUSH_S:
                self._file.flush()
                self._flushed_at = time.monotonic()

    def write(self, text: str) -> None:
        """A whole line."""
        self._written += len(text)
        self._file.write(text)

    def end(self) -> None:
        with self._lock:
            if self._left_out:
                self.write(json.dumps({"event": "gap", "bytes": self._left_out}) + "\n")
            for event in self._tail:
                self._display.handle(event)
            self._file.flush()
            # A process that was forked meanwhile may have the descriptor, too: closing would leave the lock with it.
            fcntl.flock(self._file.fileno(), fcntl.LOCK_UN)
            self._file.close()

    def _keep(self, event: StepOutput) -> None:
        self._tail.append(event)
        self._tail_bytes += len(event.data)
        while self._tail_bytes > _TAIL and len(self._tail) > 1:
            gone = len(self._tail.popleft().data)
            self._tail_bytes -= gone
            self._left_out += gone


class _Counted:
    """Where a JsonDisplay writes."""

    def __init__(self, log: _Log) -> None:
        self._log = log

    def write(self, text: str) -> None:
        self._log.write(text)


def remove_old(directory: Path, most: int = MOST_BUILDS, most_bytes: int = MOST_BYTES) -> None:
    """Remove the oldest builds beyond so many, or so many bytes. One that runs stays. Raises OSError."""
    sizes: dict[str, int] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            build = entry.name.rpartition(".")[0]
            with contextlib.suppress(FileNotFoundError):
                sizes[build] = sizes.get(build, 0) + entry.stat(follow_symlinks=False).st_size
    total = 0
    for number, build in enumerate(sorted(sizes, reverse=True)):
        total += sizes[build]
        if number >= most or total > most_bytes:
            remove_build(directory, build)


def remove_build(directory: Path, build: str) -> bool:
    """Remove the files of a build, by their name without ending; False when it runs. Raises OSError."""
    if is_running(directory / f"{build}.log"):
        return False
    for ending in (".log", ".json"):
        (directory / f"{build}{ending}").unlink(missing_ok=True)
    return True


def is_running(log: Path) -> bool:
    """Whether the build of a log goes on."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _without_values(event: Event) -> Event:
    """An event that does not say what values variables have and had, where they are why a step was built."""
    if not isinstance(event, StepFinished) or not any(change.kind in _OF_VARIABLES for change in event.changes):
        return event
    from builder.explaining.words import in_words

    changes = tuple(
        change._replace(old=None, new=None) if change.kind in _OF_VARIABLES else change for change in event.changes
    )
    return event._replace(reason=in_words(changes), changes=changes)


def _masked_event(event: Event, masker: Masker) -> Event:
    """An event whose texts have no secrets. Output has none already."""
    if isinstance(event, StepOutput | StepStarted | StepProgress):
        return event
    if isinstance(event, BuildPlanned):
        return BuildPlanned(tuple(step._replace(name=masker.mask(step.name)) for step in event.steps))
    if isinstance(event, StepFinished):
        return event._replace(reason=event.reason and masker.mask(event.reason), changes=())
    return event._replace(message=masker.mask(event.message))


def _each_text(value: Any, masker: Masker) -> Any:
    if isinstance(value, str):
        return masker.mask(value)
    if isinstance(value, Mapping):
        return {name: _each_text(item, masker) for name, item in value.items()}
    return [_each_text(item, masker) for item in value] if isinstance(value, list | tuple) else value
