"""Attaching this process's streams to a container, or to a process that joins one.

The keeper gets our descriptors, and copies. What stays here: the terminal's raw mode and size, our signals, and waiting
for the end. So a container goes on when this process ends, by whatever.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cli.attach import raw_mode, window_size
from containers.errors import KeeperError, StateError
from containers.keeper import protocol
from core.errors import ShiplapError

if TYPE_CHECKING:
    from containers.keeper.protocol import Conversation
    from engine.engine import Engine

_STDIN: Final = 0
_PASSED_ON: Final = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_ASKING_TO_END: Final = (signal.SIGINT, signal.SIGTERM)
_KILLED: Final = 137  # of a container that went with its keeper, and was removed


class Streams(NamedTuple):
    """Which of our streams are attached, and how.

    terminal: the process has one. keys: detach keys; "" for docker's.
    passes_signals: our signals go to the container. kills: the second SIGINT or SIGTERM is a SIGKILL.
    """

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool
    keys: str = ""
    passes_signals: bool = True
    kills: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """For the keeper's verbs ``attach`` and ``exec``."""
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "detach_keys": self.keys}


class Outcome(NamedTuple):
    """How it ended. code: the exit code. detached: by the keys: the process goes on."""

    code: int
    detached: bool = False


def attached(
    engine: Engine, identity: str, streams: Streams, *, start: Callable[[], None] | None, until_removed: bool = False
) -> Outcome:
    """Attach to a container, start it, and wait for its end or for the detach keys. Raises ShiplapErrors.

    start: None for one that runs. until_removed: it is removed at its end, and that is waited for.
    """
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(engine.keepers.summon(identity))
        waiter = stack.enter_context(engine.keepers.summon(identity))
        control = stack.enter_context(engine.keepers.summon(identity))
        condition = "removed" if until_removed else "next-exit"
        signals = stack.enter_context(_signals())
        stack.enter_context(_raw(streams))
        with _passed_streams(streams) as fds:
            keeper.ask("attach", streams.asked, fds)
        protocol.send(waiter.socket, {"verb": "wait", "condition": condition})
        if start is not None:
            start()
        return _Attached(control, streams, signals, None).until_ended(keeper, waiter, lambda: _lost(engine, identity))


def joined(keeper: Conversation, control: Conversation, asked: dict[str, Any], streams: Streams) -> Outcome:
    """Run a process in a container, attached to us, to its end or the detach keys. Raises ContainerError.

    keeper, control: two connections. asked: the fields of the verb ``exec``.
    """
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(_signals())
        stack.enter_context(_raw(streams))
        size = window_size(_STDIN)
        if size:
            asked = {**asked, "terminal_size": size}
        with _passed_streams(streams) as fds:
            answer, _ = keeper.ask("exec", {**streams.asked, **asked}, fds, timeout_s=protocol.BEGIN_TIMEOUT_S)
        return _Attached(control, streams, signals, answer["exec"]).until_ended(keeper, None, lambda: _KILLED)


class _Attached:
    """What goes on while we are attached. process: the exec's ID; None: the container's own process."""

    def __init__(self, control: Conversation, streams: Streams, signals: int, process: str | None) -> None:
        self._control = control
        self._streams = streams
        self._signals = signals
        self._process = process
        self._asked_to_end = 0

    def until_ended(self, keeper: Conversation, waiter: Conversation | None, lost: Callable[[], int]) -> Outcome:
        """Wait. lost: the exit code when the keeper is gone."""
        self._resize()
        code: int | None = None
        is_attached = True
        poll = select.poll()
        for fd in (keeper.fileno(), self._signals, *([waiter.fileno()] if waiter is not None else [])):
            poll.register(fd, select.POLLIN)
        try:
            while is_attached or code is None:
                for fd, _ in poll.poll():
                    if fd == self._signals:
                        self._signalled()
                    elif fd == keeper.fileno():
                        message, _ = keeper.receive()
                        if message.get("detached") or message.get("ended") == "detached":
                            return Outcome(0, detached=True)
                        if waiter is None:
                            return Outcome(message["ended"]["exit_code"])
                        is_attached = False
                        poll.unregister(fd)
                    elif waiter is not None:
                        code = int(waiter.receive()[0]["exit_code"])
                        poll.unregister(fd)
        except KeeperError:
            return Outcome(lost() if code is None else code)
        return Outcome(code)

    def _signalled(self) -> None:
        for number in os.read(self._signals, 64):
            if number == signal.SIGWINCH:
                self._resize()
            elif self._streams.passes_signals and self._process is None:
                self._asked_to_end += number in _ASKING_TO_END
                kills = self._streams.kills and self._asked_to_end > 1
                self._ask("signal", {"number": int(signal.SIGKILL) if kills else number})
            elif number in _ASKING_TO_END:
                raise KeyboardInterrupt

    def _resize(self) -> None:
        size = window_size(_STDIN) if self._streams.terminal else None
        if size:
            fields: dict[str, Any] = {"rows": size[0], "columns": size[1]}
            self._ask("resize", fields | ({"exec": self._process} if self._process else {}))

    def _ask(self, verb: str, fields: dict[str, Any]) -> None:
        with contextlib.suppress(StateError, KeeperError):  # it has just ended
            self._control.ask(verb, fields)


def _lost(engine: Engine, identity: str) -> int:
    """The exit code of a container whose keeper is gone."""
    try:
        return engine.state(identity).exit_code
    except ShiplapError:
        return _KILLED


@contextlib.contextmanager
def _raw(streams: Streams) -> Iterator[None]:
    if streams.terminal and streams.stdin and os.isatty(_STDIN):
        with raw_mode(_STDIN):
            yield
    else:
        yield


@contextlib.contextmanager
def _passed_streams(streams: Streams) -> Iterator[list[int]]:
    """Descriptors for the keeper: our streams; nothing in the place of an input that is not attached."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield [_STDIN if streams.stdin else null, 1, 2]
    finally:
        os.close(null)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Within: our signals are numbers to be read from this descriptor, a byte each."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = (*_PASSED_ON, signal.SIGWINCH)
    before = {number: signal.signal(number, _noted) for number in numbers}
    old = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _noted(number: int, frame: FrameType | None) -> None:
    """Its number has gone to the wake-up descriptor."""
    del number, frame
