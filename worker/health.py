"""``python -m worker.health``: whether a worker of this host is well, for supervisors that restart it if not.

A worker is well if it consumes; that its process lives is not enough. Its row in the database must be younger than a
few beats.
"""

from __future__ import annotations

import platform
import sys

from core.errors import ShiplapError
from core.settings import ServiceSettings
from pipelines.service import Service


def is_well(service: Service, host: str) -> bool:
    """Whether one of the workers that are named after ``host`` beats. Raises DatabaseUnreachableError."""
    mine = (worker for worker in service.workers.list() if worker.name.rpartition("-")[0] == host)
    return any(worker.state != "lost" for worker in mine)


def main() -> int:
    """0: well. 1: not, or nobody can tell."""
    try:
        with Service.open(ServiceSettings.from_environ()) as service:
            well = is_well(service, platform.node())
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    sys.stderr.write("" if well else f"no worker of {platform.node()} consumes\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
