"""Finding the keeper of a container, or having one made. Whoever only looks never has one made."""

from __future__ import annotations

import contextlib
import sys

from containers.errors import ContainerError, KeeperError
from containers.keeper import nursery_client
from containers.keeper.protocol import Conversation
from core.release import VERSION
from engine.places import Places


class Keepers:
    """The keepers of one root's containers."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._root = str(places.root)
        self._run = str(places.run)

    def connect(self, identity: str, timeout_s: float = 10.0) -> Conversation:
        """Talk to the keeper that there is. Raises KeeperError when there is none; NoAnswerError."""
        return nursery_client.living(self._run, identity, timeout_s)

    def running_execs(self, identity: str) -> list[str]:
        """The IDs of the commands that run in a container beside its own."""
        try:
            with self.connect(identity) as keeper:
                answer, _ = keeper.ask("state")
        except KeeperError:
            return []  # it does not run
        return list(answer["execs"])

    def connect_to_end(self, identity: str) -> Conversation:
        """The same, to have the container end. Raises KeeperError when there is no keeper.

        What a container leaves that removes itself is removed by its nursery's release, whose files may have gone. So
        a nursery of another release than this one is replaced first.
        """
        keeper = self.connect(identity)
        if keeper.release != VERSION:
            with contextlib.suppress(ContainerError):  # it can be ended without a nursery
                self.nursery().close()
        return keeper

    def summon(self, identity: str) -> Conversation:
        """Talk to the keeper; one is made when there is none. Raises KeeperError."""
        self._places.make()  # a boot takes RUN away
        return nursery_client.keeper(self._root, self._run, identity, finish=self._finish())

    def nursery(self) -> Conversation:
        """Talk to the nursery, which is started when there is none. Raises KeeperError."""
        self._places.make()
        return nursery_client.nursery(self._root, self._run, finish=self._finish())

    def _finish(self) -> list[str]:
        """What removes the containers that ended and were to be removed: see ``finishing``."""
        return [sys.executable, "-I", "-m", "engine.finishing", self._root, self._run]
