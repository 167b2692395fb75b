"""``python -m dockerapi [--listen ADDRESS]…``: the engine's API, as ``shiplap engine`` starts it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from core import namespaces
from core.errors import ShiplapError
from core.leaving import code_of, leave
from core.settings import Settings
from dockerapi.listening import Listeners
from engine.places import Places


class Lines(logging.Formatter):
    """Records for a terminal that is root's: paths and names in them are strangers', and must give it no orders."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return _shown(super().formatMessage(record), but="")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return _shown(super().formatException(ei), but="\n")


def _shown(text: str, *, but: str) -> str:
    """The text with an escape for each character that cannot be printed."""
    return "".join(
        each if each.isprintable() or each in but else each.encode("unicode_escape", "surrogatepass").decode("ascii")
        for each in text
    )


def main() -> int:
    """Find out where to listen, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="shiplap engine")
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS")
    options = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("shiplap engine: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
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


if __name__ == "__main__":
    leave(code_of(main))  # gunicorn's processes, this one and its worker, end by SystemExit
