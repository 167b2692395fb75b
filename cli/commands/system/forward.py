"""``shiplap system forward``."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

import click

from cli.errors import CommandError

_UNIX: Final = "unix://"
_NAME_DIGITS: Final = 12
_WAITING: Final = 128


@click.command("forward")
@click.argument("server", required=False)
@click.option("--listen", metavar="ADDRESS", help="unix:///PATH, for your clients.  [default: one in RUN]")
@click.option("--token-of", metavar="SERVER", help="The service whose token is sent.  [default: SERVER]")
@click.pass_obj
def command(root: str | None, *, server: str | None, listen: str | None, token_of: str | None) -> None:
    """Reach another host's engine by your token of a service.

    A socket of yours, behind which docker's clients find the engine at SERVER, a URL or a context's name: 'shiplap
    serve --engine', or 'shiplap engine --tokens'. buildx, compose and SDKs need not know the token. It ends with
    Ctrl-C; containers there go on.

    \b
    shiplap login --host https://ci.example.org
    shiplap system forward https://ci.example.org &
    docker -H unix:///run/user/1000/shiplap/….sock build -t app .
    """
    from dataclasses import replace

    from cli.remote.choice import host_option
    from cli.remote.forwarding import forward
    from cli.remote.servers import require_private, required_server

    chosen = required_server(server or host_option(), root)
    if token_of:
        chosen = replace(chosen, token=required_server(token_of, root).token)
    require_private(chosen, "your token")
    if not chosen.token:
        raise CommandError(
            f"there is no token for {token_of or chosen.url}",
            hint=f"shiplap login --host {token_of or chosen.url}, or SHIPLAP_TOKEN",
        )
    path = _path(listen, chosen.url, root)
    with _listening(path) as listener:
        try:
            forward(
                chosen, listener, lambda: click.echo(f"shiplap system forward: DOCKER_HOST={_UNIX}{path}", err=True)
            )
        finally:
            path.unlink(missing_ok=True)


def _path(listen: str | None, url: str, root: str | None) -> Path:
    from core.settings import Settings
    from core.smallhash import sha256
    from engine.places import Places

    if listen is None:
        places = Places.of(Settings.from_environ(root=root).root)
        folder = places.run.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        return folder / f"far-{sha256(url.encode()).hexdigest()[:_NAME_DIGITS]}.sock"
    path = Path(listen.removeprefix(_UNIX))
    if not listen.startswith(_UNIX) or not path.is_absolute():
        raise CommandError(f"--listen {listen} is no socket's place", hint="write unix:///PATH")
    return path


def _listening(path: Path) -> socket.socket:
    """A socket that only this user may open. Raises CommandError."""
    from cli.service.enginesocket import connects

    if connects(path):
        raise CommandError(f"somebody listens at {path} already", hint="it may serve you; or choose another --listen")
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise CommandError(f"cannot listen at {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    listener.listen(_WAITING)
    return listener
