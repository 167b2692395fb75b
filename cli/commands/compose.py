"""``shiplap compose``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import click

from cli.errors import CommandError

_PLUGINS: Final = (
    "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)  # fmt: skip
"""Where docker looks for its plugins, behind the user's own directory."""

_OTHERS: Final = ("DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""Variables that choose another engine, or say how to reach one."""


@click.command(
    "compose",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS] COMMAND [ARGS]...")
@click.pass_obj
def command(root: str | None, words: Sequence[str]) -> int:
    """Run docker compose with this engine.

    It has to be installed: docker's plugin docker-compose, or the program of that name. All words are its own, and it
    reads the files; 'shiplap compose help' shows what it can do. Where no 'shiplap engine' listens, one does until
    compose ends. Containers need none.

    \b
    shiplap compose up -d
    shiplap compose ps
    """
    from cli.service.enginesocket import for_its_time, there

    program = found(os.environ)
    path = there(root)
    if path is not None:
        sys.stdout.flush()
        os.execve(program, [program, *words], environment(os.environ, path))  # noqa: S606
    with for_its_time(root) as path:
        return _run([program, *words], environment(os.environ, path))


def found(environ: Mapping[str, str]) -> str:
    """docker compose. Raises CommandError when it is not installed."""
    own = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    for folder in (f"{own}/cli-plugins", *_PLUGINS):
        path = Path(folder) / "docker-compose"
        if os.access(path, os.X_OK) and path.is_file():
            return str(path)
    program = shutil.which("docker-compose", path=environ.get("PATH"))
    if program is not None:
        return program
    if shutil.which("podman-compose", path=environ.get("PATH")):
        raise CommandError(
            "docker compose is not installed, and podman-compose knows podman's engine alone",
            hint="apt-get install docker-compose",
        )
    raise CommandError("docker compose is not installed", hint="apt-get install docker-compose")


def environment(environ: Mapping[str, str], path: Path) -> dict[str, str]:
    """For compose: it is to use the engine at this socket, whatever else is chosen."""
    kept = {name: value for name, value in environ.items() if name not in _OTHERS}
    return {**kept, "DOCKER_HOST": f"unix://{path}"}


def _run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run it to its end; its exit code. Signals are its own to obey: we end after it."""
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        if process is not None and number != signal.SIGINT:  # the terminal sends that one to both
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    process = subprocess.Popen(arguments, env=environ)
    code = process.wait()
    return code if code >= 0 else 128 - code
