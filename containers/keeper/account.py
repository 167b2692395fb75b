"""What a keeper writes down of its container: its state, and what happened to it. A full disk stops neither."""

from __future__ import annotations

import os

from containers.keeper import eventlog, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.keeper.loop import Loop, Timer

_SYNC_PAUSE_S = 0.05


class Account:
    """What is written down of one container: its state, and its events.

    run: of the engine.
    folder: the container's directory.
    identity: its ID.
    spec: as it is now.
    state: as ``records`` has it; what a last keeper that was killed left is put right.
    """

    def __init__(self, loop: Loop, run: str, folder: str, identity: str, spec: dict[str, Any]) -> None:
        self._loop = loop
        self._run = run
        self._folder = folder
        self._identity = identity
        self._syncing: Timer | None = None
        self.spec = spec
        self.name = str(spec.get("name", ""))
        self.state = records.read_state(folder)
        if self.state["status"] in records.ALIVE:
            self.state.update(status="exited", exit_code=records.LOST_CODE, pid=0)

    def event(self, action: str, **attributes: str) -> None:
        """Write down what happened. A full disk loses events, not containers."""
        asked = self.spec.get("asked") or {}
        whole = {**(asked.get("Labels") or {}), "image": str(asked.get("Image", "")), "name": self.name, **attributes}
        try:
            eventlog.append(self._run, "container", action, self._identity, whole)
        except OSError:
            return

    def note(self, *, durable: bool = False, **changes: Any) -> None:
        """Change the state, and write it down. On a full disk the state that is known here counts on.

        durable: wait for the disk. Else it follows soon: a host that goes down before has lost this container anyway.
        """
        self.state.update(changes)
        try:
            records.write_state(self._folder, self.state, durable=durable)
        except OSError:
            return
        if not durable and self._syncing is None and changes.get("status") == "running":
            self._syncing = self._loop.later(_SYNC_PAUSE_S, self._sync)

    def stop_syncing(self) -> None:
        """What is written next waits for the disk itself."""
        if self._syncing is not None:
            self._syncing.cancel()
            self._syncing = None

    def _sync(self) -> None:
        self._syncing = None
        try:
            fd = os.open(f"{self._folder}/state.json", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            records.sync(self._folder)
        except OSError:
            return  # it was removed
