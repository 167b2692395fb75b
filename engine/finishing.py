"""What is due: removing containers that ended, and were to be removed then (``--rm``). A program by itself.

A keeper whose container has ended leaves a file in RUN/due, and waits, with the container's lock, for the word
``finished``. The nursery, or the keeper, runs this, which does everything that is due in one go. What it does not come
to, the next does: a file stays until its container is gone. Where the root itself is gone, it ends what is left of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path

from containers.errors import KeeperError
from core.errors import ShiplapError
from engine.abandoned import end_if_abandoned
from engine.engine import Engine
from engine.errors import ContainerNotFoundError
from engine.places import Places

_log = logging.getLogger(__name__)


def finish(engine: Engine) -> None:
    """Remove every container that is due. One that cannot be removed now stays due."""
    due = engine.places.due
    try:
        names = sorted(os.listdir(due))
    except FileNotFoundError:
        return
    for identity in names:
        try:
            engine.remove_ended(identity)
        except ContainerNotFoundError:
            pass
        except (ShiplapError, OSError):
            _log.exception("container %s is to be removed, and cannot be", identity[:12])
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(due / identity)
        with contextlib.suppress(KeeperError), engine.keepers.connect(identity) as keeper:
            keeper.ask("finished")


def main() -> None:
    """``python -m engine.finishing ROOT RUN``."""
    root, run = sys.argv[1:]
    if end_if_abandoned(Path(run)):
        return
    with Engine(Places(Path(root), Path(run))) as engine:
        finish(engine)


if __name__ == "__main__":
    main()
