"""``shiplap image rm``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cli.declared import Argument, Command, Option
from cli.guarding import for_each, tell
from cli.store import open_store

_FORCE: Final = Option(("-f", "--force"), "Given an ID, remove the image with all its names.", flag=True)


def remove(root: str | None, /, *, names: Sequence[str], force: bool) -> int:
    """Remove names, and images that have none left."""
    with open_store(root) as store:

        def take(name: str) -> None:
            for line in store.images.remove(name, force=force):
                tell(line)

        return for_each(names, take)


declared_command: Final = Command("rm", (Argument("names", "IMAGE...", many=True),), (_FORCE,), remove)
