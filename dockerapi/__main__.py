"""``python -m dockerapi [--listen ADDRESS]…``: the engine's API, as ``shiplap engine`` starts it."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from core import namespaces
from core.errors import ShiplapError
from core.leaving import leave
from core.settings import Settings
from dockerapi.listening import Listeners
from engine.places import Places


def main() -> int:
    """Find out where to listen, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="shiplap engine")
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="shiplap engine: %(message)s", stream=sys.stderr)
    try:
        settings = Settings.from_environ()
        places = Places.of(settings.root)
        places.make()
        if os.geteuid() != 0 or not namespaces.is_initial():
            _gather(places)
        listeners = Listeners.open(options.listen, places)
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    from dockerapi.server import Server

    Server(settings, listeners).run()
    return 0


def _gather(places: Places) -> None:
    """Without root: be where the user's containers are."""
    from containers.keeper.anchor import enter

    enter(str(places.run))


def _ended() -> int:
    """The exit code of ``main``, or the one of gunicorn's processes: this one and its worker."""
    try:
        return main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


if __name__ == "__main__":
    leave(_ended())
