"""Opening the local store that ``--root`` or the environment names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.settings import Settings

if TYPE_CHECKING:
    from images.store import Store


def as_root() -> None:
    """Go on as root of a user namespace when the user is not root, since layers have files of many owners.

    Call it before anything starts a thread. Raises NamespaceError.
    """
    if os.geteuid() != 0:
        from containers.rootless import become_root

        become_root()


def open_store(root: str | None, insecure: Sequence[str] = ()) -> Store:
    """Open the store for a command. It is a context manager, and fetches missing layers when it needs them.

    root: the value of ``--root``, or None.
    insecure: the values of ``--insecure-registry``.
    """
    from cli.on_demand import LayersOnDemand
    from images.store import Store

    as_root()

    place = Settings.from_environ(root=root).root
    is_new = not (place / "store.db").exists()
    store = Store.open(place)
    if is_new:
        _warn_of_unfit(str(place))
    store.layers.source = LayersOnDemand(store, root, insecure)
    return store


def _warn_of_unfit(place: str) -> None:
    from cli.guarding import say
    from core.filesystems import way_out, why_unfit

    if unfit := why_unfit(place):
        say(f"warning: {unfit}: builds with RUN, and `shiplap run`, will fail\nhint: {way_out(place)}")
