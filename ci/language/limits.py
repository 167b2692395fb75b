"""How much a pipeline file may ask for. What bounds its bytes and nodes is ``ci.document``'s."""

from __future__ import annotations

from typing import Final

MAX_JOBS: Final = 256
"""Of one run, those of matrices counted one by one."""

MAX_COMBINATIONS: Final = 64
"""Of one matrix."""

MAX_SERVICES: Final = 20
"""Of one job."""

MAX_GROUP: Final = 200
"""Characters of a group's name."""

MAX_SCHEDULES: Final = 20
"""Of one file."""
