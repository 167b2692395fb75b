"""What killed launchers left behind. Everything but control groups dies with the process (see ``server``)."""

from __future__ import annotations

from containers import cgroups
from containers.hierarchies import own_hierarchies


def reclaim() -> list[str]:
    """Remove the control groups of launchers that are gone, of any root directory; the paths that were removed.

    Never touches what a living launcher uses: it holds a lock on its own. A starting launcher does this by itself.
    """
    return cgroups.abandoned(own_hierarchies())
