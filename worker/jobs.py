"""One attempt at a job of a pipeline: what its run gives it comes from the database, and ``ci.execution`` does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from builder.remotes.access import SourceAccess
from builder.result import BuildResult
from ci.ends import JobOutcome
from ci.errors import JobFaultError
from ci.execution.job import execute
from ci.failedfiles import FailedFiles
from ci.handover import given_to
from ci.model import SourceOptions
from ci.outcome import Given, JobTools
from ci.parsing import pipeline_name
from ci.planning import PlannedJob
from ci.retrying import is_tried_again
from core.digests import Digest
from core.errors import InvalidReferenceError
from core.references import Reference
from core.settings import FetchSettings
from core.trust import Domain
from pipelines.errors import DeniedError, InvalidRequestError
from pipelines.owning.policies import RunAsks
from pipelines.projects.defaultnames import behind_branch
from pipelines.projects.tags import TagFacts, image_names
from pipelines.runs.artifacts import KEPT_S, Left
from pipelines.runs.domains import domain_of, named_by, origin_of_job, run_asks
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.pipelines import JobBasis
from pipelines.runs.reports import JobReports
from pipelines.sealing.vault import Held, Sifted
from registry.client import push
from worker.building import default_names
from worker.cacheexport import CacheExport
from worker.connecting import bounds_of
from worker.entrances import Entrances
from worker.fetching import fetched
from worker.imagelabels import annotations_of
from worker.jobcaches import caches_of
from worker.keptrows import kept_name, kept_until, published_name
from worker.leavings import Leavings
from worker.outputs import bring, leave, used_images
from worker.outputsquota import within_quota
from worker.sharedcache import refuse_cache_names
from worker.work import Work, client_for, in_registry, is_trusted, names_a_registry, privacy_of


class JobDone(NamedTuple):
    """What came of an attempt.

    outcome: without what it reported.
    is_tried_again: it failed, and another attempt follows.
    reports: None: it reported nothing.
    exports: what remains to be written to the shared cache.
    has_caches: directories of it are kept for its next runs.
    left: where what it output is.
    failed_files: what it left for a shell in it; None: nothing is kept. failed_until: until when, as ``time.time``.
    """

    outcome: JobOutcome
    is_tried_again: bool
    reports: JobReports | None = None
    exports: Sequence[CacheExport] = ()
    has_caches: bool = False
    left: Left = Left()
    failed_files: FailedFiles | None = None
    failed_until: float = 0.0


def run_job(work: Work, writer: LogWriter) -> JobDone:
    """Do one attempt; what it made is kept. Raises ShiplapErrors of all rooms below, as ``execute`` does."""
    claim, service = work.claim, work.resources.service
    basis = work.keeper.insist(lambda: service.pipelines.basis(claim))
    data: dict[str, Any] = msgspec.json.decode(claim.spec)
    planned = PlannedJob.from_data(data, basis.plan.facts)
    domain = domain_of(claim.run)
    assert domain is not None, "planning has settled it"
    work.store.act_for(domain)
    asks = _asks(work, domain, basis)
    caches = caches_of(work, asks, basis.plan.file)
    sifted = _secrets(work, asks, basis)
    leavings = Leavings.of(work)
    options = SourceOptions(basis.plan.history, basis.plan.submodules, basis.plan.lfs)
    with fetched(work, ref=basis.plan.ref, commit=basis.plan.commit) as commit:
        common = Given(
            run=str(claim.run.number),
            attempt=claim.attempt,
            facts=basis.plan.facts,
            source=commit.layers(options),
            secrets=sifted.values,
            refused=sifted.refusals(planned.job.secret_names, asks),
            git=commit.git_view(options),
            pipeline=pipeline_name(basis.plan.file),
            secret_jobs=None if basis.plan.secret_jobs is None else frozenset(basis.plan.secret_jobs),
        )
        given = given_to(claim.name, basis.before, basis.outcomes, common)
        bring(work, domain, given.outputs, used_images(planned.job, given.images), basis.late_at)
        tools = _tools(work, writer, asks, basis)
        keep = None if leavings is None else leavings.keep
        tools = tools._replace(caches=caches, keep=keep, entrance=partial(Entrances, work))
        outcome = execute(planned, given, tools)
    outcome = replace(outcome, message=writer.masked(outcome.message))
    if domain.is_fork:
        outcome = _of_a_stranger(outcome)
    most = service.settings.project_outputs_max
    outcome = within_quota(service.database, work.store.kept, claim.run.project, outcome, most)
    is_again = is_tried_again(planned.job.retry, outcome, claim.failures + 1)
    left = Left()
    if not is_again:  # else nothing tells of it
        _keep(work, outcome, basis)
        left = leave(work, writer, domain, basis.place, outcome)
    reports = None
    if outcome.reports is not None:
        counts = not domain.is_fork and outcome.state != "reused"
        reports = JobReports(planned.base, basis.plan.commit, counts, outcome.reports)
        outcome = replace(outcome, reports=None)
    exports = caches.exports if caches is not None and outcome.state == "succeeded" else ()
    done = JobDone(outcome, is_again, reports, exports, bool(planned.job.caches), left)
    if leavings is None:
        return done
    if outcome.state != "failed" or is_again:
        leavings.drop()
        return done
    return done._replace(failed_files=leavings.still_kept(), failed_until=leavings.until)


def _asks(work: Work, domain: Domain, basis: JobBasis) -> RunAsks:
    branch, tag = named_by(basis.plan.ref)
    return run_asks(work.claim.run, domain, branch, tag, pipeline_name(basis.plan.file))


def _secrets(work: Work, asks: RunAsks, basis: JobBasis) -> Sifted:
    """What the run's jobs get of the secrets that they ask for, and why they do not get the others."""
    wanted = basis.plan.secrets
    sifted = work.held.sifted(asks)
    if wanted is None:
        return sifted
    return Sifted({name: value for name, value in sifted.values.items() if name in wanted}, sifted.refused)


def masked_of(held: Held, wanted: Collection[str] | None) -> tuple[bytes, ...]:
    """The values of secrets that none of the run's jobs may print. wanted: names that they ask for; None: any.

    Also of those that this run does not get: what it took over from another run was perhaps made with them.
    """
    values = {**{name: each.value for name, each in held.stored.items()}, **held.own}
    return tuple(value for name, value in values.items() if wanted is None or name in wanted)


def _of_a_stranger(outcome: JobOutcome) -> JobOutcome:
    """The outcome of a fork's job. It keeps nothing for people that is not gone soon: the disk is not the fork's."""
    published = tuple(replace(each, keep_s=min(each.keep_s, KEPT_S)) for each in outcome.published)
    return replace(outcome, published=published)


def _keep(work: Work, outcome: JobOutcome, basis: JobBasis) -> None:
    """Keep what the jobs after it, and people, get, from before the transaction that tells of it."""
    layers = [outcome.outputs] if outcome.outputs is not None else []
    images = [Digest.parse(outcome.image)] if outcome.image else []
    if layers or images:
        name = kept_name(work.claim.run.number, work.claim.name)
        work.store.kept.keep(name, layers, images, until=kept_until(basis.late_at, time.time()))
    for each in outcome.published:
        name = published_name(work.claim.run.number, work.claim.name, each.name)
        work.store.kept.keep(name, [each.layer], until=time.time() + each.keep_s)


def _tools(work: Work, writer: LogWriter, asks: RunAsks, basis: JobBasis) -> JobTools:
    service, run, domain = work.resources.service, work.claim.run, asks.domain
    return JobTools(
        work.store,
        work.resources.launcher(),
        monitor=writer,
        cancelled=work.keeper.stopped,
        killed=work.keeper.killed,
        connect=lambda: client_for(work, asks, writer.status),
        masked=masked_of(work.held, basis.plan.secrets),
        fingerprint=service.secrets.fingerprint,
        domain=domain,
        privacy=privacy_of(run.source),
        limits=work.resources.limits,
        pins=_Pins(work),
        publisher=_Publisher(work, writer, asks, basis) if is_trusted(work.claim) else _NoPublisher(),
        access=SourceAccess(reach=bounds_of(work.resources.settings), bounds=FetchSettings.from_environ()),
    )


class _Pins:
    """What images mean in the run: kept in the database."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pipelines = work.resources.service.pipelines

    def get(self, name: str) -> str | None:
        return self._insist(lambda: self._pipelines.get_image(self._work.claim.run.number, name))

    def keep(self, name: str, meaning: str) -> str:
        found = self._insist(lambda: self._pipelines.keep_image(self._work.claim, name, meaning))
        assert found is not None
        return found

    def _insist(self, ask: Callable[[], str | None]) -> str | None:
        return self._work.keeper.insist(ask)


class _NoPublisher:
    """For what strangers wrote: an image that nobody vouches for gets no name, and goes nowhere."""

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        del tags
        return ()

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        del names, result
        return ""


class _Publisher:
    """Names and pushes what ``build`` jobs make, with the rights of the run's project."""

    def __init__(self, work: Work, writer: LogWriter, asks: RunAsks, basis: JobBasis) -> None:
        self._work = work
        self._writer = writer
        self._asks = asks
        self._domain = asks.domain
        self._basis = basis
        self._has_tags = False

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        """Raises JobFaultError for what is no name, and for another project's."""
        self._has_tags = bool(tags)
        try:
            return self._names(tags)
        except (DeniedError, InvalidReferenceError, InvalidRequestError) as error:
            raise JobFaultError(error.message, hint=error.hint) from error

    def _names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        work, service = self._work, self._work.resources.service
        run, registry = work.claim.run, service.settings.registry
        if tags:
            found = tuple(self._own(in_registry(tag, registry)) for tag in tags)
        else:
            project = work.keeper.insist(lambda: service.projects.get(run.project))
            own = work.keeper.insist(lambda: service.naming.number_tag(run.project, run.number))
            found = image_names(project.tag_template, self._facts(registry, own))
        work.keeper.insist(lambda: service.borders.check_names(run.project, found))
        refuse_cache_names(found, registry)
        return found

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        """The default names are taken after the first push, as for a run that is a build alone.

        Raises RegistryErrors, and StaleAttemptError once the job is another attempt's.
        """
        digest = self._push(names, result)
        if self._has_tags or result.image is None:
            return digest
        facts, run = self._basis.plan.facts, self._work.claim.run
        branch, tag, commit = (facts.get(f"SHIPLAP_{name}", "") for name in ("BRANCH", "TAG", "COMMIT"))
        its = origin_of_job(run, self._domain, branch, tag, commit)
        registry = self._work.resources.service.settings.registry
        return self._push(default_names(self._work, its, self._facts(registry, ""), self._writer), result) or digest

    def _push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        work, digest = self._work, ""
        remote = [name for name in names if names_a_registry(name)]
        if not remote or result.image is None:
            return ""
        about = annotations_of(work.claim.run.source, result.image.config)
        with client_for(work, self._asks, self._writer.status) as client:
            for name in remote:
                work.keeper.insist(lambda: work.resources.service.claims.renew(work.claim))
                digest = str(push(name, work.store, client=client, image=result.image, annotations=about).digest)
                self._writer.status(f"pushed {name.familiar}@{digest}")
        return digest

    def _own(self, name: Reference) -> Reference:
        """Of a run that is not protected the branch stands in front: it must not take the name of one that is."""
        if self._domain.lane == "protected":
            return name
        branch = self._basis.plan.facts.get("SHIPLAP_BRANCH", "") or f"run-{self._work.claim.run.number}"
        return Reference.parse(f"{name.name}:{behind_branch(branch, name.tag or '')}")

    def _facts(self, registry: str, own: str) -> TagFacts:
        run, facts = self._work.claim.run, self._basis.plan.facts
        return TagFacts(
            run.project,
            run.number,
            registry,
            facts.get("SHIPLAP_BRANCH", ""),
            facts.get("SHIPLAP_TAG", ""),
            facts.get("SHIPLAP_COMMIT", ""),
            own,
        )
