"""The states of one container, as its keeper has them.

    created ──start──▶ starting ──▶ running ◀──▶ paused
                          ▲            │ the command ends
                          └─restarting◀┴─▶ exited

What becomes of it is in ``state.json`` before anybody learns of it. A stop by hand is written down before the signal is
sent, so that no policy starts again what was stopped, whoever dies in between.
"""

from __future__ import annotations

import os
import time

from containers import syscalls
from containers.capabilities import ALL_CAPABILITIES
from containers.delegation import remedy
from containers.errors import (
    BY_NAME,
    ContainerError,
    LimitError,
    NotExecutedError,
    StateError,
)
from containers.joining import Joined, Joins
from containers.keeper import logfile, records, restarts, specs
from containers.keeper.account import Account
from containers.keeper.health import Health
from containers.keeper.place import Place
from containers.keeper.relay import Relay
from containers.keeper.running import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.guest import Guest
    from containers.keeper.cell import Cell
    from containers.keeper.loop import Loop, Timer

DEFAULT_STOP_TIMEOUT_S = 10.0
_SIGTERM = 15


class Life:
    """One container.

    run: of the engine. folder: the container's directory. identity: its ID.
    changed: called when it began to run, and when it came to an end, for now or for good.
    """

    def __init__(self, loop: Loop, cell: Cell, run: str, folder: str, identity: str) -> None:
        self._loop = loop
        self._cell = cell
        self.folder = folder
        self.identity = identity
        self.account = Account(loop, run, folder, identity, records.read_spec(folder))
        self.state = self.account.state
        process = self.spec["process"]
        self.log = logfile.opened(folder, self.spec.get("log") or {})
        self.relay = Relay(
            loop,
            self.log,
            is_terminal=bool(process.get("terminal")),
            closes_input=bool(process.get("stdin_once")),
        )
        self.changed: Callable[[], None] = _nothing
        self.execs: dict[str, Joined] = {}
        self._run: Run | None = None
        self._answers: list[Callable[[ContainerError | None], None]] = []
        self._is_by_hand = False
        self._began = 0.0
        self._pause_s = 0.0
        self._again: Timer | None = None
        self._killing: Timer | None = None
        self._health: Health | None = None
        self._was_tried_again = False
        self._is_leaving = False
        self._place = Place(loop, cell, run, identity)

    # What it is

    @property
    def spec(self) -> dict[str, Any]:
        """What was asked for."""
        return self.account.spec

    @property
    def status(self) -> str:
        """The state's word for it."""
        return str(self.state["status"])

    @property
    def is_running(self) -> bool:
        """Whether there is a process; paused ones too."""
        return self.status in ("running", "paused")

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more, unless it is started."""
        return self.status not in records.ALIVE

    @property
    def guest(self) -> Guest:
        """Its first process. Raises StateError."""
        if self._run is None or not self.is_running:
            raise StateError("the container is not running")
        return self._run.guest

    @property
    def joins(self) -> Joins | None:
        """All that joined it, while it runs."""
        return None if self._run is None else self._run.joins

    # What is asked of it

    def start(self, answer: Callable[[ContainerError | None], None]) -> None:
        """Start it. answer: called once, when its command is being executed (None), or with why it is not.

        A start that is under way, by somebody else or by its policy, is this one, too.
        """
        if self.status == "starting":
            self._answers.append(answer)
            return
        if self.is_running:
            raise StateError("the container is running already")
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._answers.append(answer)
        self._is_by_hand = True
        self._pause_s = 0.0
        self._is_leaving = False
        self.state.update(stopped_by_hand=False, restarts=0, error="")
        self._begin()

    def start_again(self) -> None:
        """Start it as its policy wants, after its last keeper was killed."""
        self.state["status"] = "restarting"
        self._restart()

    def signal(self, number: int) -> None:
        """Send a signal to its first process, which ignores those it has no handler for. Raises StateError."""
        guest = self.guest
        if number in (syscalls.SIGKILL, self._stop_signal()):
            self._by_hand()
        self.account.event("kill", signal=str(number))
        if number == syscalls.SIGKILL:
            self._kill()
        else:
            guest.signal(number)

    def stop_for_now(self, timeout_s: float | None) -> None:
        """Stop it because the host goes down: its policy stays what it is, and starts it again after the boot."""
        self._is_leaving = True
        self._stop(timeout_s, None)

    def stop(self, timeout_s: float | None, number: int | None) -> None:
        """Send its stop signal, and SIGKILL when it has not ended in time. The end is told by ``changed``.

        timeout_s: negative waits for ever; None is the spec's own.
        """
        self._by_hand()
        self._stop(timeout_s, number)

    def _stop(self, timeout_s: float | None, number: int | None) -> None:
        if self.status == "restarting":
            self._not_again()
            return
        if self._run is None:
            return
        if timeout_s is None:
            wanted = (self.spec.get("stop") or {}).get("timeout_s")
            timeout_s = DEFAULT_STOP_TIMEOUT_S if wanted is None else float(wanted)
        sent = number or self._stop_signal()
        self.account.event("kill", signal=str(sent))
        self._run.guest.signal(sent)
        if self.status == "paused":
            self.unpause()
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        if timeout_s >= 0:
            self._killing = self._loop.later(timeout_s, self._kill)

    def pause(self) -> None:
        """Stop its processes where they are. Raises StateError."""
        guest = self.guest
        if self.status == "paused":
            raise StateError("the container is already paused")
        if not self._cell.session.freeze(guest.name, frozen=True):
            raise LimitError(
                "this host cannot pause a container: there is no freezer among its control groups", hint=remedy()
            )
        self.account.note(status="paused")
        self.account.event("pause")

    def unpause(self) -> None:
        """Let its processes go on. Raises StateError."""
        guest = self.guest
        if self.status != "paused":
            raise StateError("the container is not paused")
        self._cell.session.freeze(guest.name, frozen=False)
        self.account.note(status="running")
        self.account.event("unpause")

    def limit(self, limits: dict[str, Any]) -> None:
        """Hold it to other limits. Raises LimitError, StateError."""
        wanted = specs.limits_of({**self.spec, "limits": limits})
        if self.is_running:
            self._cell.session.limit(self.guest.name, wanted, self.guest.pid)
        self.spec["limits"] = limits

    @property
    def networks(self) -> list[str]:
        """The IDs of the networks of the switch that it is in, or will be in after its restart."""
        return self._place.networks

    def connect(self, endpoint: dict[str, Any]) -> None:
        """Connect it to another network; one that waits for its restart has it then. Raises ContainerError."""
        self._check_goes_on()
        self._place.add(endpoint)

    def disconnect(self, network: str) -> None:
        """Take it out of a network, also while it waits for its restart. Raises ContainerError."""
        self._check_goes_on()
        self._place.remove(network)

    def _check_goes_on(self) -> None:
        """Raise StateError for one that has ended, or has not begun."""
        if self.is_over:
            raise StateError("the container is not running")

    def namespaces(self, names: list[str]) -> tuple[dict[str, Any], dict[str, int]]:
        """See ``Place.namespaces``. Raises StateError."""
        return self._place.namespaces(self.guest, names)

    def renamed(self, name: str) -> None:
        """It has another name from now on, in its events."""
        self.account.name = name

    def execute(self, identity: str, asked: dict[str, Any], joined: Joined) -> None:
        """Have a process join it. asked: as the verb ``exec`` has it. Raises ContainerError."""
        self.guest  # noqa: B018 - raises
        if self.status == "paused":
            raise StateError("the container is paused, unpause the container before exec")
        assert self.joins is not None
        spec = specs.exec_to_wire(self.spec, asked, sorted(ALL_CAPABILITIES))
        joined.has_input = bool(asked.get("stdin"))
        self.joins.start(joined, spec, joined.relay.open(has_input=joined.has_input))
        if identity:
            self.execs[identity] = joined

    def executed(self, identity: str, code: int) -> None:
        """A process that had joined has ended: its code is kept, also beyond the container's end."""
        self.execs.pop(identity, None)
        execs = self.state["execs"]
        execs[identity] = code
        for old in list(execs)[: -records.MOST_EXECS]:
            del execs[old]
        if self.is_running:
            self.account.note()

    # From its start to its end

    def _begin(self) -> None:
        """Take what was asked for, and a first process for it."""
        try:
            self.account.spec = records.read_spec(self.folder)
            told = specs.to_wire(self.spec)
            guest = self._place.take(self.spec, told)
        except ContainerError as error:
            self._not_begun(error)
            return
        except (OSError, ValueError, KeyError) as error:
            self._not_begun(ContainerError(f"cannot use the container's spec.json: {error!r}"))
            return
        self.state["status"] = "starting"
        self._run = run = Run(
            self._loop, self._cell, self._place, self.relay, guest, self.spec, told, self._begun, self._over
        )
        run.start()

    def _begun(self) -> None:
        """The command is being executed."""
        assert self._run is not None
        assert self._run.joins is not None
        self._began = time.monotonic()
        health = self.spec.get("health")
        self._health = Health(self._loop, self, health) if health and health["test"][:1] not in ([], ["NONE"]) else None
        self.account.note(
            status="running",
            pid=self._cell.host_pid(self._run.guest.pidfd),
            started=records.moment(),
            exit_code=0,
            oom=False,
            error="",
            range=self._cell.range.first[0],
            ports=self._place.bound,
            health=self._health.record if self._health is not None else None,
        )
        if refused_ports := self._place.open():
            self.account.note(error=refused_ports)
        self.account.event("start")
        self._reply(None)
        if self._health is not None:
            self._run.joins.prepare()
            self._health.begin()
        self.changed()

    def _over(self, status: int, exceeded: list[str]) -> None:
        """The first process has been reaped: what that means."""
        assert self._run is not None
        guest = self._run.guest
        self._run = None
        if self._killing is not None:
            self._killing.cancel()
            self._killing = None
        self.account.stop_syncing()
        if self._health is not None:
            self._health.end()
            self._health = None
        if not guest.is_told and guest.was_killed_as_spare(status) and not self._was_tried_again:
            self._was_tried_again = True
            self.relay.close()
            self._begin()
            return
        self._was_tried_again = False
        outcome = guest.outcome(status, exceeded)
        if guest.is_told and outcome[0] == "exit":
            self._ended(_code(outcome[1]), is_oom="memory" in exceeded)
        else:
            self._not_begun(_failure(outcome))

    def _ended(self, code: int, *, is_oom: bool) -> None:
        """The command has ended."""
        self.relay.process_ended()
        if is_oom:
            self.account.event("oom")
        ran_s = time.monotonic() - self._began
        self.state.update(pid=0, exit_code=code, finished=records.moment(), oom=is_oom)
        try:
            policy = records.read_spec(self.folder).get("restart") or {}
        except (OSError, ValueError):
            policy = {}
        by_hand = self.state["stopped_by_hand"]
        is_final = by_hand or self._is_leaving
        if restarts.wanted(policy, code, self.state["restarts"], stopped_by_hand=is_final):
            self._pause_s = restarts.next_pause(self._pause_s, ran_s)
            self.account.note(status="restarting")
            self._again = self._loop.later(self._pause_s, self._restart)
            self._prepare()
        else:
            self._finish()
        # Who hears of it asks at once how it ended.
        self.account.event("die", exitCode=str(code), execDuration=str(int(ran_s)))
        if by_hand:
            self.account.event("stop")
        self.relay.let_go("exit")
        self.changed()

    def _finish(self) -> None:
        self._place.leave(for_good=True)
        self.account.note(durable=not self.spec.get("auto_remove"), status="exited")

    def _prepare(self) -> None:
        """Use the pause before the next start."""
        if not self._place.wants_others(self.spec):
            try:
                self._cell.prepare()
            except (ContainerError, OSError):
                return  # the start will tell

    def _restart(self) -> None:
        self._again = None
        self._is_by_hand = False
        self.state["restarts"] += 1
        self._begin()

    def _not_again(self) -> None:
        """It was stopped between two starts."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._finish()
        self.account.event("stop")
        self.changed()

    def _not_begun(self, error: ContainerError) -> None:
        """It could not be started. By hand it stays what it was; a policy tries again."""
        self.relay.process_ended()
        code = error.code if isinstance(error, NotExecutedError) else 128
        self.state.update(pid=0, error=error.message, exit_code=code, finished=records.moment())
        policy = self.spec.get("restart") or {}
        by_hand = self._is_by_hand or self.state["stopped_by_hand"]
        if restarts.wanted(policy, code, self.state["restarts"], stopped_by_hand=by_hand):
            self._pause_s = restarts.next_pause(self._pause_s, 0)
            self.account.note(status="restarting")
            self._again = self._loop.later(self._pause_s, self._restart)
        else:
            self._place.leave(for_good=True)
            self.account.note(durable=True, status="created" if self.state["started"] == records.NEVER else "exited")
        self.relay.let_go("exit")
        self._reply(error)
        self.changed()

    def _reply(self, error: ContainerError | None) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(error)

    def _by_hand(self) -> None:
        if not self.state["stopped_by_hand"]:
            self.account.note(durable=bool(self.spec.get("restart")), stopped_by_hand=True)

    def _kill(self) -> None:
        """SIGKILL everything of it."""
        self._killing = None
        if self._run is None:
            return
        guest = self._run.guest
        guest.killed = True
        self._cell.kill(guest)
        if self.status == "paused":
            self._cell.session.freeze(guest.name, frozen=False)  # what is frozen dies only when it goes on

    def _stop_signal(self) -> int:
        return int((self.spec.get("stop") or {}).get("signal") or _SIGTERM)

    def health_changed(self, *, is_new: bool) -> None:
        """A check has a result. is_new: the container's health is another now."""
        assert self._health is not None
        self.account.note(health=self._health.record)
        if is_new:
            self.account.event(f"health_status: {self._health.record['status']}")


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _failure(outcome: tuple[Any, ...]) -> ContainerError:
    """Why a command never began, by what ``Guest.outcome`` says."""
    if outcome[0] == "exit":
        error = NotExecutedError(outcome[2] or "the container ended before its command began")
        error.code = _code(outcome[1])
        return error
    _kind, name, text, hint = outcome
    return BY_NAME[name](text, hint=hint)


def _nothing() -> None:
    """For who is not interested."""
