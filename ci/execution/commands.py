"""``run`` and ``args``: a container on the job's image and workspace, from its start to what it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from builder.running.container import Bells, Ended, Output, follow, run_container, started_container
from builder.running.masking import secret_forms
from builder.running.watch import Watch
from ci import limits
from ci.ends import JobOutcome
from ci.errors import JobCancelledError, JobFaultError
from ci.execution import failures, script
from ci.execution.doors import Doors
from ci.execution.ending import Ending
from ci.execution.engine import VARIABLE, OwnEngine
from ci.execution.entering import Entering
from ci.execution.exports import read_exports
from ci.execution.failures import CommandFailedError
from ci.execution.leaving import keep_left
from ci.execution.prepared import Commands
from ci.execution.publishing import Publishing
from ci.execution.reporting import Reporting
from ci.execution.script import Script
from ci.execution.services import Services, owner_of, running
from ci.execution.steps import JobSteps, Numbering
from ci.language.shapes import Text
from ci.model import Job
from ci.outcome import JobTools
from ci.workspace.workspace import PLACE
from containers.errors import LimitError, PlaceError, UserError
from containers.handles import Container
from containers.spec import ContainerSpec, File, Mount, Tree
from core.cancellation import asking
from core.events import Monitor, StepOutcome
from core.masking import Masker
from core.rootfs import DirectoryLayer, RootLayer

_HOSTNAME: Final = "shiplap"
"""The same everywhere: what a job can see and its key does not name would be an input."""


def run_commands(commands: Commands, tools: JobTools, numbering: Numbering, ending: Ending) -> tuple[JobOutcome, bool]:
    """Run them to their end, and take what they leave. Also returns whether people were in the container.

    Raises CommandFailedError and other JobFaultErrors, and JobCancelledError. Whatever is raised, nothing is left.
    """
    job, store = commands.job, tools.store
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(_engine(job, tools, numbering, ending))
        doors = stack.enter_context(Doors(store))
        layers = store.snapshots.lowers(commands.image.layers)
        upper = store.snapshots.new_upper(layers)
        stack.callback(store.snapshots.discard, upper)
        text = _script(job)
        spec = _spec(commands, text, doors, layers, upper.path, tools)
        reporting = Reporting(job.reports, numbering, Masker(tools.masked))
        mounted = _places_in_workspace(spec)
        publishing = Publishing(job, commands.workspace, store, mounted)
        entering = Entering(tools)
        if engine is not None:
            spec = spec._replace(env=(*spec.env, VARIABLE), mounts=(*spec.mounts, *engine.mounts), group=engine.group)
        began = False
        try:
            with running(commands.beside, job, tools, numbering, ending) as services:
                began = True
                if services is not None:
                    spec = spec._replace(segment=services.place, extra_hosts=services.hosts, group=services.group)
                _run(
                    spec, commands, text, doors, services, engine, tools, numbering, ending, reporting.monitor, entering
                )
        except CommandFailedError as error:
            if began:  # else a service never was ready, and nothing could report
                error.reports = reporting.collected(commands.workspace, ending)
            error.published = publishing.of_failure(numbering, ending)
            keep_left(commands, spec, upper, tools, numbering, ending)
            raise
        try:
            exports = read_exports(doors.exported(), [str(name) for name in job.exports], Masker(tools.masked))
            with asking(ending.check):
                kept = [output for output in job.outputs if output.is_for_jobs()]
                outputs = commands.workspace.take_outputs(kept, mounted=mounted)
                published = publishing.of_success()
        except JobFaultError as error:
            failed = CommandFailedError("failure", error.message, exit_code=0, hint=error.hint)
            failed.reports = reporting.collected(commands.workspace, ending)
            failed.published = publishing.of_failure(numbering, ending)
            keep_left(commands, spec, upper, tools, numbering, ending)
            raise failed from error
        reports = reporting.collected(commands.workspace, ending)
        done = JobOutcome(
            "succeeded", exit_code=0, outputs=outputs, exports=exports, published=published, reports=reports
        )
        return done, entering.was_used


def _places_in_workspace(spec: ContainerSpec) -> list[str]:
    """Where something else was mounted in the workspace: none of that is the job's output."""
    return [mount.target.removeprefix(f"{PLACE}/") for mount in spec.mounts if mount.target.startswith(f"{PLACE}/")]


def _script(job: Job) -> Script:
    if job.run is not None:
        return script.of_entries([str(entry) for entry in job.run], str(job.shell))
    assert job.args is not None, "a job of commands has one of the two"
    return script.of_command([str(part) for part in job.args])


def _spec(
    commands: Commands, text: Script, doors: Doors, layers: tuple[RootLayer, ...], upper: str, tools: JobTools
) -> ContainerSpec:
    job = commands.job
    held = limits.within(tools.limits, job.limits)
    owner = owner_of(str(job.user), layers, tools)
    files = (commands.workspace.mount(places=[".git"] if commands.git else []), *commands.git, *commands.caches)
    mounts: list[Mount] = [mount._replace(owner=owner) if isinstance(mount, Tree) else mount for mount in files]
    mounts += doors.mounts(with_bell=len(text.names) > 1)
    if text.content is not None:
        mounts.append(File(script.SCRIPT, text.content, 0o444))
    mounts += [File(part.path, part.content, 0o400, *owner) for part in commands.secrets.files]
    return ContainerSpec(
        layers=layers,
        upper=upper,
        args=text.args,
        env=(*commands.image.env, *commands.variables, *commands.secrets.variables),
        cwd=str(job.workdir),
        user=str(job.user),
        hostname=_HOSTNAME,
        network="none" if job.network == "none" else "default",
        mounts=tuple(mounts),
        terminal=job.tty,
        terminal_input=False,
        limits=held.container,
        ulimits=held.ulimits,
        shm_bytes=held.shm_bytes,
        init=True,
    )


def _run(
    spec: ContainerSpec,
    commands: Commands,
    text: Script,
    doors: Doors,
    services: Services | None,
    engine: OwnEngine | None,
    tools: JobTools,
    numbering: Numbering,
    ending: Ending,
    heard: Monitor,
    entering: Entering,
) -> None:
    """Run the container to its end. Raises what went wrong with it, or with a service.

    heard: gets the events of what the commands print, and passes them on.
    entering: lets people in as long as the command runs.
    """
    job = commands.job
    planned = numbering.planned(text.names, _lines(job, text))
    output = Output(planned[0].id, heard, secret_forms(tools.masked))
    held = limits.within(tools.limits, job.limits)
    assert spec.upper is not None
    beside = [*(() if services is None else services.watches), *(() if engine is None else (engine.watch,))]
    watch = Watch(held, spec.upper, spec.mounts, beside=beside)
    steps = JobSteps(planned, numbering, output, doors.bell, doors.go)
    outcome: StepOutcome = "failed"
    reason: str | None = None

    def has_to_die(container: Container) -> bool:
        entering.begin(container, spec)
        lost = (services is not None and services.has_ended()) or (engine is not None and engine.has_ended(container))
        return ending.has_to_die(container) or lost

    try:
        try:
            bells = {doors.bell: steps.rung} if len(planned) > 1 else {}
            with entering:
                ended = _followed(spec, engine, tools, output, watch, has_to_die, bells)
        except (PlaceError, UserError) as error:
            raise JobFaultError(error.message, hint=error.hint) from error
        except LimitError as error:
            if spec.limits == tools.limits.container:
                raise
            raise CommandFailedError("limit", error.message, hint=error.hint) from error
        if ending.reason == "cancelled":
            raise JobCancelledError("cancelled")
        if services is not None:
            services.check()
        if engine is not None:
            engine.check()
        exceeded = ended.exceeded or watch.disk_exceeded()
        fault = failures.fault_of(Ended(ended.status, exceeded), commands.image, job, text, ending, output.tail())
        if fault is not None:
            if tools.held is not None and not exceeded:
                _hand_out(spec, tools)
            raise fault
        outcome = "done"
    except JobCancelledError:
        outcome = "cancelled"
        raise
    except JobFaultError as error:
        reason = error.message
        raise
    finally:
        steps.end(outcome, reason)


def _followed(
    spec: ContainerSpec,
    engine: OwnEngine | None,
    tools: JobTools,
    output: Output,
    watch: Watch,
    has_to_die: Callable[[Container], bool],
    bells: Bells,
) -> Ended:
    """Start the container, and its engine beside it, and follow it to its end. Then nobody writes to its files."""
    if engine is None:
        return run_container(spec, tools.launcher, output, watch, has_to_die, bells=bells, is_merged=True)
    try:
        with started_container(spec, tools.launcher.start, is_merged=True) as (container, streams):
            engine.begin(container, spec.group)
            return follow(container, streams, output, watch, has_to_die, bells=bells)
    finally:
        engine.wait()


@contextlib.contextmanager
def _engine(job: Job, tools: JobTools, numbering: Numbering, ending: Ending) -> Iterator[OwnEngine | None]:
    """The engine of a job that wants one, not started yet; it has ended when the context has."""
    if not job.engine:
        yield None
        return
    with OwnEngine(tools, numbering, limits.within(tools.limits, job.limits)) as engine:
        try:
            yield engine
        finally:
            engine.end("cancelled" if ending.reason == "cancelled" else "done")


def _lines(job: Job, text: Script) -> list[int]:
    """Where the steps stand in the file; 0: that is not known."""
    entries = job.run if job.run is not None and len(job.run) == len(text.names) else (job.run or job.args or ())[:1]
    return [entry.span.start.line if isinstance(entry, Text) else 0 for entry in entries]


def _hand_out(spec: ContainerSpec, tools: JobTools) -> None:
    """Let somebody look at a command that failed, in another container on the files that it left."""
    assert tools.held is not None
    assert spec.upper is not None
    with contextlib.ExitStack() as stack:

        def above(layers: tuple[RootLayer, ...], upper: str) -> tuple[tuple[RootLayer, ...], str]:
            """The files as they are, and a new upper: an overlay that was unmounted is not mounted again."""
            seen = (*layers, DirectoryLayer(f"{upper}/fs"))
            new = tools.store.snapshots.new_upper(seen)
            stack.callback(tools.store.snapshots.discard, new)
            return seen, new.path

        layers, upper = above(spec.layers, spec.upper)
        mounts: list[Mount] = []
        for mount in spec.mounts:
            if isinstance(mount, Tree) and mount.upper is not None:
                seen, new = above(mount.layers, mount.upper)
                mounts.append(mount._replace(layers=seen, upper=new))
            else:
                mounts.append(mount)
        tools.held(spec._replace(layers=layers, upper=upper, mounts=tuple(mounts)))
