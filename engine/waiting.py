"""Waiting for a container's end: for its keeper's word, and where the keeper has gone, for what is on disk."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from containers.errors import KeeperError
from containers.keeper import protocol
from core.cancellation import check
from engine import locking
from engine.errors import InvalidRequestError, KeeperGoneError
from engine.keepers import Keepers
from engine.places import Places
from engine.records import Records, Row
from engine.state import State, read

if TYPE_CHECKING:
    from containers.keeper.protocol import Conversation

_CONDITIONS: Final = ("", "not-running", "next-exit", "removed")
_HANDING: Final = 2
"""The oldest protocol of a keeper that takes a client's connection beside a wait."""

_LOOK_EACH_S: Final = 0.02
_END_S: Final = 60.0
"""How long a keeper may take to end after its container: it syncs a file, and closes."""


class Waiter:
    """Waits for the ends of one root's containers. Thread-safe."""

    def __init__(self, places: Places, records: Records, keepers: Keepers) -> None:
        self._places = places
        self._records = records
        self._keepers = keepers

    def wait(self, ref: str, condition: str = "not-running") -> int:
        """Wait until it does not run (at once if so), until it ends the next time, or until it is removed.

        Returns its exit code.
        """
        row = self._records.container(ref)
        found = self.begin_wait(row.id, condition)
        while not isinstance(found, int):
            with found as keeper, contextlib.suppress(KeeperError):
                return ending_of(keeper).exit_code
            check()
            found = self.resume_wait(row, condition)
        return found

    def begin_wait(self, ref: str, condition: str) -> int | Conversation:
        """As ``wait``, for who has other things to do: its exit code, if that is known; else who will tell it.

        That connection is the caller's; ``ending_of`` reads it. When it breaks, ``resume_wait`` goes on.
        """
        if condition not in _CONDITIONS:
            raise InvalidRequestError(f'invalid condition: "{condition}"')
        row = self._records.container(ref)
        state = read(self._places.container(row.id))
        condition = condition or "not-running"
        if condition == "not-running" and not state.is_up:
            return state.exit_code
        try:
            return self._asked_for_its_end(row, condition, is_up=state.is_up)
        except KeeperError:
            if not state.is_up:
                raise
            return self.resume_wait(row, condition)

    def resume_wait(self, row: Row, condition: str) -> int | Conversation:
        """As ``begin_wait``, after a keeper has gone. Raises KeeperGoneError when nobody will remove the container."""
        while True:
            state = self._after_its_keeper(row)
            if not self._records.exists(row.id):
                return state.exit_code
            if not state.is_up:
                if condition == "removed":
                    raise KeeperGoneError(f"the keeper of container {row.id} ended, and did not remove it")
                return state.exit_code
            with contextlib.suppress(KeeperError):
                return self._asked_for_its_end(row, condition, is_up=True)
            check()

    def _asked_for_its_end(self, row: Row, condition: str, *, is_up: bool) -> Conversation:
        """A connection to its keeper, which is asked. Raises KeeperError."""
        keeper = self._keepers.connect(row.id) if is_up else self._keepers.summon(row.id)
        try:
            protocol.send(keeper.socket, {"verb": "wait", "condition": condition or "not-running"})
        except (BrokenPipeError, ConnectionResetError) as error:
            keeper.close()
            raise KeeperError("the process that was asked is gone") from error
        return keeper

    def _after_its_keeper(self, row: Row) -> State:
        """The state when the keeper has let go: it closes its socket a moment before."""
        directory = self._places.container(row.id)
        end = time.monotonic() + _END_S
        while locking.is_held(directory) and time.monotonic() < end:
            check()
            with contextlib.suppress(KeeperError), self._keepers.connect(row.id):
                break  # another one is there
            time.sleep(_LOOK_EACH_S)
        return read(directory)


class Ending(NamedTuple):
    """What a keeper tells who waits. is_told: whether it has told the client that was handed to it."""

    exit_code: int
    is_told: bool


def hand(keeper: Conversation, client: int) -> None:
    """Have the keeper, which is asked for an end already, tell the client itself, whatever becomes of this process.

    client: the descriptor of its connection, on which a body in chunks has begun; it stays the caller's, too. Does
    nothing with a keeper of an older release, or one that is gone.
    """
    if keeper.protocol >= _HANDING:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            protocol.send(keeper.socket, {"verb": "hand"}, [client])


def ending_of(keeper: Conversation) -> Ending:
    """What a keeper tells who waits, when the time has come. Raises KeeperError when it is gone."""
    answer, _ = keeper.receive()
    return Ending(int(answer["exit_code"]), bool(answer.get("told")))
