"""Files of containers as tars: copied out, copied in, exported; and images of containers."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import flask

from core.errors import ShiplapError
from core.references import Reference
from dockerapi import answering, asking
from dockerapi.errors import bad
from engine.times import text_of

bp = flask.Blueprint("archive", __name__)

TAR: Final = "application/x-tar"
_STAT: Final = "X-Docker-Container-Path-Stat"
_PIECE: Final = 256 << 10


@bp.route("/containers/<ref>/archive", methods=["HEAD", "GET"])
def copy_out(ref: str) -> flask.Response:
    """What is at a path: told in a header, and as a tar."""
    engine = asking.engine()
    path = _path()
    found = engine.files.stat(ref, path)
    if flask.request.method == "HEAD":
        response = answering.nothing(200)
    else:
        response = streamed(lambda sink: engine.files.copy_out(ref, path, sink.fileno()))
    response.headers[_STAT] = base64.b64encode(json.dumps(_shown(found)).encode()).decode("ascii")
    return response


@bp.put("/containers/<ref>/archive")
def copy_in(ref: str) -> flask.Response:
    """Unpack a tar into the directory at a path."""
    engine = asking.engine()
    path = _path()
    engine.files.stat(ref, path)
    engine.files.copy_in(
        ref,
        path,
        flask.request.stream,  # type: ignore[arg-type]  # read(size) is what is needed
        owners=True,
        no_overwrite=asking.flag("noOverwriteDirNonDir"),
    )
    return flask.Response(status=200)


@bp.get("/containers/<ref>/export")
def export(ref: str) -> flask.Response:
    """Its root file system, without what is mounted on it."""
    engine = asking.engine()
    engine.records.container(ref)

    def write(sink: socket.socket) -> None:
        with sink.makefile("wb") as file:
            engine.files.export(ref, file)

    return streamed(write, "application/octet-stream")


@bp.post("/commit")
def commit() -> flask.Response:
    """Make an image of a container."""
    engine = asking.engine()
    config = asking.body(may_be_empty=True)
    repository, tag = asking.text("repo"), asking.text("tag")
    name = Reference.parse(f"{repository}:{tag}" if tag else repository).with_default_tag() if repository else None
    identity = engine.files.commit(
        asking.text("container"),
        name,
        comment=asking.text("comment"),
        author=asking.text("author"),
        pause=asking.flag("pause", absent=True),
        config={key: value for key, value in config.items() if value is not None} or None,
        instructions=[line for text in asking.texts("changes") for line in text.splitlines() if line.strip()],
    )
    return answering.document({"Id": identity}, 201)


def streamed(write: Callable[[socket.socket], Any], content_type: str = TAR) -> flask.Response:
    """A body that a thread of its own writes to a socket. An error cuts the body off: a tar shows that."""
    ours, theirs = socket.socketpair()
    failed: list[BaseException] = []

    def run() -> None:
        with theirs:
            try:
                write(theirs)
            except (ShiplapError, OSError, ValueError) as error:
                failed.append(error)

    def read() -> Iterator[bytes]:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while data := ours.recv(_PIECE):
                yield data
            thread.join()
            if failed:
                raise failed[0]
        finally:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)  # also for a child of the writer's that has this end, too
            ours.close()

    return answering.pieces(read(), content_type)


def _path() -> str:
    path = asking.text("path")
    if not path:
        raise bad("bad parameter: 'path' cannot be empty")
    if "\0" in path:
        raise bad("bad parameter: 'path' has a NUL in it")
    return path


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in found.items() if key != "mtime_ns"}
    return {
        "name": shown["name"],
        "size": shown["size"],
        "mode": shown["mode"],
        "mtime": text_of(found["mtime_ns"]),
        "linkTarget": shown["linkTarget"],
    }
