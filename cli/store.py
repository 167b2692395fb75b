"""Opening the local store that ``--root`` or the environment names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.settings import Settings

if TYPE_CHECKING:
    from images.store import Store


def open_store(root: str | None) -> Store:
    """Open the store for a command (a context manager). root: the value of ``--root``, or None."""
    from images.store import Store

    return Store.open(Settings.from_environ(root=root).root)
