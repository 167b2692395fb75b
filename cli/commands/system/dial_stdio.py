"""``shiplap system dial-stdio``."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from pathlib import Path
from typing import Final

import click

from cli.errors import CommandError

_PIECE: Final = 128 << 10
_UNIX: Final = "unix://"


@click.command("dial-stdio")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Join input and output to the engine's API.

    docker's clients run this on a host that they reach by ssh, under the name of docker. Where no 'shiplap engine'
    listens, one does until the connection ends. DOCKER_HOST and --host choose another socket, as unix:///PATH.

    \b
    ln -s shiplap /usr/local/bin/docker                            on the host
    docker context create far --docker host=ssh://ana@far.example.org
    """
    from cli.service.enginesocket import for_its_time, there

    chosen = ctx.meta.get("shiplap.host") or os.environ.get("DOCKER_HOST") or ""
    root: str | None = ctx.obj
    if chosen.startswith(_UNIX):
        _join(Path(chosen.removeprefix(_UNIX)))
    elif (path := there(root)) is not None:
        _join(path)
    else:
        with for_its_time(root) as path:
            _join(path)


def _join(path: Path) -> None:
    """Bytes both ways, until the engine has ended its direction, or nobody reads our output any more."""
    with socket.socket(socket.AF_UNIX) as engine:
        try:
            engine.connect(str(path))
        except OSError as error:
            raise CommandError(f"cannot reach an engine at {path}: {error.strerror}") from error
        threading.Thread(target=_send, args=(engine,), daemon=True).start()
        ready = select.poll()
        ready.register(engine, select.POLLIN)
        ready.register(1, 0)  # what there is always: a client that is gone, while the engine has nothing to say
        with contextlib.suppress(ConnectionError):
            while all(fd != 1 for fd, _ in ready.poll()):
                data = engine.recv(_PIECE)
                if not data:
                    break
                left = memoryview(data)
                while left:
                    left = left[os.write(1, left) :]


def _send(engine: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _PIECE):
            engine.sendall(data)
        engine.shutdown(socket.SHUT_WR)
