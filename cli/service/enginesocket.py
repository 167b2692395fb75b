"""The socket of this user's engine's API: the one that is there, or one for as long as it is needed."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cli.errors import CommandError
from core.files import reclaim_scratch, scratch_directory
from core.processes import end_with_parent
from core.settings import Settings
from engine.places import Places

SYSTEMS: Final = Path("/run/shiplap/docker.sock")
"""Where ``shiplap-engine.socket`` listens, for the engine of root's usual root."""

_SYSTEMS_ROOT: Final = Path("/var/lib/shiplap")
_PREFIX: Final = "api-"
_START_S: Final = 60.0
_END_S: Final = 15.0
_POLL_S: Final = 0.02
_LOOK_S: Final = 5.0


def there(root: str | None) -> Path | None:
    """The socket at which the engine of a root is served now; None: at none that is known. root: of ``--root``."""
    settings = Settings.from_environ(root=root)
    candidates = [Places.of(settings.root).api]
    if os.geteuid() == 0 and settings.root == _SYSTEMS_ROOT:
        candidates.append(SYSTEMS)
    return next((path for path in candidates if connects(path)), None)


@contextlib.contextmanager
def for_its_time(root: str | None) -> Iterator[Path]:
    """Serve the engine of a root at a socket of our own, within the block. Raises CommandError."""
    places = Places.of(Settings.from_environ(root=root).root)
    places.make()
    reclaim_scratch(places.run.parent, _PREFIX)
    with scratch_directory(places.run.parent, _PREFIX) as folder:
        path, log = folder / "docker.sock", folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dockerapi", "--listen", f"unix://{path}"],
                env={**os.environ, "SHIPLAP_ROOT": str(places.root)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C is for who uses it
                preexec_fn=functools.partial(end_with_parent, os.getpid()),
            )
        try:
            _await(process, path, log)
            yield path
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def connects(path: Path) -> bool:
    """Whether somebody listens at a socket, and lets us in."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_LOOK_S)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _await(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    end = time.monotonic() + _START_S
    while not connects(path):
        if process.poll() is not None:
            told = log.read_text(errors="replace").strip().splitlines()
            raise CommandError(
                f"the engine's API has not started: {(told or ['it says nothing'])[0].removeprefix('error: ')}",
                hint="shiplap engine says more",
            )
        if time.monotonic() > end:
            raise CommandError(f"the engine's API was not ready within {_START_S:.0f} seconds")
        time.sleep(_POLL_S)
