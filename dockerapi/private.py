"""``python -m dockerapi.private VIEW IMAGES``: the engine of one job, which lives and ends with it.

It is started in a container of its own beside the job's (``ci.execution.engine``), with the job's users and network.
Standard input is the listening socket that the job knows as DOCKER_HOST. VIEW is the job's root as it is seen here;
IMAGES is the socket of whoever fetches images by the job's rights, or empty.
"""

from __future__ import annotations

import logging
import os
import sys

from containers.delegation import make_room
from core.errors import ShiplapError
from core.leaving import code_of, leave
from core.settings import Settings
from dockerapi.listening import Listeners
from dockerapi.tcp.terms import Terms
from dockerapi.terminal import log_to_terminal
from engine.callers import Caller
from engine.places import Places

_CONTROL_GROUPS = "/sys/fs/cgroup"


def main() -> int:
    """Serve until the container ends."""
    view, images = sys.argv[1:]
    log_to_terminal()
    logging.getLogger().setLevel(logging.WARNING)  # a job's people read it
    try:
        settings = Settings.from_environ()
        Places.of(settings.root).make()
        if os.access(f"{_CONTROL_GROUPS}/cgroup.subtree_control", os.W_OK):
            make_room(_CONTROL_GROUPS)  # else its containers could have no limits of their own
        listeners = Listeners.given(os.dup(0))
        os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 0)
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    from dockerapi.access import JobDoors
    from dockerapi.server import Server

    Server(settings, listeners, Terms(), JobDoors(settings, Caller.of_job(view, images))).run()
    return 0


if __name__ == "__main__":
    leave(code_of(main))
