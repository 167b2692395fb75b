"""Clearing up behind tests that made containers of the engine by the command line."""

from __future__ import annotations

import shutil

from containers.keeper.nursery_client import nursery
from engine.places import Places
from tests.toolkit.shiplap import Shiplap


def end_containers(shiplap: Shiplap) -> None:
    """Remove every container of this root, have its nursery end, and leave nothing of it in the host's /run."""
    for identity in shiplap("ps", "-aq").stdout.split():
        shiplap("rm", "-f", "-v", identity)
    places = Places.of(shiplap.root)
    if (places.run / "nursery.sock").exists():
        with nursery(str(places.root), str(places.run), finish=[]) as conversation:
            conversation.ask("end")
    shutil.rmtree(places.run, ignore_errors=True)
