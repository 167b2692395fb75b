"""An attempt between claim and end: it gets the source, builds it, and pushes the image.

Raises errors as they come; ``worker.execution`` decides what becomes of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.contexts.dockerfiles import read_ignore_patterns, require_dockerfile
from builder.errors import BuildCancelledError, ContextDamagedError, stop_when
from builder.remotes.access import SourceAccess
from builder.remotes.gitserver import Found, is_commit
from builder.request.request import BuildRequest, Output
from builder.result import BuildResult
from ci.errors import RepositoryError
from ci.files import pipeline_files
from ci.source.commit import FetchedCommit
from ci.source.facts import pipeline_files_of
from core.cancellation import asking
from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from core.settings import FetchSettings, Settings
from core.trust import Domain
from pipelines.errors import DeniedError, InvalidRequestError, NothingToBuildError, SourceError
from pipelines.model import ContextSource, GitSource, Project, RunResult
from pipelines.owning.policies import RunAsks
from pipelines.projects.defaultnames import Origin, default_tags, named
from pipelines.projects.tags import TagFacts, has_defaults, image_names
from pipelines.runs.domains import domain_of, found, origin, run_asks, unambiguous
from pipelines.runs.logwriter import LogWriter
from pipelines.sealing.vault import POLICY_HINT, Sifted
from pipelines.sources.git import Checkout, fetch_git, repositories
from registry.client import push
from worker.cacheexport import CacheExport
from worker.connecting import bounds_of
from worker.fetching import fetched
from worker.imagelabels import annotations_of, labels_of
from worker.pushstep import PushStep
from worker.sharedcache import refuse_cache_names, shared_caches, shared_target
from worker.work import Work, client_for, in_registry, is_trusted, names_a_registry, privacy_of, served_of, ssh_of

Planned = TypeVar("Planned")

_PUSHING_S: Final = 0.2  # between two looks whether another run has pushed


class Pipelined(NamedTuple):
    """A commit with pipeline files: nothing was built, their jobs are to be planned.

    domain: for whom the run is.
    commit: from the mirror, where that was asked; open for as long as the commit is planned.
    """

    checkout: Checkout
    project: Project
    domain: Domain
    commit: FetchedCommit | None = None


class SourceFiles(NamedTuple):
    """The files to be built, in a directory of this attempt's own.

    contents: the sha256 of each file, where known.
    origin: what the image may be named after.
    pipelined: where there are pipeline files.
    """

    directory: Path
    contents: Mapping[str, bytes] | None = None
    origin: Origin = Origin()
    pipelined: Pipelined | None = None


class Done(NamedTuple):
    """The result of an attempt. result: lacks the duration. export: what remains to be written to the shared cache."""

    result: RunResult
    export: CacheExport | None


def build_and_push(work: Work, writer: LogWriter, plan: Callable[[Pipelined], Planned]) -> Done | Planned:
    """Do everything but the shared cache.

    plan: what is done instead for a commit with pipeline files; what it returns is returned.
    Raises ShiplapErrors of all rooms below.
    """
    with asking(stop_when(work.keeper.stopped.is_set)):
        return _build_and_push(work, writer, plan)


def _build_and_push(work: Work, writer: LogWriter, plan: Callable[[Pipelined], Planned]) -> Done | Planned:
    run, service = work.claim.run, work.resources.service
    options = run.options
    with _source(work) as (tree, facts, domain):
        if tree.pipelined is not None:
            return plan(tree.pipelined)
        work.store.act_for(domain)
        if facts.commit:
            writer.status(f"building commit {facts.commit}" + (f" of branch {facts.branch}" if facts.branch else ""))
        names = _names(work, facts)
        refuse_cache_names(names, facts.registry)
        asks = run_asks(run, domain, facts.branch, facts.tag)
        secrets = _secrets(work, asks)
        share = service.settings.shared_cache and is_trusted(work.claim)
        caches = shared_caches(run, domain, facts, names) if share else ()
        with Context.open_private(str(tree.directory), str(tree.directory), tree.contents) as opened:
            name, dockerfile = require_dockerfile(opened, options.file)
            _tell_of_refused(secrets, dockerfile, writer)
            with opened.with_ignore(read_ignore_patterns(opened, name)) as context:
                result = build(
                    BuildRequest(
                        dockerfile,
                        name,
                        context,
                        outputs=(Output("image", "", names),),
                        target=options.target,
                        build_args=options.build_args,
                        labels=options.labels,
                        default_labels=labels_of(run.source, facts.commit, tree.origin),
                        no_cache=options.no_cache,
                        pull=options.pull,
                        platforms=(Platform.parse(options.platform),) if options.platform else (),
                        network=options.network,
                        add_hosts=options.add_hosts,
                        limits=work.resources.limits,
                        secrets=secrets.values,
                        withheld=secrets.refused,
                        access=SourceAccess(
                            reach=bounds_of(work.resources.settings), bounds=FetchSettings.from_environ()
                        ),
                        cache_from=caches,
                        domain=domain,
                        context_privacy=privacy_of(run.source),
                        own_secrets=frozenset(run.own_secrets),
                        fingerprint=service.secrets.fingerprint,
                        shared_cache_mounts=frozenset(service.settings.shared_cache_mounts),
                    ),
                    BuildTools(
                        work.store,
                        work.resources.launcher(),
                        monitor=writer,
                        cancelled=work.keeper.stopped,
                        connect=lambda: client_for(work, asks, writer.status),
                        cache_max=Settings.from_environ().cache_max,
                    ),
                )
    layers = work.store.layers
    writer.sizes({step: layers.size(layer) for step, layer in result.layers.items() if layers.has(layer)})
    with PushStep(writer, result.new_step) as step:
        pushed = _push(work, asks, names, result, writer, step)
        more = () if options.tags else default_names(work, tree.origin, facts, writer)
        _push(work, asks, more, result, writer, step)
    told = RunResult(
        image=str(result.config_digest),
        manifest=str(pushed or result.manifest_digest),
        names=tuple(name.familiar for name in (*names, *more)),
        executed=result.executed,
        cached=result.cached,
    )
    place = shared_target(caches)
    if place is None:
        return Done(told, None)
    near = tuple(str(name) for name in names if names_a_registry(name))
    return Done(told, CacheExport(work.claim, asks, place, near, result.cache.leaves()))


@contextlib.contextmanager
def _source(work: Work) -> Iterator[tuple[SourceFiles, TagFacts, Domain]]:
    run, service = work.claim.run, work.resources.service
    registry = service.settings.registry
    domain = domain_of(run)
    own = work.keeper.insist(lambda: service.naming.number_tag(run.project, run.number))
    if isinstance(run.source, ContextSource):
        assert domain is not None  # a context's domain is its sender
        directory = work.scratch / "context"
        contents = service.contexts.materialise(run.source.context, directory)
        try:
            yield SourceFiles(directory, contents), TagFacts(run.project, run.number, registry, own=own), domain
        except ContextDamagedError as error:
            service.contexts.drop_damaged(error.digest)
            raise
        return
    url = run.source.url
    work.keeper.insist(lambda: service.borders.check_source(run.project, url))
    with contextlib.ExitStack() as stack:
        known = _pipelined_by_mirror(work, run.source, domain, stack)
        if known is not None:
            facts = TagFacts(run.project, run.number, registry, known.checkout.branch, "", known.checkout.commit, own)
            yield SourceFiles(work.scratch, pipelined=known), facts, known.domain
            return
    checkout = fetch_git(
        run.source,
        work.scratch / "git",
        bounds=bounds_of(work.resources.settings),
        cancelled=work.keeper.stopped,
        ca_file=str(service.settings.git_ca_file) if service.settings.git_ca_file else None,
        ssh=ssh_of(work, run.source),
        local=repositories(service.settings),
        served=served_of(work),
        ask_head=domain is None,
        limits=FetchSettings.from_environ(),
    )
    project = work.keeper.insist(lambda: service.projects.get(run.project))
    if domain is None:
        domain = _settled(work, run.source, checkout, project)
    facts = TagFacts(run.project, run.number, registry, checkout.branch, checkout.tag, checkout.commit, own)
    pipelined = Pipelined(checkout, project, domain) if pipeline_files(checkout.top) else None
    if pipelined is None and run.trigger.pipeline:
        raise InvalidRequestError(f"commit {checkout.commit[:12]} has no pipelines, and so no {run.trigger.pipeline!r}")
    if pipelined is None and run.source.only_pipelines:
        raise NothingToBuildError(f"the push to branch {run.trigger.branch} builds it")
    its = origin(run, domain, project.hook, checkout)
    yield SourceFiles(checkout.context, origin=its, pipelined=pipelined), facts, domain


def _secrets(work: Work, asks: RunAsks) -> Sifted:
    """What the build gets of its project's secrets. What people send gets those alone that they ask for.

    Raises DeniedError for one that was asked for and is not for the run.
    """
    run, domain = work.claim.run, asks.domain
    sifted = work.held.sifted(asks)
    if domain.is_fork:
        return sifted
    for name in run.options.secrets:
        if name in sifted.refused:
            raise DeniedError(f"the secret {name} is not for this run: {sifted.refused[name]}", hint=POLICY_HINT)
    if domain.lane != "by":
        return sifted
    asked = {*run.own_secrets, *run.options.secrets}
    return Sifted({name: value for name, value in sifted.values.items() if name in asked}, sifted.refused)


def _tell_of_refused(secrets: Sifted, dockerfile: bytes, writer: LogWriter) -> None:
    """A mount that is not required is just empty: without a word nobody would know why."""
    for name, why in secrets.refused.items():
        if name.encode() in dockerfile:
            writer.status(f"the secret {name} is not for this run: {why}")


def _pipelined_by_mirror(
    work: Work, source: GitSource, domain: Domain | None, stack: contextlib.ExitStack
) -> Pipelined | None:
    """A pushed commit with pipeline files, by the mirror of its repository. None: the commit has to be fetched to know.

    The mirror is asked where the last commit had pipelines. It gets what is new; a checkout is the whole commit.
    domain: None: the repository's server has to be asked.
    stack: closes the commit.
    """
    run, service = work.claim.run, work.resources.service
    is_whole = is_commit(source.ref) and source.trusted and not (source.base and source.paths)
    if not is_whole or not work.keeper.insist(lambda: service.runs.had_pipelines(run.project)):
        return None
    ref = f"refs/heads/{source.branch}" if source.branch else ""
    with contextlib.ExitStack() as opened:
        try:
            others = [f"refs/heads/{branch}"] if (branch := run.trigger.target or run.trigger.default_branch) else []
            commit = opened.enter_context(
                fetched(work, ref=ref, commit=source.ref, others=others, ask_head=domain is None)
            )
            if not commit.read(lambda objects: pipeline_files_of(objects, commit.commit.tree)):
                return None
        except (RepositoryError, SourceError):
            return None  # whoever fetches it says what is wrong
        stack.push(opened.pop_all())
    project = work.keeper.insist(lambda: service.projects.get(run.project))
    nowhere = work.scratch / "git"
    asked = Found(source.ref, (source.ref,))
    checkout = Checkout(nowhere, source.ref, source.branch, source.tag, asked, commit.fetched.head, nowhere)
    return Pipelined(checkout, project, domain or _settled(work, source, checkout, project), commit)


def _settled(work: Work, source: GitSource, checkout: Checkout, project: Project) -> Domain:
    """For whom the run is, by what the repository's server said of the source. Kept for all attempts."""
    claim, service = work.claim, work.resources.service
    domain = found(claim.run, source, project, checkout)
    exact, commit = unambiguous(source, checkout), checkout.commit
    work.keeper.insist(lambda: service.claims.settle_domain(claim, domain, exact, commit=commit))
    return domain


def _names(work: Work, facts: TagFacts) -> tuple[Reference, ...]:
    """The image's names: the run's own tags, or else those of the project's template.

    A tag without a registry is in the service's. An image that nobody vouches for gets no name, which others could
    trust. Raises DeniedError for another project's names.
    """
    if not is_trusted(work.claim):
        return ()
    service, run = work.resources.service, work.claim.run
    if run.options.tags:
        names = tuple(in_registry(tag, facts.registry) for tag in run.options.tags)
    else:
        project = work.keeper.insist(lambda: service.projects.get(run.project))
        names = image_names(project.tag_template, facts)
    work.keeper.insist(lambda: service.borders.check_names(run.project, names))
    return names


def default_names(work: Work, origin: Origin, facts: TagFacts, writer: LogWriter) -> tuple[Reference, ...]:
    """The image's default names, taken after its push: those that no newer run has.

    Waits for a run that is pushing under one of the names. Raises StaleAttemptError, BuildCancelledError.
    """
    service, run = work.resources.service, work.claim.run
    if not is_trusted(work.claim) or not facts.registry:
        return ()
    if not has_defaults(work.keeper.insist(lambda: service.projects.get(run.project)).tag_template):
        return ()
    wanted = default_tags(origin)
    while True:
        taken = work.keeper.insist(lambda: service.naming.take(work.claim, wanted))
        if taken is not None:
            break
        if work.keeper.stopped.wait(_PUSHING_S):
            raise BuildCancelledError("the build was stopped while another run pushed")
    for tag, other in taken.left:
        writer.status(f"{tag} stays with run {other}")
    return named(facts, taken.tags)


def _push(
    work: Work, asks: RunAsks, names: tuple[Reference, ...], result: BuildResult, writer: LogWriter, step: PushStep
) -> Digest | None:
    """Send the image to each name that has a registry. Nothing is sent once the run is another attempt's.

    Returns the digest of the manifest there, where layers are compressed; None: it was sent nowhere.
    """
    digest = None
    remote = [name for name in names if names_a_registry(name)]
    if not remote or result.image is None:
        return None
    with client_for(work, asks, writer.status) as client:
        for name in remote:
            work.keeper.insist(lambda: work.resources.service.claims.renew(work.claim))
            about = annotations_of(work.claim.run.source, result.image.config)
            pushed = push(
                name, work.store, client=client, image=result.image, annotations=about, monitor=step.transfer()
            )
            digest = pushed.digest
            writer.status(f"pushed {name.familiar}@{digest}")
    return digest
