"""The services of one attempt of a job: fresh containers, on a segment of their own, for as long as the job's runs.

Each is a step with what it prints. All are started together; the job begins when all are ready. When one ends before
the job does, the job has failed. They are the launcher's containers, as the job's is: so they end with the job, in
whatever way that ends (docs/decisions/0035-a-jobs-services-have-a-namespace.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from builder.copying.owners import parse_chown
from builder.errors import OwnerError
from builder.request.limits import StepLimits
from builder.running.container import Output, started_container
from builder.running.masking import secret_forms
from builder.running.watch import Watch
from ci import limits
from ci.errors import JobFaultError
from ci.execution import failures
from ci.execution.ending import Ending
from ci.execution.failures import CommandFailedError
from ci.execution.image import JobImage
from ci.execution.readiness import Readiness, readiness
from ci.execution.running import Running
from ci.execution.steps import Numbering
from ci.execution.variables import JobSecrets
from ci.language.services import JOBS_NAME
from ci.model import Job, Service
from ci.outcome import OF_SERVICE, JobTools
from containers.errors import LimitError, PlaceError, UserError
from containers.segment import address_of
from containers.spec import ContainerSpec, File, SegmentPlace
from containers.users import MAX_ID
from core.closing import Closing
from core.events import StepInfo, StepOutcome
from core.rootfs import RootLayer

_POLL_S: Final = 0.02
_WAITING: Final = "[internal] wait until the services are ready"


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
        self.group = limits.together(limits.within(tools.limits, job.limits), len(beside) + job.engine)
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
            running.waits_for(ready)
            running.follow(container, streams, watch)

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


class _Running(Running):
    """One service, from its start to its end."""

    def __init__(self, service: Service, step: StepInfo, output: Output, numbering: Numbering) -> None:
        name = str(service.name)
        super().__init__(f"service {name}", step, output, numbering, lambda *end: failures.of_service(name, *end))
        self._service = service
        self._readiness: Readiness | None = None

    @property
    def timeout_s(self) -> float:
        return self._service.ready.timeout_s

    def waits_for(self, ready: Readiness) -> None:
        """It is ready when this says so."""
        self._readiness = ready

    def is_ready(self) -> bool:
        """Look once more. Raises CommandFailedError when it never will be."""
        assert self._readiness is not None, "it was started"
        try:
            return self._readiness.is_ready()
        except JobFaultError as error:
            raise self._failed(error.message) from error

    def late(self) -> CommandFailedError:
        """It was not ready in time."""
        missing = self._readiness.missing if self._readiness is not None else ""
        within = failures.shown(self.timeout_s)
        return self._failed(f"was not ready within {within}{f': {missing}' if missing else ''}")

    def _failed(self, what: str) -> CommandFailedError:
        self.fault = failures.service_fault(str(self._service.name), what, self.output.tail())
        return self.fault

    def kill(self) -> None:
        """Have it end."""
        if self._readiness is not None:
            self._readiness.close()
        super().kill()
