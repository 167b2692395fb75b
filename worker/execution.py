"""One attempt at one run, from the claim to its one final state.

A step that fails ends the run for good. What the machines did wrong (a launcher that died, a full disk, a registry out
of reach, a worker told to stop) puts it back into the queue, until its attempts are used up.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builder.build import BuildResult, build
from builder.contexts import Context
from builder.errors import BuildCancelledError, DockerfileNotFoundError
from builder.request import BuildRequest, Output
from containers.errors import ContainerError, LauncherError, MountError, NamespaceError, NetworkError
from core.errors import ShiplapError, StorageFullError
from core.masking import Masker
from core.platforms import Platform
from core.references import Reference
from core.settings import RegistrySettings
from dockerfile_grammar import IgnorePatterns
from pipelines.errors import DatabaseUnreachableError, QueueUnreachableError, SecretError, StaleAttemptError
from pipelines.logwriter import LogWriter
from pipelines.model import Claim, ContextSource, RunResult, RunState
from pipelines.reaper import waiting
from pipelines.sources import fetch_git
from pipelines.tags import TagFacts, image_names
from registry.client import Client, ClientConfig, push
from registry.errors import UnreachableError
from worker.keeper import Keeper
from worker.resources import Resources

_FINISH_PAUSE_S: Final = 0.5
_INFRASTRUCTURE: Final = (
    DatabaseUnreachableError, LauncherError, MountError, NamespaceError, NetworkError, SecretError, StorageFullError,
    UnreachableError,
)  # fmt: skip
_log = logging.getLogger(__name__)


class Execution:
    """Does what a claim says. ``interrupt`` may be called from a signal handler."""

    def __init__(self, claim: Claim, resources: Resources) -> None:
        self._claim = claim
        self._resources = resources
        self._service = resources.service
        self._scratch = resources.store.tmp / f"run-{claim.number}-{claim.attempt}"
        self._began = time.monotonic()
        self._keeper = Keeper(claim, self._service.claims, timeout_s=claim.run.options.timeout_s)

    def interrupt(self) -> None:
        """This process has to end: the run goes back into the queue."""
        self._keeper.stop("interrupted")

    def run(self) -> None:
        """Build, push, and end the run, whatever happens on the way."""
        claim = self._claim
        with self._keeper:
            try:
                secrets = self._service.secrets.reveal(claim.run.options.secrets)
            except ShiplapError as error:
                self._end(self._writer(Masker()), "failed", _told(error), RunResult(error=_told(error)))
                return
            writer = self._writer(Masker(secrets.values()))
            settled = False
            try:
                writer.status(f"attempt {claim.attempt} of {claim.run.max_attempts} on worker {claim.worker}")
                self._attempt(writer)
                settled = True
            finally:
                if not settled:  # a bug of ours: the traceback goes to the worker's log
                    self._give_back(writer, "an internal error, see the worker's log")
                shutil.rmtree(self._scratch, ignore_errors=True)
        self._wake_others()

    def _writer(self, masker: Masker) -> LogWriter:
        return LogWriter(
            self._claim, self._service.database, self._service.live, masker, lost=lambda: self._keeper.stop("lost")
        )

    def _attempt(self, writer: LogWriter) -> None:
        try:
            result = self._build_and_push(writer)
        except ShiplapError as error:
            if self._keeper.stopped.is_set():  # whatever the error is, that is where it comes from
                self._stopped(writer)
            elif isinstance(error, _INFRASTRUCTURE):
                if isinstance(error, ContainerError):
                    self._resources.renew_launcher()
                self._give_back(writer, _told(error))
            else:
                result = RunResult(error=_told(error), duration_s=self._duration())
                self._end(writer, "failed", error.message.partition("\n")[0], result)
        else:
            self._end(writer, "succeeded", "", result)

    def _stopped(self, writer: LogWriter) -> None:
        timeout_s = self._claim.run.options.timeout_s
        match self._keeper.why:
            case "cancelled":
                self._end(writer, "cancelled", "cancelled", RunResult(duration_s=self._duration()))
            case "timeout":
                told = f"stopped after {timeout_s} s, the run's time-out"
                self._end(writer, "failed", told, RunResult(error=told, duration_s=self._duration()))
            case "lost":
                writer.close()
                _log.warning("run %d: attempt %d lost it", self._claim.number, self._claim.attempt)
            case _:
                self._give_back(writer, "its worker was told to stop")

    def _build_and_push(self, writer: LogWriter) -> RunResult:
        options = self._claim.run.options
        self._scratch.mkdir(mode=0o700)
        with self._source() as (directory, facts):
            names = self._names(facts)
            with Context.open_directory(str(directory)) as opened:
                name, dockerfile, ignore = _dockerfile(opened, options.file)
                with opened.with_ignore(ignore) as context:
                    result = build(
                        BuildRequest(
                            dockerfile,
                            name,
                            context,
                            outputs=(Output("image", "", names),),
                            target=options.target,
                            build_args=options.build_args,
                            labels=options.labels,
                            no_cache=options.no_cache,
                            platform=Platform.parse(options.platform) if options.platform else Platform.host(),
                            network=options.network,
                            add_hosts=options.add_hosts,
                        ),
                        store=self._resources.store,
                        launcher=self._resources.launcher(),
                        monitor=writer,
                        cancelled=self._keeper.stopped,
                        connect=self._client,
                    )
        self._push(names, result, writer)
        return RunResult(
            image=str(result.config_digest),
            manifest=str(result.manifest_digest),
            names=tuple(name.familiar for name in names),
            executed=result.executed,
            cached=result.cached,
            duration_s=self._duration(),
        )

    @contextlib.contextmanager
    def _source(self) -> Iterator[tuple[Path, TagFacts]]:
        run, registry = self._claim.run, self._service.settings.registry
        directory = self._scratch / "context"
        if isinstance(run.source, ContextSource):
            self._service.contexts.materialise(run.source.context, directory)
            yield directory, TagFacts(run.project, run.number, registry)
            return
        checkout = fetch_git(
            run.source,
            self._scratch / "git",
            allowed_hosts=self._service.settings.git_allowed_hosts,
            cancelled=self._keeper.stopped,
        )
        yield (
            checkout.context,
            TagFacts(run.project, run.number, registry, checkout.branch, checkout.tag, checkout.commit),
        )

    def _names(self, facts: TagFacts) -> tuple[Reference, ...]:
        """What the image is called: the run's tags, those without a registry in the service's; else the template's."""
        tags = self._claim.run.options.tags
        if not tags:
            template = self._service.projects.get(self._claim.run.project).tag_template
            return image_names(template, facts)
        return tuple(_in_registry(tag, facts.registry) for tag in tags)

    def _push(self, names: tuple[Reference, ...], result: BuildResult, writer: LogWriter) -> None:
        """Send the image to each name that says where. Nothing is sent once the run is another attempt's."""
        remote = [name for name in names if _names_a_registry(name)]
        if not remote or result.image is None:
            return
        with self._client() as client:
            for name in remote:
                self._check_ours()
                pushed = push(name, self._resources.store, client=client, image=result.image)
                writer.status(f"pushed {name.familiar}@{pushed.digest}")

    def _client(self) -> Client:
        settings = self._service.settings
        insecure = [settings.registry] if settings.registry else []
        config = ClientConfig.load(RegistrySettings.from_environ(), settings.root, insecure=insecure)
        return Client(config, cancelled=self._keeper.stopped)

    def _check_ours(self) -> None:
        try:
            self._service.claims.renew(self._claim)
        except StaleAttemptError as error:
            self._keeper.stop("lost")
            raise BuildCancelledError("the run is another attempt's now") from error

    def _end(self, writer: LogWriter, state: RunState, reason: str, result: RunResult) -> None:
        """Store the rest of the log and the final state in one transaction, however long the database is away."""
        writer.close()
        writer.add_last(f"{state}: {reason}" if reason and reason != state else state)
        masked = RunResult(
            result.image, result.manifest, result.names, result.executed, result.cached, result.duration_s,
            writer.masked(result.error),
        )  # fmt: skip
        while True:
            try:
                self._service.claims.finish(self._claim, state, writer.masked(reason), masked, store=writer.store)
                break
            except StaleAttemptError as error:
                _log.warning("run %d: its result comes too late: %s", self._claim.number, error)
                return
            except DatabaseUnreachableError as error:
                _log.warning("run %d: its end waits for the database: %s", self._claim.number, error)
                time.sleep(_FINISH_PAUSE_S)
        writer.end()

    def _give_back(self, writer: LogWriter, why: str) -> None:
        """Let another attempt do it, if the run may have one."""
        writer.close()
        why = writer.masked(why).partition("\n")[0]
        try:
            writer.store_now()
            self._service.claims.release(self._claim.number, self._claim.attempt, why)
        except (StaleAttemptError, DatabaseUnreachableError) as error:
            _log.warning("run %d is left to the reaper: %s", self._claim.number, error)

    def _wake_others(self) -> None:
        """Runs that waited for this one's project, or for this run itself once more, need a message."""
        try:
            self._service.queue.top_up(waiting(self._service.database))
        except (QueueUnreachableError, DatabaseUnreachableError) as error:
            _log.warning("the reaper has to wake the waiting runs: %s", error)

    def _duration(self) -> float:
        return time.monotonic() - self._began


def _told(error: ShiplapError) -> str:
    """The whole message for people: with the place in the Dockerfile where there is one."""
    render = getattr(error, "render", None)
    if render is not None:
        return str(render())
    return error.message + (f"\nhint: {error.hint}" if error.hint else "")


def _dockerfile(context: Context, file: str | None) -> tuple[str, bytes, IgnorePatterns | None]:
    """Name and text of the Dockerfile, confined to the context; and what is to be ignored."""
    candidates = [file] if file else ["Dockerfile", "dockerfile"]
    for name in candidates:
        data = context.read(name)
        if data is not None:
            break
    else:
        raise DockerfileNotFoundError(f"there is no {candidates[0]} in the build context", hint="name it with -f")
    for ignore_name in (f"{name}.dockerignore", ".dockerignore"):
        ignore = context.read(ignore_name)
        if ignore is not None:
            text = ignore.decode("utf-8", "surrogateescape")
            return name, data, IgnorePatterns.parse(text, filename=ignore_name) if text.strip() else None
    return name, data, None


def _in_registry(tag: str, registry: str) -> Reference:
    name = Reference.parse(tag).with_default_tag()
    if registry and not _names_a_registry(name):
        return Reference.parse(f"{registry}/{name.familiar}")
    return name


def _names_a_registry(name: Reference) -> bool:
    return name.familiar_name == name.name  # docker.io's names are shown without it
