"""Commands in a container that runs: made, started, looked at.

What was asked for is a small file in RUN/execs until it is old or its container is gone, so that an exec is known
after this process was killed. How it ended is in the container's ``state.json``; its keeper writes that.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import flask

from containers.errors import ContainerError, KeeperError, NotExecutedError, StateError
from containers.keeper import eventlog
from containers.keeper.protocol import BEGIN_TIMEOUT_S
from core.files import write_atomically
from dockerapi import answering, asking, handover
from dockerapi.endpoints.containers import terminal_size
from dockerapi.endpoints.streams import RAW, detach_keys, stream_type, tell_failure
from dockerapi.errors import bad
from dockerapi.narrow import check_command
from engine import privileges
from engine.errors import ConflictError, ContainerNotFoundError, ExecNotFoundError
from engine.fields import Fields

if TYPE_CHECKING:
    from containers.keeper.protocol import Conversation
    from engine.engine import Engine
    from engine.records import Row

bp = flask.Blueprint("execs", __name__)

_IDENTITY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST: Final = 1000
_OLD_S: Final = 300.0
_MOST_BYTES: Final = 2 << 20
"""Of one: what execve(2) takes."""

_MOST_BYTES_OF_ALL: Final = 16 << 20
"""They are in the host's memory."""

_FAILED: Final = "OCI runtime exec failed: exec failed: unable to start container process: "
_KILLED: Final = 137
_HANG_UP: Final = "Shiplap-Hang-Up"
"""A header of our own: the command is to end with its client, as at a terminal whose line is cut. Docker's go on."""

_READY_S: Final = 10.0
_LOOK_EACH_S: Final = 0.02

_starting: Final = threading.Lock()
"""Held for the moment in which a command is seen not to have run, and marked."""


@bp.post("/containers/<ref>/exec")
def create(ref: str) -> flask.Response:
    """Say what is to be run."""
    engine = asking.engine()
    body = Fields(asking.body(), "body")
    row = engine.records.container(ref)
    _require_running(engine, row, ref)
    check_command(privileged=body.flag("Privileged"))
    command = body.texts("Cmd")
    if not command:
        raise bad("No exec command specified")
    privileges.check_exec(body.flag("Privileged"), engine.caller)
    size = body.raw("ConsoleSize")
    record = {
        "container": row.id,
        "args": command,
        "env": [list(entry.partition("=")[::2]) for entry in body.texts("Env")],
        "user": body.text("User"),
        "cwd": body.text("WorkingDir"),
        "terminal": body.flag("Tty"),
        "privileged": body.flag("Privileged"),
        "stdin": body.flag("AttachStdin"),
        "stdout": body.flag("AttachStdout"),
        "stderr": body.flag("AttachStderr"),
        "detach_keys": detach_keys(body.text("DetachKeys")),
        "terminal_size": size if _is_size(size) else None,
        "pid": 0,
        "started": False,
    }
    if len(json.dumps(record)) > _MOST_BYTES:
        raise bad(f"what is to be run has over {_MOST_BYTES >> 20} MiB: no system call takes that")
    identity = os.urandom(32).hex()
    _tidy(engine)
    _write(engine, identity, record)
    known = {**row.summary["labels"], "image": row.image, "name": row.name}
    action = f"exec_create: {' '.join(command)}"
    eventlog.append(str(engine.places.run), "container", action, row.id, {**known, "execID": identity})
    return answering.document({"Id": identity}, 201)


@bp.post("/exec/<identity>/start")
def start(identity: str) -> flask.Response:
    """Run it. The client's connection becomes its streams, unless it is detached."""
    engine = asking.engine()
    body = Fields(asking.body(may_be_empty=True), "body")
    with _starting:
        record = _read(engine, identity)
        row = _require_container(engine, identity, record)
        check_command(privileged=record["privileged"])
        if record["started"]:
            raise ConflictError(f"Error: Exec command {identity} has already run")
        _require_running(engine, row, row.id)
        if _is_size(body.raw("ConsoleSize")):
            record["terminal_size"] = body.raw("ConsoleSize")
        record["started"] = True
        _write(engine, identity, record)
    asked = {
        "id": identity,
        "args": record["args"],
        "env": record["env"],
        "user": record["user"] or None,
        "cwd": record["cwd"] or None,
        "terminal": record["terminal"],
        "privileged": record["privileged"],
        "detach_keys": record["detach_keys"],
        "hangs_up": flask.request.headers.get(_HANG_UP) == "1",
        **({"terminal_size": record["terminal_size"]} if record["terminal_size"] else {}),
    }
    with engine.keepers.connect(row.id) as keeper:
        if body.flag("Detach"):
            _run(engine, keeper, identity, record, {**asked, "stdin": False}, [])
            return flask.Response(status=200)
        with handover.take() as taken:
            terminal = bool(record["terminal"])
            taken.upgrade(RAW if body.flag("Tty") else stream_type(terminal=terminal))
            streams = {name: record[name] for name in ("stdin", "stdout", "stderr")}
            early = binascii.b2a_base64(taken.early).decode("ascii")
            asked |= {**streams, "framing": "multiplexed", "read": early, "failure": _FAILED}
            try:
                _run(engine, keeper, identity, record, asked, [taken.socket.fileno()])
            except NotExecutedError:
                pass  # the keeper has told the client
            except (ContainerError, OSError) as error:
                tell_failure(taken, error, terminal=terminal)
    return handover.gone()


@bp.get("/exec/<identity>/json")
def inspect(identity: str) -> flask.Response:
    """What became of it."""
    engine = asking.engine()
    record = _read(engine, identity)
    row = _known(engine, record)
    code = None
    running = False
    if record["started"]:
        code = engine.state(row.id).execs.get(identity) if row is not None else None
        if code is None and row is not None:
            running = identity in engine.keepers.running_execs(row.id)
            # it may have ended between the two looks
            code = None if running else engine.state(row.id).execs.get(identity, _KILLED)
    first, *rest = record["args"]
    return answering.document(
        {
            "ID": identity,
            "Running": running,
            "ExitCode": code,
            "ProcessConfig": {
                "tty": record["terminal"],
                "entrypoint": first,
                "arguments": rest,
                "privileged": record["privileged"],
                **({"user": record["user"]} if record["user"] else {}),
            },
            "OpenStdin": record["stdin"],
            "OpenStderr": record["stderr"],
            "OpenStdout": record["stdout"],
            "CanRemove": code is not None,
            "ContainerID": record["container"],
            "DetachKeys": "",
            "Pid": record["pid"],
        }
    )


@bp.post("/exec/<identity>/resize")
def resize(identity: str) -> flask.Response:
    """Tell its terminal its size. Clients ask as soon as they have asked for the start: that is waited for."""
    engine = asking.engine()
    rows, columns = terminal_size()
    record = _read(engine, identity)
    row = _require_container(engine, identity, record)
    end = time.monotonic() + _READY_S
    while True:
        try:
            with engine.keepers.connect(row.id) as keeper:
                keeper.ask("resize", {"exec": identity, "rows": rows, "columns": columns})
            return flask.Response(status=200)
        except (StateError, KeeperError) as error:
            if identity in engine.state(row.id).execs or not engine.state(row.id).has_process:
                raise ConflictError(f"exec {identity} does not run") from error
            if time.monotonic() > end:
                raise bad("timeout waiting for exec session ready") from error
        time.sleep(_LOOK_EACH_S)


def _run(
    engine: Engine, keeper: Conversation, identity: str, record: dict[str, Any], asked: dict[str, Any], fds: list[int]
) -> None:
    """Have the keeper run it, and write down its process. Raises ContainerError; its keeper has kept a code then."""
    answer, _ = keeper.ask("exec", asked, fds, timeout_s=BEGIN_TIMEOUT_S)
    _write(engine, identity, {**record, "pid": answer["pid"]})


def _require_running(engine: Engine, row: Row, ref: str) -> None:
    state = engine.state(row.id)
    if not state.has_process:
        raise ConflictError(f"container {row.id} is not running")
    if state.status == "paused":
        raise ConflictError(f"Container {ref} is paused, unpause the container before exec")


def _known(engine: Engine, record: dict[str, Any]) -> Row | None:
    try:
        return engine.records.container(record["container"])
    except ContainerNotFoundError:
        return None


def _require_container(engine: Engine, identity: str, record: dict[str, Any]) -> Row:
    row = _known(engine, record)
    if row is None:
        raise ExecNotFoundError(f"No such exec instance: {identity}")
    return row


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, list) and len(size) == 2 and all(isinstance(each, int) and 0 < each <= 0xFFFF for each in size)
    )


# The files


def _folder(engine: Engine) -> Path:
    return engine.places.run / "execs"


def _write(engine: Engine, identity: str, record: dict[str, Any]) -> None:
    folder = _folder(engine)
    folder.mkdir(mode=0o700, exist_ok=True)
    data = json.dumps(record).encode("ascii")
    write_atomically(folder / identity, data, mode=0o600)


def _read(engine: Engine, identity: str) -> dict[str, Any]:
    if not _IDENTITY.fullmatch(identity):
        raise ExecNotFoundError(f"No such exec instance: {identity}")
    try:
        found: dict[str, Any] = json.loads((_folder(engine) / identity).read_bytes())
    except FileNotFoundError as error:
        raise ExecNotFoundError(f"No such exec instance: {identity}") from error
    return found


def _tidy(engine: Engine) -> None:
    """Forget what is old when there are many; and when they take too much, those that are oldest."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(_folder(engine)):
            with contextlib.suppress(FileNotFoundError):
                known = entry.stat()
                found.append((known.st_mtime, known.st_size, entry.path))
    now, size = time.time(), sum(each[1] for each in found)
    many = len(found) >= _MOST
    for moment, bytes_, path in sorted(found):
        if size <= _MOST_BYTES_OF_ALL and not (many and now - moment > _OLD_S):
            return
        size -= bytes_
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
