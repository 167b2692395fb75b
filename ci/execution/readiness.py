"""Whether a service is ready: its port listens, a command in it succeeds, or its image's health check does.

Who waits for several services asks each of them again and again, and nobody's question holds up another one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ci.errors import JobFaultError
from ci.model import Ready
from containers.errors import StateError
from containers.handles import Container
from containers.healthrules import MOST_BYTES, Rules
from containers.spec import ContainerSpec
from images.oci import ContainerConfig, Healthcheck

if TYPE_CHECKING:
    from containers.healthrules import Status

_OWN_INTERVAL_S: Final = 0.25
_OWN_TIMEOUT_S: Final = 30.0
_FIRST_LOOK_S: Final = 0.1
_NANOSECONDS: Final = 1_000_000_000
_MORE_TIME: Final = "`ready` of the service, or --start-period of the HEALTHCHECK, gives it more time"


class Readiness(Protocol):
    """One service on its way."""

    def is_ready(self) -> bool:
        """Look once more, without waiting. Raises JobFaultError when it never will be."""

    @property
    def missing(self) -> str:
        """What is still missing, in words."""

    def close(self) -> None:
        """Ask no more."""


def readiness(ready: Ready, config: ContainerConfig, container: Container, spec: ContainerSpec) -> Readiness:
    """What says that a service is ready: the file, else its image's HEALTHCHECK, else its first port.

    config: of its image. spec: what its container was made of.
    """
    if ready.port:
        return _Port(container, ready.port)
    if ready.command:
        rules = Rules({"test": ["CMD", *map(str, ready.command)], "timeout_s": _OWN_TIMEOUT_S})
        return _Check(rules, container, spec, early_s=_OWN_INTERVAL_S, is_patient=True)
    rules_of_image = _rules(config.healthcheck)
    if rules_of_image is not None:
        return _Check(rules_of_image, container, spec)
    port = first_port(config)
    return _Running() if port is None else _Port(container, *port)


def first_port(config: ContainerConfig) -> tuple[int, str] | None:
    """The lowest port that an image exposes, and its protocol; ports have no other order in an image."""
    found = []
    for text in config.exposed_ports:
        number, _, protocol = text.partition("/")
        if number.isdecimal() and (protocol or "tcp") in ("tcp", "udp"):
            found.append((int(number), protocol or "tcp"))
    return min(found, default=None)


class _Running:
    """A service that nothing is known of: that it runs is enough."""

    missing = ""

    def is_ready(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is asked."""


class _Port:
    """A service whose port listens when it is ready."""

    def __init__(self, container: Container, port: int, protocol: str = "tcp") -> None:
        self._container = container
        self._port, self._protocol = port, protocol
        self.missing = f"nothing listens on its port {port}{'' if protocol == 'tcp' else '/udp'}"

    def is_ready(self) -> bool:
        try:
            return self._container.listens(self._port, self._protocol)
        except StateError:  # it has ended, which others find
            return False

    def close(self) -> None:
        """Nothing is asked that is not answered at once."""


class _Check:
    """A service in which a command succeeds when it is ready.

    The command is run early at first, ever less often until the rules' interval is reached: these failures do not
    count. From then on the rules say when it has failed for good.

    early_s: the longest time between early looks; None: up to the interval.
    is_patient: it never fails for good.
    """

    def __init__(
        self,
        rules: Rules,
        container: Container,
        spec: ContainerSpec,
        *,
        early_s: float | None = None,
        is_patient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._container = container
        self._spec = spec._replace(args=tuple(rules.command), init=False, terminal=False)
        self._most_early_s = early_s
        self._is_patient = is_patient
        self._clock = clock
        self._began = self._due_at = clock()
        self._pause_s = _FIRST_LOOK_S
        self._looking: _Look | None = None
        self._status: Status = "starting"
        self._streak = 0
        self.missing = "its check has not succeeded yet"

    def is_ready(self) -> bool:
        if self._looking is None:
            if self._clock() < self._due_at:
                return False
            try:
                self._looking = _Look(self._container, self._spec, self._clock() + self._rules.timeout_s, self._clock)
            except StateError:
                return False
        code = self._looking.ended()
        if code is None:
            return False
        said = self._looking.said
        self.close()
        return self._judge(code, said)

    def close(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.close()

    def _judge(self, code: int, said: str) -> bool:
        now = self._clock()
        shown = " ".join(said.split())
        self.missing = f"its check ends with exit code {code}{f': {shown}' if shown else ''}"
        past_s = now - self._began
        is_early = past_s < self._rules.interval_s and self._status == "starting"
        if is_early or self._is_patient:
            self._due_at = now + self._pause_s
            most_s = self._rules.interval_s if self._most_early_s is None else self._most_early_s
            self._pause_s = min(2 * self._pause_s, most_s)
            return code == 0
        is_starting_up = past_s < self._rules.start_period_s
        self._status, self._streak = self._rules.judged(self._status, self._streak, code, is_starting_up=is_starting_up)
        if self._status == "unhealthy":
            raise JobFaultError(f"is unhealthy: {self._streak} times in a row {self.missing} ({_MORE_TIME})")
        self._due_at = now + (self._rules.start_interval_s if is_starting_up else self._rules.interval_s)
        return self._status == "healthy"


class _Look:
    """One run of a check."""

    def __init__(self, container: Container, spec: ContainerSpec, late_at: float, clock: Callable[[], float]) -> None:
        """Begin it. Raises ContainerError."""
        self._late_at = late_at
        self._clock = clock
        self._data = b""
        self._read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._process = container.execute(spec, stdin=null, stdout=write, stderr=write)
        except BaseException:
            os.close(self._read)
            raise
        finally:
            os.close(write)
            os.close(null)

    @property
    def said(self) -> str:
        """The beginning of its output."""
        return self._data.decode("utf-8", "replace")

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        self._drain()
        if not self._process.ended():
            if self._clock() > self._late_at:
                self._process.kill()
            return None
        self._drain()
        status = self._process.wait()
        if status.message:
            self._data = status.message.encode()
        return status.code

    def close(self) -> None:
        """Kill it if it still runs."""
        self._process.close()
        os.close(self._read)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read, 1 << 16):
                self._data += data[: max(0, MOST_BYTES - len(self._data))]


def _rules(check: Healthcheck | None) -> Rules | None:
    if check is None or not check.test or check.test[0] not in ("CMD", "CMD-SHELL") or len(check.test) < 2:
        return None
    return Rules(
        {
            "test": list(check.test),
            "interval_s": check.interval_ns / _NANOSECONDS,
            "timeout_s": check.timeout_ns / _NANOSECONDS,
            "start_period_s": check.start_period_ns / _NANOSECONDS,
            "start_interval_s": check.start_interval_ns / _NANOSECONDS,
            "retries": check.retries,
        }
    )
