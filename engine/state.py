"""What became of a container: ``state.json``, read together with the lock.

Only who holds the container's lock writes the file: its keeper, the nursery when a keeper was killed, or who could not
have one made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from containers.keeper import records as files
from engine import locking
from engine.times import NEVER, text_of

Status: TypeAlias = Literal["created", "starting", "running", "paused", "restarting", "removing", "exited", "dead"]

LOST: Final = files.LOST_CODE
"""The exit code of a container whose keeper was killed, or whose host went down: docker's and containerd's."""


_NOT_STARTED: Final = 128


class State(NamedTuple):
    """What became of a container.

    pid: the host's number of its first process; 0 when there is none.
    started, finished: RFC 3339; ``times.NEVER`` when it has not happened.
    oom: the kernel killed one of its processes for memory.
    error: why it could not be started.
    restarts: by its policy, since it was last started by hand.
    stopped_by_hand: its policy does not start it again.
    health: ``status``, ``failing_streak`` and ``log``, or None.
    execs: exit codes of the last execs, by ID.
    ports: that are published now: ``address``, ``protocol``, ``port``, ``to_port``.
    range: the first host ID of its range, 0 when not known.
    """

    status: Status = "created"
    pid: int = 0
    started: str = NEVER
    finished: str = NEVER
    exit_code: int = 0
    oom: bool = False
    error: str = ""
    restarts: int = 0
    stopped_by_hand: bool = False
    health: dict[str, Any] | None = None
    execs: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    ports: Sequence[dict[str, Any]] = ()
    range: int = 0

    @property
    def is_up(self) -> bool:
        """Whether docker calls it running: paused and restarting ones, too."""
        return self.status in files.ALIVE

    @property
    def has_process(self) -> bool:
        """Whether it has processes now."""
        return self.status in ("running", "paused")


def read(directory: Path) -> State:
    """The state of the container in this directory.

    One whose keeper is gone without a word ended with LOST. That is not written down here: whoever looks changes
    nothing, and what its policy wants is the nursery's to see.
    """
    found = _read(directory)
    if found.status not in files.ALIVE or locking.is_held(directory):
        return found
    found = _read(directory)  # its keeper may have written that it ended, and let go of the lock, just before
    if found.status not in files.ALIVE:
        return found
    return found._replace(status="exited", exit_code=LOST, pid=0, finished=text_of(_last_sign(directory)))


def note_failure(directory: Path, why: str) -> None:
    """Write down why a container could not be started, where it did not come to a keeper that does. Docker's exit code
    for that is 128. Raises OSError.
    """
    try:
        lock = locking.take(directory, make=True)
    except FileNotFoundError:
        return  # it has been removed
    if lock is None:
        return
    try:
        known = files.read_state(str(directory))
        if known["status"] not in files.ALIVE:
            files.write_state(str(directory), {**known, "error": why, "exit_code": _NOT_STARTED}, durable=False)
    finally:
        os.close(lock)


def _read(directory: Path) -> State:
    known = files.read_state(str(directory))
    return State(**{name: known[name] for name in State._fields if name in known})


def _last_sign(directory: Path) -> int:
    """When a keeper that was killed was at work for the last time, as far as its files tell; ns since the epoch."""
    paths = [directory / "state.json"]
    with contextlib.suppress(FileNotFoundError):
        paths += (directory / "log").iterdir()
    found = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found = max(found, path.stat().st_mtime_ns)
    return found
