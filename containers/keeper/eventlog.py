"""What happened to containers, networks and volumes: lines of JSON in RUN/events, in the order of their times.

    RUN/events/lock      held by who appends: it gives the time, too, so that order and time agree
              /N.jsonl   the last KEPT of MOST_BYTES each; N rises

A line: {"time_ns": …, "type": "container", "action": "die", "id": ID, "attributes": {"exitCode": "0", …}}
Who follows watches the directory (inotify). The engine and keepers both write here.
"""

from __future__ import annotations

import json
import os
import time

from core.files import lock_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MOST_BYTES = 1 << 20
_PATIENCE_S = 2.0
"""Whoever appends holds the lock for less than a millisecond, unless somebody has stopped it: then events are lost."""

_LONGEST = 128 << 10
"""Of a line. A caller chooses labels and commands; and the files are in the host's memory, and everybody's events."""

_SHORT = 1 << 10
_FEW = 32
KEPT = 2
_SUFFIX = ".jsonl"


def append(run: str, kind: str, action: str, identity: str, attributes: dict[str, str]) -> int:
    """Write an event down; its time in ns since 1970. Raises OSError.

    run: the engine's directory for what a boot clears. kind: ``container``, ``network``, ….
    """
    folder = f"{run}/events"
    try:
        lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        for path in (run, folder):  # each is private: makedirs makes but the last so
            os.makedirs(path, 0o700, exist_ok=True)
        lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock_within(lock, _PATIENCE_S):
            raise TimeoutError(f"somebody has held {folder}/lock for over {_PATIENCE_S:.0f} s")
        last = int(os.pread(lock, 32, 0).strip() or b"0")
        now = max(time.time_ns(), last + 1)
        os.pwrite(lock, b"%-31d\n" % now, 0)
        event = {"time_ns": now, "type": kind, "action": action, "id": identity, "attributes": attributes}
        line = json.dumps(event).encode("ascii")
        if len(line) > _LONGEST:
            line = json.dumps({**event, "action": action[:_SHORT], "attributes": _short(attributes)}).encode("ascii")
        _write(folder, line + b"\n")
    finally:
        os.close(lock)
    return now


def numbers(run: str) -> list[int]:
    """The files' numbers, oldest first."""
    try:
        names = os.listdir(f"{run}/events")
    except FileNotFoundError:
        return []
    stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def path(run: str, number: int) -> str:
    """A file of events."""
    return f"{run}/events/{number}{_SUFFIX}"


def read(run: str) -> Iterator[dict[str, Any]]:
    """All events that are still there, oldest first."""
    for number in numbers(run):
        try:
            with open(path(run, number), "rb") as file:
                for line in file:
                    if line.endswith(b"\n") and (event := parsed(line)) is not None:  # else it is being written
                        yield event
        except FileNotFoundError:
            continue  # it was the oldest


def _short(attributes: dict[str, str]) -> dict[str, str]:
    """The beginning of each of the last few, which are the engine's own: it gives labels first."""
    return {name[:_SHORT]: value[:_SHORT] for name, value in list(attributes.items())[-_FEW:]}


def parsed(line: bytes) -> dict[str, Any] | None:
    """The event of a whole line; None for what somebody was killed over, or had no room for."""
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


def _write(folder: str, line: bytes) -> None:
    """The lock is held."""
    stems = [name.removesuffix(_SUFFIX) for name in os.listdir(folder) if name.endswith(_SUFFIX)]
    known = sorted(int(stem) for stem in stems if stem.isdecimal())
    number = known[-1] if known else 1
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    fd = os.open(f"{folder}/{number}{_SUFFIX}", flags, 0o600)
    if os.fstat(fd).st_size + len(line) > MOST_BYTES:
        os.close(fd)
        number += 1
        fd = os.open(f"{folder}/{number}{_SUFFIX}", flags, 0o600)
        for old in [*known, number][:-KEPT]:
            os.unlink(f"{folder}/{old}{_SUFFIX}")
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # whoever wrote the last one was killed over it
        os.write(fd, line)
    finally:
        os.close(fd)
