"""Health checks: a command in the container now and then, whose exit codes say how the container is.

The last KEPT results are kept, with MOST_BYTES of output each.
"""

from __future__ import annotations

from containers.errors import ContainerError, StateError
from containers.healthrules import MOST_BYTES, Rules
from containers.joining import Joined
from containers.keeper import records
from containers.keeper.relay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from containers.keeper.loop import Loop, Timer

    class _Container(Protocol):
        def execute(self, identity: str, asked: dict[str, Any], joined: Joined) -> None: ...

        def health_changed(self, *, is_new: bool) -> None: ...


KEPT = 5
_SIGKILL = 9
_FAILED_TO_START = -1


class Output:
    """Takes a check's output in the place of a log."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, _stream: str, data: bytes) -> None:
        """Keep the beginning."""
        self.data += data[: MOST_BYTES - len(self.data)]

    def end(self) -> None:
        """There is nothing to be ended."""

    def text(self) -> str:
        """What was kept, as text."""
        return self.data.decode("utf-8", "replace")


class Health:
    """The checks of one running container.

    wanted: ``health`` of the spec, of which missing or 0 members are docker's defaults.
    record: ``health`` of the state.
    """

    def __init__(self, loop: Loop, container: _Container, wanted: dict[str, Any]) -> None:
        self._loop = loop
        self._container = container
        self._rules = Rules(wanted)
        self.record: dict[str, Any] = {"status": "starting", "failing_streak": 0, "log": []}
        self._is_starting_up = self._rules.start_period_s > 0
        self._next: Timer | None = None
        self._deadline: Timer | None = None
        self._is_over = False

    def begin(self) -> None:
        """The container's command is being executed."""
        if self._is_starting_up:
            self._loop.later(self._rules.start_period_s, self._start_period_over)
        self._schedule()

    def end(self) -> None:
        """The container has ended."""
        self._is_over = True
        for timer in (self._next, self._deadline):
            if timer is not None:
                timer.cancel()

    def _start_period_over(self) -> None:
        self._is_starting_up = False

    def _schedule(self) -> None:
        if not self._is_over:
            early = self._is_starting_up and self.record["status"] == "starting"
            after_s = self._rules.start_interval_s if early else self._rules.interval_s
            self._next = self._loop.later(after_s, self._check)

    def _check(self) -> None:
        output = Output()
        began = records.moment()
        relay = Relay(self._loop, output, is_terminal=False, closes_input=False)
        is_late = False

        def started(error: ContainerError | None) -> None:
            if error is not None and not self._is_over:
                done(_FAILED_TO_START, error.message)

        def late() -> None:
            nonlocal is_late
            is_late = True
            joined.signal(_SIGKILL)

        def over(code: int) -> None:
            if is_late:
                done(_FAILED_TO_START, f"Health check exceeded timeout ({self._rules.timeout_s:g}s)")
            else:
                done(code, output.text())

        def done(code: int, text: str) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            if not self._is_over:
                self._result({"start": began, "end": records.moment(), "exit_code": code, "output": text})

        joined = Joined(relay, started, over)
        try:
            self._container.execute("", {"args": self._rules.command}, joined)
        except StateError:  # paused: nothing is known, and nothing wrong
            relay.close()
            self._schedule()
            return
        except ContainerError as error:
            relay.close()
            done(_FAILED_TO_START, error.message)
            return
        self._deadline = self._loop.later(self._rules.timeout_s, late)

    def _result(self, result: dict[str, Any]) -> None:
        before = self.record["status"]
        status, streak = self._rules.judged(
            before, self.record["failing_streak"], result["exit_code"], is_starting_up=self._is_starting_up
        )
        log = [*self.record["log"], result][-KEPT:]
        self.record = {"status": status, "failing_streak": streak, "log": log}
        self._container.health_changed(is_new=status != before)
        self._schedule()
