"""How the worker starts processes of its own code beside Celery's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from worker.processresources import WorkerSettings

CHECKOUT: Final = Path(__file__).resolve().parents[1]


def environment_of(settings: WorkerSettings) -> dict[str, str]:
    """Environment variables by which the process finds this code, and the worker's own root."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "SHIPLAP_ROOT": str(settings.service.root), "PYTHONPATH": path}
