"""How the engine gets to a keeper: the one that there is, or one that the nursery makes; and to the nursery itself."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

from containers.errors import ContainerError, KeeperError
from containers.keeper import protocol, records
from containers.keeper.anchor import STARTING_S, seal, start_in_scope
from containers.keeper.protocol import Conversation
from core import zygote
from core.files import lock_within
from core.namespaces import is_initial
from core.release import VERSION

_MODULE = "containers.keeper.nursery"
_TRIES = 50
_PAUSE_S = 0.01


def living(run: str, identity: str, timeout_s: float = 10.0) -> Conversation:
    """The keeper that a container has. Raises KeeperError when it has none; NoAnswerError."""
    return protocol.connect(records.socket_path(run, identity), timeout_s)


def keeper(root: str, run: str, identity: str, *, finish: Sequence[str]) -> Conversation:
    """The keeper of a container, which is made if there is none. Raises ContainerError.

    It ends by itself when all who talk to it have gone and nothing was started.
    root: of the engine; ``containers/IDENTITY`` has to be there. run: its directory that a boot clears, private.
    finish: the command (an absolute path first) that removes what RUN/due names, and tells the keepers ``finished``.
        Empty: nobody removes it. There is no default: a nursery keeps for life what the first caller says.
    """
    for _ in range(_TRIES):
        try:
            return living(run, identity)
        except KeeperError:
            pass
        try:
            with nursery(root, run, finish=finish) as conversation:
                conversation.ask("keeper", {"id": identity})
            return living(run, identity)
        except KeeperError as error:  # the nursery, or the keeper that there was, has just ended
            last = error
            time.sleep(_PAUSE_S)
    raise last


def nursery(root: str, run: str, *, finish: Sequence[str]) -> Conversation:
    """The nursery, which is started if there is none. Raises KeeperError, and ContainerError when another process
    starts it and does not come to an end. See ``keeper``.

    One of another release is replaced: whatever it had to do, this one does, and its keepers go on.
    """
    path = f"{run}/nursery.sock"
    try:
        conversation = protocol.connect(path)
    except KeeperError:
        pass
    else:
        if conversation.release == VERSION:
            return conversation
        conversation.close()
    lock = os.open(f"{run}/nursery.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock_within(lock, STARTING_S):  # for as long as another one starts it
            raise ContainerError(  # no KeeperError: those are tried again
                f"another process has held {run}/nursery.lock for over {STARTING_S:.0f} s",
                hint="look for a stopped shiplap process (fuser -v on that file) and end it",
            )
        try:
            conversation = protocol.connect(path)
            if conversation.release == VERSION:
                return conversation
            with conversation:
                conversation.ask("end")
        except KeeperError:
            pass  # there is none, or it has just ended
        _start(root, run, finish)
        return protocol.connect(path)
    finally:
        os.close(lock)


def _start(root: str, run: str, finish: Sequence[str]) -> None:
    arguments = [os.path.abspath(root), os.path.abspath(run), json.dumps(list(finish))]
    if not is_initial():
        seal(os.path.realpath(sys.executable))
    try:
        start_in_scope(_MODULE, arguments, f"{run}/nursery.log")
    except zygote.ZygoteError as error:
        raise KeeperError(f"the nursery of keepers did not start: {error}") from error
