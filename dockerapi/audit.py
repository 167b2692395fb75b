"""The audit trail: who asked for a change of anything, and what came of it. A line of JSON for each such request.

Of BuildKit's calls, which no request of HTTP's stands for, those that change something have a line each, too.

    ROOT/audit/engine.jsonl, engine.1.jsonl, …    the newest first; of all members' engines; only root reads it

A line says what a request is about, and no more: variables, build arguments and commands may be secrets.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import flask

from core.owners import user_name
from dockerapi import handover
from engine.times import text_of

_MOST_BYTES: Final = 16 << 20
_MOST_FILES: Final = 4
_MOST_TEXT: Final = 500
_MOST_NAMES: Final = 100
_CHANGING: Final = ("POST", "PUT", "DELETE")
_TYPED_INTO: Final = "/attach/ws"
"""A GET, and all the same what goes into a container's input."""

_TOLD: Final = (
    "name",
    "fromImage",
    "fromSrc",
    "repo",
    "tag",
    "t",
    "container",
    "signal",
    "force",
    "v",
    "path",
    "remote",
)
"""What of a query is written down."""

_USER: Final = re.compile(r"://[^/?#]*@")
_QUERY: Final = re.compile(r"(://[^?#]*)\?[^#]*")

_log: Final = logging.getLogger(__name__)


class Trail:
    """The files of the trail, as one process writes them. Thread-safe. Several processes may write to the same."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "audit"
        self._lock = threading.Lock()
        self._is_failing = False

    def note(self, status: int, now_ns: int) -> None:
        """Write down the request that is served, if it was to change something. It never fails: that is logged."""
        request = flask.request
        if request.method not in _CHANGING and not request.path.endswith(_TYPED_INTO):
            return
        line: dict[str, Any] = {"method": request.method, "path": request.path[:_MOST_TEXT], "status": status}
        asked = {name: _redacted(request.args[name])[:_MOST_TEXT] for name in _TOLD if name in request.args}
        if asked:
            line["query"] = asked
        if wanted := flask.g.get("wanted"):
            line["container"] = wanted
        self._add(handover.peer(), now_ns, line)

    def note_call(self, peer: handover.Peer, method: str, code: int, names: Sequence[str], now_ns: int) -> None:
        """Write down a call of BuildKit's that was to change something. It never fails: that is logged.

        code: gRPC's status. names: of the images that were to be made.
        """
        line: dict[str, Any] = {"method": "POST", "path": method[:_MOST_TEXT], "grpc": code}
        if names:
            line["images"] = [name[:_MOST_TEXT] for name in names[:_MOST_NAMES]]
        self._add(peer, now_ns, line)

    def _add(self, peer: handover.Peer, now_ns: int, members: Mapping[str, Any]) -> None:
        line = {"time": text_of(now_ns), "uid": peer.uid, "user": user_name(peer.uid), "pid": peer.pid, **members}
        data = json.dumps(line, ensure_ascii=True).encode("ascii") + b"\n"
        try:
            with self._lock:
                self._write(data)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                _log.warning("the audit trail in %s cannot be written: %s", self._folder, error.strerror)

    def _write(self, data: bytes) -> None:
        path = self._folder / "engine.jsonl"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, data)  # whole lines, of all processes: O_APPEND
            is_full = os.fstat(fd).st_size >= _MOST_BYTES
        finally:
            os.close(fd)
        if is_full:
            self._turn(path)

    def _turn(self, path: Path) -> None:
        """Begin a new file. Two processes may do it at once: then a file has fewer lines, and none is lost."""
        names = [path, *(path.with_name(f"engine.{number}.jsonl") for number in range(1, _MOST_FILES))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older)


def note_wanted(body: dict[str, Any]) -> None:
    """Remember what a create asks of the host, for the line of this request. body: of the create, not checked yet."""
    host = body.get("HostConfig")
    host = host if isinstance(host, dict) else {}
    found: dict[str, Any] = {"image": _text(body.get("Image"))}
    for name in ("Privileged", "NetworkMode", "PidMode", "IpcMode"):
        if host.get(name):
            found[name] = _text(host[name])
    for name in ("Binds", "CapAdd", "SecurityOpt"):
        if isinstance(host.get(name), list) and host[name]:
            found[name] = [_text(each) for each in host[name][:_MOST_NAMES]]
    mounts = host.get("Mounts")
    if isinstance(mounts, list) and mounts:
        found["Mounts"] = [
            {name: _text(each.get(name)) for name in ("Type", "Source", "Target")}
            for each in mounts[:_MOST_NAMES]
            if isinstance(each, dict)
        ]
    flask.g.wanted = found


def _redacted(text: str) -> str:
    """Of URLs no user and password, and no query: a signature in it is a secret, too."""
    return _QUERY.sub(r"\1?…", _USER.sub("://", text))


def _text(value: Any) -> Any:
    return value if isinstance(value, (bool, int)) or value is None else str(value)[:_MOST_TEXT]
