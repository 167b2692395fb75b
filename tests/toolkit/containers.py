"""Clearing up behind tests that made containers of the engine by the command line."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from containers.errors import KeeperError
from containers.keeper import protocol
from containers.keeper.nursery_client import nursery
from containers.switch import remove_switch
from engine.abandoned import root_of
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
    if (places.run / "switch").exists():
        remove_switch(str(places.run))
    shutil.rmtree(places.run, ignore_errors=True)


def end_switches(below: Path, engines: Path = Path("/run/shiplap")) -> None:
    """End the nurseries and switches of all roots below a directory, where no container runs any more."""
    for run in engines.iterdir() if engines.is_dir() else ():
        if not Path(root_of(run) or "/").is_relative_to(below):
            continue
        with suppress(KeeperError, TimeoutError), protocol.connect(str(run / "nursery.sock")) as asked:
            if asked.ask("status")[0]["keepers"]:
                continue
            asked.ask("end")
        if (run / "switch").exists():
            remove_switch(str(run))
        shutil.rmtree(run, ignore_errors=True)
