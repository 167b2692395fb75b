"""The services of one attempt of a job: fresh containers, on a segment of their own, for as long as the job's runs.

Each is a step with what it prints. All are started together; the job begins when all are ready. When one ends before
the job does, the job has failed. They are the launcher's containers, as the job's is: so they end with the job, in
whatever way that ends (docs/decisions/0035-a-jobs-services-have-a-namespace.md).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from builder.copying.owners import parse_chown
from builder.errors import OwnerError
from builder.request.limits import StepLimits
from builder.running.container import Ended, Output, Streams, follow, started_container
from builder.running.masking import secret_forms
from builder.running.watch import Watch
from ci import limits
from ci.errors import JobFaultError
from ci.execution import failures
from ci.execution.ending import Ending
from ci.execution.failures import CommandFailedError
from ci.execution.image import JobImage
from ci.execution.readiness import Readiness, readiness
from ci.execution.steps import NOT_RUN, Numbering
from ci.execution.variables import JobSecrets
from ci.language.services import JOBS_NAME
from ci.model import Job, Service
from ci.outcome import OF_SERVICE, JobTools
from containers.errors import LimitError, PlaceError, UserError
from containers.handles import Container
from containers.resources import Limits
from containers.segment import address_of
from containers.spec import ContainerSpec, File, LimitGroup, SegmentPlace
from containers.users import MAX_ID
from core.closing import Closing
from core.errors import ShiplapError
from core.events import StepFinished, StepInfo, StepOutcome, StepStarted
from core.rootfs import RootLayer

_POLL_S: Final = 0.02
_WAITING: Final = "[internal] wait until the services are ready"
_ENOUGH_S: Final = 10.0
"""For a thread to see that its container was killed."""


class Beside(NamedTuple):
    """A service of a job, and what its container is made of."""

    service: Service
    image: JobImage
    secrets: JobSecrets


class Services(Closing):
    """The running services of an attempt.

    Made by: ``running``.
    Threads: the attempt's; each service is followed by one of its own.

    place: of the job's own container in their segment.
    hosts: their names and addresses, for that container.
    group: the job's limits, which hold for its container and theirs together.
    watches: over what each of them writes and prints.
    """

    def __init__(self, beside: Sequence[Beside], job: Job, tools: JobTools, numbering: Numbering) -> None:
        """Start nothing yet. Raises NetworkError, LauncherError."""
        self._beside = beside
        self._job = job
        self._tools = tools
        self._numbering = numbering
        self._segment = tools.launcher.segment()
        self._held = contextlib.ExitStack()
        self._held.callback(os.close, self._segment)
        self._running: list[_Running] = []
        self.place = SegmentPlace(self._segment, address_of(1))
        self.group = LimitGroup(
            f"job-{os.urandom(6).hex()}", _of_all(limits.within(tools.limits, job.limits), len(beside))
        )
        self.watches: list[Watch] = []
        self.hosts = tuple((str(each.service.name), address_of(number)) for number, each in enumerate(beside, start=2))

    def start(self) -> None:
        """Start all of them. Raises JobFaultError, and what the launcher and the store raise."""
        names = [f"{OF_SERVICE}{each.service.name}" for each in self._beside]
        masked = secret_forms(self._tools.masked)
        for each, step in zip(self._beside, self._numbering.planned(names, [0] * len(names)), strict=True):
            output = Output(step.id, self._numbering, masked)
            self._running.append(_Running(each.service, step, output, self._numbering))
        for each, running, (name, address) in zip(self._beside, self._running, self.hosts, strict=True):
            spec = self._spec(each, address)
            assert spec.upper is not None
            watch = Watch(self._limits(each), spec.upper, spec.mounts, beside=tuple(self.watches))
            self.watches.append(watch)
            running.begin()
            try:
                container, streams = self._held.enter_context(
                    started_container(spec, self._tools.launcher.accompany, is_merged=True)
                )
            except (PlaceError, UserError) as error:
                raise JobFaultError(f'the service "{name}": {error.message}', hint=error.hint) from error
            except LimitError as error:
                if spec.limits == self._tools.limits.container:  # nobody asked for less: this machine has none
                    raise
                raise CommandFailedError("limit", f'the service "{name}": {error.message}', hint=error.hint) from error
            ready = readiness(each.service.ready, each.image.config, container, spec)
            running.follow(container, streams, watch, ready)

    def wait_until_ready(self, ending: Ending) -> None:
        """Raises CommandFailedError for one that is not ready in time, or ends; and what ``Ending.check`` raises."""
        with self._numbering.shown(_WAITING):
            began = time.monotonic()
            waiting = list(self._running)
            while waiting:
                ending.check()
                for each in list(waiting):
                    self.check()
                    if each.is_ready():
                        waiting.remove(each)
                    elif time.monotonic() - began > each.timeout_s:
                        raise each.late()
                if waiting:
                    time.sleep(_POLL_S)

    def check(self) -> None:
        """Raises CommandFailedError when one has ended, and what following it has raised."""
        for each in self._running:
            each.check()

    def has_ended(self) -> bool:
        """Whether one has."""
        return any(each.has_ended() for each in self._running)

    def end(self, outcome: StepOutcome) -> None:
        """Kill them, and say how those ended that have not ended by themselves."""
        for each in self._running:
            each.kill()
        for each in self._running:
            each.end(outcome)

    def close(self) -> None:
        """Take their files and the segment away, after ``end``."""
        self._held.close()

    def _limits(self, each: Beside) -> StepLimits:
        """Within the job's, which hold for all together, but for what it has in memory of its own."""
        job = self._job.limits
        within = limits.within(limits.within(self._tools.limits, job), each.service.limits)
        return within._replace(shm_bytes=each.service.limits.shm or self._tools.limits.shm_bytes)

    def _spec(self, each: Beside, address: str) -> ContainerSpec:
        store, config = self._tools.store, each.image.config
        name = str(each.service.name)
        args = (*config.entrypoint, *map(str, config.cmd if each.service.args is None else each.service.args))
        if not args:
            raise JobFaultError(
                f'the service "{name}": {each.image.name} has no command', hint="say which: `args: [PROGRAM, …]`"
            )
        layers = store.snapshots.lowers(each.image.layers)
        upper = store.snapshots.new_upper(layers)
        self._held.callback(store.snapshots.discard, upper)
        owner = owner_of(config.user, layers, self._tools) if each.secrets.files else (0, 0)
        env = (*each.image.env, *((str(key), str(value)) for key, value in each.service.env.items()))
        held = self._limits(each)
        return ContainerSpec(
            layers=layers,
            upper=upper.path,
            args=args,
            env=(*env, *each.secrets.variables),
            cwd=config.working_dir or "/",
            user=config.user,
            hostname=name,
            network="none" if self._job.network == "none" else "default",
            segment=SegmentPlace(self._segment, address),
            extra_hosts=(*self.hosts, (JOBS_NAME, self.place.address)),
            mounts=tuple(File(part.path, part.content, 0o400, *owner) for part in each.secrets.files),
            limits=held.container,
            group=self.group,
            ulimits=held.ulimits,
            shm_bytes=held.shm_bytes,
        )


def _of_all(job: StepLimits, services: int) -> Limits:
    """What a job's container and those of its services may use together. A process of ours is in each."""
    held = job.container
    return held._replace(pids=held.pids + 1 + services) if held.pids else held


@contextlib.contextmanager
def running(
    beside: Sequence[Beside], job: Job, tools: JobTools, numbering: Numbering, ending: Ending
) -> Iterator[Services | None]:
    """The services of a job, ready, for as long as the context lasts; None for a job without any.

    Raises CommandFailedError and other JobFaultErrors, what ``Ending.check`` raises, and what the launcher raises.
    """
    if not beside:
        yield None
        return
    with Services(beside, job, tools, numbering) as services:
        try:
            services.start()
            services.wait_until_ready(ending)
            yield services
        finally:
            services.end("cancelled" if ending.reason == "cancelled" else "done")


def owner_of(user: str, layers: tuple[RootLayer, ...], tools: JobTools) -> tuple[int, int]:
    """The user and group of a container, as its image knows them; whose the files are that it gets.

    Raises JobFaultError for a user that the image does not know.
    """
    if not user:
        return 0, 0
    root = tools.launcher.view(layers)
    try:
        owner = parse_chown(user, root, written="user: ")
    except OwnerError as error:
        raise JobFaultError(error.message, hint=error.hint) from error
    finally:
        os.close(root)
    assert owner is not None, "the text is not empty"
    if owner.unknown:
        raise failures.unknown_user(user, owner.unknown[0].name)
    is_mapped = max(owner.uid, owner.gid) <= MAX_ID  # else there is going to be no container, and it is said why
    return (owner.uid, owner.gid) if is_mapped else (0, 0)


class _Running:
    """One service, from its start to its end."""

    def __init__(self, service: Service, step: StepInfo, output: Output, numbering: Numbering) -> None:
        self._service = service
        self._step = step
        self._output = output
        self._numbering = numbering
        self._began: float | None = None
        self._container: Container | None = None
        self._readiness: Readiness | None = None
        self._thread: threading.Thread | None = None
        self._fault: CommandFailedError | None = None
        self._ended: Ended | None = None
        self._error: BaseException | None = None
        self._is_over = threading.Event()
        self._is_killed = False

    @property
    def timeout_s(self) -> float:
        return self._service.ready.timeout_s

    def begin(self) -> None:
        """It is about to be started."""
        self._began = time.monotonic()
        self._numbering.emit(StepStarted(self._step.id, time.time()))

    def follow(self, container: Container, streams: Streams, watch: Watch, ready: Readiness) -> None:
        """Pass on what it prints, in a thread, until it has ended."""
        self._container, self._readiness = container, ready
        self._thread = threading.Thread(
            target=self._follow, args=(container, streams, watch), name=f"service {self._service.name}", daemon=True
        )
        self._thread.start()

    def _follow(self, container: Container, streams: Streams, watch: Watch) -> None:
        try:
            self._ended = follow(container, streams, self._output, watch, lambda _: False)
        except (ShiplapError, OSError) as error:  # of the container, or of whoever gets what it prints
            self._error = error
        finally:
            self._is_over.set()

    def is_ready(self) -> bool:
        """Look once more. Raises CommandFailedError when it never will be."""
        assert self._readiness is not None, "it was started"
        try:
            return self._readiness.is_ready()
        except JobFaultError as error:
            raise self._failed(error.message) from error

    def has_ended(self) -> bool:
        return self._is_over.is_set()

    def check(self) -> None:
        """Raises CommandFailedError once it has ended, and what following it has raised."""
        if self._is_killed or not self._is_over.is_set():
            return
        if self._error is not None:
            raise self._error
        assert self._ended is not None, "it is over, without an error"
        self._fault = failures.of_service(str(self._service.name), self._ended, self._output.tail())
        raise self._fault

    def late(self) -> CommandFailedError:
        """It was not ready in time."""
        missing = self._readiness.missing if self._readiness is not None else ""
        within = failures.shown(self.timeout_s)
        return self._failed(f"was not ready within {within}{f': {missing}' if missing else ''}")

    def _failed(self, what: str) -> CommandFailedError:
        self._fault = failures.service_fault(str(self._service.name), what, self._output.tail())
        return self._fault

    def kill(self) -> None:
        """Have it end."""
        self._is_killed = True
        if self._readiness is not None:
            self._readiness.close()
        if self._container is not None and not self._is_over.is_set():
            self._container.kill()

    def end(self, outcome: StepOutcome) -> None:
        """Wait until it has ended, and say how."""
        if self._thread is not None:
            self._thread.join(_ENOUGH_S)
        if self._fault is not None:
            self._finish("failed", self._fault.message)
        elif self._began is None:
            self._finish("cancelled", NOT_RUN)
        elif self._container is None and outcome == "done":
            self._finish("failed", "could not be started")
        else:
            self._finish(outcome, None)

    def _finish(self, outcome: StepOutcome, reason: str | None) -> None:
        took_s = 0.0 if self._began is None else time.monotonic() - self._began
        self._numbering.emit(StepFinished(self._step.id, outcome, took_s, time.time(), reason))
