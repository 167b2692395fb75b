"""``python -m dockerapi [--listen ADDRESS]…``: the engine's API, as ``shiplap engine`` starts it."""

from __future__ import annotations

import argparse
import os
import sys

from core import namespaces
from core.errors import ShiplapError
from core.leaving import code_of, leave
from core.settings import Settings
from dockerapi.listening import Listeners
from dockerapi.narrow import WEB_USER, Pages
from dockerapi.tcp.terms import Terms, add_to
from dockerapi.terminal import log_to_terminal
from engine.places import Places


def main() -> int:
    """Find out where to listen, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="shiplap engine")
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--pages", default="", metavar="ADDRESS")
    parser.add_argument("--pages-user", default=WEB_USER, metavar="NAME")
    parser.add_argument("--handed", default="", metavar="PATH", help="Where a service hands connections over.")
    add_to(parser)
    options = parser.parse_args()
    log_to_terminal()
    try:
        settings = Settings.from_environ()
        places = Places.of(settings.root)
        places.make()
        if os.geteuid() != 0 or not namespaces.is_initial():
            _gather(places)
        terms = Terms.of(options)
        listeners = Listeners.open(
            options.listen, places, terms, Pages.of(options.pages, options.pages_user), options.handed
        )
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    from dockerapi.access import Doors
    from dockerapi.server import Server

    Server(settings, listeners, terms, Doors(settings)).run()
    return 0


def _gather(places: Places) -> None:
    """Without root: be where the user's containers are."""
    from containers.keeper.anchor import enter

    enter(str(places.run))


if __name__ == "__main__":
    leave(code_of(main))  # gunicorn's processes, this one and its worker, end by SystemExit
