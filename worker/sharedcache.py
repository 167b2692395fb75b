"""The build cache that workers share through the registry: which parts of it a run reads, and which it writes.

A project's caches are in ``REGISTRY/cache/PROJECT``. Each pair of a thing that is built of the project and a domain of
the project has a tag there. A run reads its own domain's cache, and then the protected lane's; it writes its own. So
nothing that a branch wrote ever gets into what the default branch ships. Strangers' runs neither read nor write.

A run writes when it has ended: see ``worker.exporter``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from builder.request.cache import CacheFrom
from core.references import Reference
from core.trust import Domain, protected
from pipelines.errors import InvalidRequestError
from pipelines.model import Run
from pipelines.owning.ownership import CACHE, OUTPUTS
from pipelines.projects.tags import TagFacts, fit_for_tag

_HASH_DIGITS = 12
_LANE_DIGITS = 32  # others choose branches' names, and must not find two with the same tag
_NAME_LENGTH = 60  # a tag has up to 128


def shared_caches(run: Run, domain: Domain, facts: TagFacts, names: tuple[Reference, ...]) -> tuple[CacheFrom, ...]:
    """The caches to read, the run's own domain's first; none without a registry, and none for forks.

    names: of the image.
    """
    return _caches(domain, facts.registry, _what(run, names))


def shared_caches_of_job(
    domain: Domain, registry: str, what: Sequence[str], names: tuple[Reference, ...]
) -> tuple[CacheFrom, ...]:
    """``shared_caches`` for what a pipeline's job builds. what: tells the builds of a project's pipelines apart."""
    return _caches(domain, registry, _short(["of a job", *what, _plain(names)]))


def _caches(domain: Domain, registry: str, what: str) -> tuple[CacheFrom, ...]:
    if not registry or domain.is_fork:
        return ()
    repository = f"{registry}/{CACHE}/{domain.project}"
    tags = dict.fromkeys(f"{_lane(each)}-{what}" for each in (domain, protected(domain.project)))
    return tuple(CacheFrom("registry", f"{repository}:{tag}", optional=True) for tag in tags)


def shared_target(read: tuple[CacheFrom, ...]) -> str | None:
    """The cache that the run also writes: the first one that it reads, its own domain's. None where it reads none."""
    return read[0].location if read else None


def refuse_cache_names(names: Iterable[Reference], registry: str) -> None:
    """Raise InvalidRequestError for an image name among the caches, or among what jobs output.

    Whoever writes there decides what others build, or get from jobs before them.
    """
    for name in names:
        if registry and name.familiar.startswith(f"{registry}/{OUTPUTS}/"):
            raise InvalidRequestError(
                f"{name.familiar}: below {registry}/{OUTPUTS}/ is what jobs of runs output", hint="choose another name"
            )
        if registry and name.familiar.startswith(f"{registry}/{CACHE}/"):
            raise InvalidRequestError(
                f"{name.familiar}: below {registry}/{CACHE}/ is what workers share", hint="choose another name"
            )


def _lane(domain: Domain) -> str:
    """The domain as a part of a tag, unique to the domain even where a tag cannot have all letters of its name."""
    if domain == protected(domain.project):
        return domain.lane
    digest = hashlib.sha256(domain.label.encode("utf-8", "surrogateescape")).hexdigest()[:_LANE_DIGITS]
    return f"{domain.lane}-{fit_for_tag(domain.name)[:_NAME_LENGTH]}-{digest}"


def _what(run: Run, names: tuple[Reference, ...]) -> str:
    """What is built, as a short hash: a project may build several things from one repository."""
    options = run.options
    return _short([options.file, options.target, options.platform, _plain(names)])


def _plain(names: tuple[Reference, ...]) -> list[str]:
    return sorted({name.familiar_name for name in names})


def _short(built: list[object]) -> str:
    return hashlib.sha256(json.dumps(built).encode()).hexdigest()[:_HASH_DIGITS]
