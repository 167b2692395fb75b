"""One attempt of a job, whatever its kind: the one function that the worker and the command line call.

``look`` asks what ``execute`` would find before it runs anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from builder.errors import BuilderError
from builder.result import BuildResult
from builder.running.failures import StepFailedError
from ci.ends import JobOutcome
from ci.errors import JobFaultError
from ci.execution import failures
from ci.execution.blame import is_of_the_machine
from ci.execution.caches import JobCaches
from ci.execution.commands import run_commands
from ci.execution.ending import Ending
from ci.execution.failures import CommandFailedError
from ci.execution.image import JobImage, image_of
from ci.execution.prepared import Commands
from ci.execution.reusing import Reuse, given_secrets, may_see_secrets, privacy_of, reuse_of
from ci.execution.services import Beside
from ci.execution.steps import Numbering
from ci.execution.variables import JobSecrets, Variables, secrets_of, variables
from ci.model import Image, Job, Service
from ci.outcome import Earlier, Given, JobTools, Publisher
from ci.planning import PlannedJob
from ci.reports.words import blamed
from ci.workspace.stack import Stack
from ci.workspace.workspace import PLACE, Workspace
from containers.spec import Mount
from core.cancellation import asking
from core.digests import DiffID, Digest
from core.errors import ShiplapError
from core.references import Reference
from core.suggestions import aside
from core.trust import Privacy
from dockerfile_grammar.errors import DockerfileError
from images.store import Store

_OF_THE_JOB: Final = (JobFaultError, BuilderError, DockerfileError)
"""What the job's author, its script or its Dockerfile did wrong, unless a machine was the cause."""


def execute(planned: PlannedJob, given: Given, tools: JobTools) -> JobOutcome:
    """Do one attempt of a job.

    Whatever comes of it, every process of it has ended. Of one that did not succeed nothing is left.
    Raises JobCancelledError once it was cancelled; PipelineFileError, with the place, for a value that does not fit;
    other ShiplapErrors for what the machines did: the same job may succeed later, or elsewhere.
    """
    job = planned.settled(given.facts, given.exports)
    ending = Ending(tools.cancelled, tools.killed, timeout_s=job.timeout_s, grace_s=job.grace_s)
    try:
        with _session(given, tools) as own:
            try:
                found = _Attempt(planned, job, given, own, ending).outcome()
            except CommandFailedError as error:
                found = _failed(error)
            _lease(found, tools.store)
    except ShiplapError as error:
        if ending.reason:  # whatever the error is, the end caused it
            return _ended(job, ending)
        if is_of_the_machine(error) or not isinstance(error, _OF_THE_JOB):
            raise
        if isinstance(error, StepFailedError):
            return JobOutcome("failed", _told(error), "limit" if error.is_over_limit else "failure", error.exit_code)
        return JobOutcome("failed", _told(error))
    return found


def look(planned: PlannedJob, given: Given, tools: JobTools) -> Earlier | None:
    """What ``execute`` would find of earlier results of a job of commands; None: it always runs.

    Its image is pulled or built where it is not here; nothing else runs. Raises JobFaultError and PipelineFileError for
    what the file got wrong, and what the builder, a registry or the store raises.
    """
    job = planned.settled(given.facts, given.exports)
    ending = Ending(tools.cancelled, tools.killed, timeout_s=job.timeout_s, grace_s=job.grace_s)
    with _session(given, tools) as own:
        found = _Attempt(planned, job, given, own, ending).earlier()
        if found is not None and found.outcome is not None:
            _lease(found.outcome, tools.store)
    return found


class _Prepared(NamedTuple):
    """A job of commands, when all is known but what they do.

    variables: but for those of the image and of secrets.
    privacy: how far may go what the job makes.
    beside: its services.
    reuse: None: it always runs.
    """

    image: JobImage
    variables: Variables
    secrets: JobSecrets
    privacy: Privacy
    beside: tuple[Beside, ...]
    reuse: Reuse | None


class _Attempt:
    """One attempt, in a session of its own."""

    def __init__(self, planned: PlannedJob, job: Job, given: Given, tools: JobTools, ending: Ending) -> None:
        self._planned = planned
        self._job = job
        self._given = given
        self._tools = tools
        self._ending = ending
        self._numbering = Numbering(tools.monitor)

    def outcome(self) -> JobOutcome:
        job = self._job
        with asking(self._ending.check):
            files = self._files()
            if job.build is not None:
                from ci.execution.building import build_image  # most jobs build nothing, and need not load it

                return build_image(
                    str(self._planned.name), job, files, self._given, self._tools, self._numbering, self._ending
                )
            return self._commands(files)

    def earlier(self) -> Earlier | None:
        """What is known of its result; None: nothing ever is."""
        with asking(self._ending.check):
            reuse = self._prepared(self._files()).reuse
            return None if reuse is None else reuse.earlier()

    def _files(self) -> Stack:
        given = self._given
        self._ending.check()
        files = Stack(self._tools.store, given.source, given.outputs, given.before, self._job.inputs)
        files.refuse_conflicts()
        return files

    def _prepared(self, files: Stack) -> _Prepared:
        job, given, tools = self._job, self._given, self._tools
        secrets = secrets_of(job.secrets, given)
        assert job.image is not None, "lint has looked"
        image = self._image(job.image)
        beside = tuple(self._beside(service) for service in job.services)
        name = str(self._planned.name)
        known = variables(job, name, self._planned.combination, given)
        found = given_secrets(secrets, beside)
        privacy = privacy_of(given, tools, (image, *(each.image for each in beside)), found, has_engine=job.engine)
        reuse = reuse_of(name, job, given, tools, image, known, found, beside, files, privacy)
        return _Prepared(image, known, secrets, privacy, beside, reuse)

    def _image(self, wanted: Image) -> JobImage:
        return image_of(wanted, self._job.platform, self._given, self._tools, self._numbering, self._ending)

    def _beside(self, service: Service) -> Beside:
        who = f'the service "{service.name}"'
        return Beside(service, self._image(service.image), secrets_of(service.secrets, self._given, who))

    def _commands(self, files: Stack) -> JobOutcome:
        job, given, tools = self._job, self._given, self._tools
        image, known, secrets, privacy, beside, reuse = self._prepared(files)
        found = None if reuse is None else reuse.answer(self._numbering)
        if found is not None:
            return found
        with contextlib.ExitStack() as stack:
            name = str(self._planned.name)
            caches = stack.enter_context(JobCaches(name, job.caches, given, tools, self._numbering))
            workspace = stack.enter_context(Workspace(tools.store, tools.launcher, files, caches.began_ns))
            git: Sequence[Mount] = ()
            git_place = None
            if given.git is not None and job.inputs is None:
                git = stack.enter_context(given.git.mounted(f"{PLACE}/.git", workspace.began_s))
                git_place = given.git.place
            hides = may_see_secrets(given, tools, given_secrets(secrets, beside))
            commands = Commands(
                job, image, known, secrets, workspace, git, caches.mounts(), beside, hides, git_place, caches.places()
            )
            outcome, was_entered = run_commands(commands, tools, self._numbering, self._ending)
            if not was_entered:  # else what came of it is not what its commands alone make
                caches.keep(self._ending, is_private=privacy is not Privacy.COMMON)
        if reuse is not None and not was_entered:
            reuse.keep(outcome)
        return outcome


@contextlib.contextmanager
def _session(given: Given, tools: JobTools) -> Iterator[JobTools]:
    """The tools with a session of the store for this attempt alone: what fetches its layers is set in the session.

    What the run gives counts as here in it, for the run made it. The job's own secrets are masked, whatever the caller
    thought of.
    """
    with Store.open(tools.store.root) as own:
        own.act_for(tools.domain)
        own.snapshots.heir = tools.store.snapshots
        own.holdings.admit((*given.source, *(layer for _, layer in given.outputs)))
        publisher = None if tools.publisher is None else _Publishing(tools.publisher, tools.store, own)
        yield tools._replace(store=own, masked=(*tools.masked, *given.secrets.values()), publisher=publisher)


class _Publishing:
    """Lets the caller's publisher push, from the caller's session, what the attempt's own has made."""

    def __init__(self, publisher: Publisher, store: Store, own: Store) -> None:
        self._publisher = publisher
        self._store = store
        self._own = own

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        return self._publisher.names(tags)

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        images = [] if result.image is None else [result.image]
        if result.is_index:
            images += self._own.images.indexes.get(result.manifest_digest).images
        for image in images:
            self._store.holdings.admit(image.diff_ids)
            self._store.images.get(image.id)
        return self._publisher.push(names, result)


def _failed(error: CommandFailedError) -> JobOutcome:
    told = "; ".join(filter(None, (blamed(error.reports), _told(error))))
    return JobOutcome("failed", told, error.failure, error.exit_code, published=error.published, reports=error.reports)


def _lease(found: JobOutcome, store: Store) -> None:
    """Let the caller's session hold what the attempt's own has held until now."""
    of_jobs = () if found.outputs is None else (found.outputs,)
    _lease_layers((*of_jobs, *(each.layer for each in found.published)), store)
    if found.image:
        store.images.get(Digest.parse(found.image))


def _lease_layers(layers: tuple[DiffID, ...], store: Store) -> None:
    store.holdings.admit(layers)
    for layer in layers:
        store.layers.path(layer)


def _ended(job: Job, ending: Ending) -> JobOutcome:
    """What came of a job that was ended while it did what can be left at any time. Raises JobCancelledError."""
    if ending.reason == "cancelled":
        ending.check()
    error = failures.late(job)
    return JobOutcome("failed", _told(error), error.failure)


def _told(error: ShiplapError) -> str:
    render = getattr(error, "render", None)
    return str(render()) if render is not None else f"{error.message}{aside(error.hint)}"
