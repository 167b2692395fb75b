"""Commands that write below a service's ROOT, as the user whose it is."""

from __future__ import annotations

import os
from pathlib import Path

from cli.errors import CommandError
from core.owners import user_name


def require_own(root: Path, words: str) -> None:
    """Raises CommandError when this process is root, and the service's ROOT is another user's.

    A web process of its own user could not read what root makes there: the key, the contexts. words: of the command.
    """
    try:
        owner = root.stat().st_uid
    except FileNotFoundError:
        return
    if owner and os.geteuid() == 0:
        name = user_name(owner)
        raise CommandError(
            f"{root} belongs to {name}, who could not read what root makes there",
            hint=f"with the service's settings: runuser -u {name} -- shiplap --root {root} {words}",
        )
