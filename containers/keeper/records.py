"""The files of one container: ``spec.json``, which the engine writes, and ``state.json``, which its keeper writes.

    containers/ID/spec.json    what was asked for; replaced as a whole by the engine
                 /state.json   what became of it; replaced as a whole by the keeper. None: it was never started
                 /lock         held by the keeper for life (``core.ofdlocks``)
                 /log/N.json   see ``logfile``

A state that says ``running`` without anybody who holds the lock means that the keeper was killed, or the host went
down. So does a state file that is empty: the host went down before the disk had its content.
"""

from __future__ import annotations

import errno
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
LOST_CODE = 255
"""The exit code of a container whose keeper was killed."""

MOST_EXECS = 64
ALIVE = frozenset({"starting", "running", "paused", "restarting"})
"""What a state says while there is a keeper; nobody's lock then tells that it was killed."""

NEVER = "0001-01-01T00:00:00Z"


def read_spec(folder: str) -> Any:
    """What was asked for. Raises OSError, ValueError."""
    with open(f"{folder}/spec.json", encoding="utf-8", errors="surrogateescape") as file:
        return json.load(file)


def new_state() -> dict[str, Any]:
    """The state of a container that was never started."""
    return {
        "format": FORMAT,
        "status": "created",
        "pid": 0,
        "started": NEVER,
        "finished": NEVER,
        "exit_code": 0,
        "oom": False,
        "error": "",
        "restarts": 0,
        "stopped_by_hand": False,
        "health": None,
        "execs": {},
        "range": 0,
        "ports": [],
    }


def read_state(folder: str) -> dict[str, Any]:
    """The state as its last keeper left it. Raises OSError."""
    try:
        with open(f"{folder}/state.json", encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return new_state()
    if not text.strip("\0 \n"):
        return {**new_state(), "status": "running"}
    return {**new_state(), **json.loads(text)}


def write_state(folder: str, state: dict[str, Any], *, durable: bool) -> None:
    """Replace the state. durable: wait until the disk has it. Raises OSError; then the old state stays.

    On a full disk it is written over the old one, which has its block already: what ended has to be known to have.
    """
    text = json.dumps(state).encode("ascii") + b"\n"
    try:
        _write(f"{folder}/.state.json.new", text, os.O_TRUNC, durable=durable)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _write(f"{folder}/state.json", text, 0, durable=durable)
        return
    os.rename(f"{folder}/.state.json.new", f"{folder}/state.json")
    if durable:
        sync(folder)


def _write(path: str, text: bytes, flags: int, *, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
    try:
        if os.write(fd, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.ftruncate(fd, len(text))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync(folder: str) -> None:
    """Have the disk know the names in a directory."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def moment(time_ns: int | None = None) -> str:
    """A time as docker writes it: RFC 3339 with nanoseconds, in UTC. time_ns: since 1970; None is now."""
    seconds, fraction = divmod(time.time_ns() if time_ns is None else time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


def socket_path(run: str, container: str) -> str:
    """Where a container's keeper listens. A socket's path has 107 bytes at most."""
    return f"{run}/k/{container[:16]}.sock"
