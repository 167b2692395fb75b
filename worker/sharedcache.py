"""The build cache that workers share through the registry: which parts of it a run reads, and which it writes.

A project's caches are in ``REGISTRY/cache/PROJECT``, a tag for each thing that is built of it and each branch. A run
reads its branch's cache, and where that has no answer the one that the last run of any branch left; it writes both, a
pull request only its own. What comes from strangers neither reads nor writes.
"""

from __future__ import annotations

import hashlib
import json

from builder.cacheio.spec import CacheFrom, CacheTo
from core.references import Reference
from pipelines.model import Run
from pipelines.tags import TagFacts, fit_for_tag

_LATEST = "latest"
_HASH_DIGITS = 12


def shared_caches(run: Run, facts: TagFacts, names: tuple[Reference, ...]) -> tuple[CacheFrom, ...]:
    """Where the run looks, the best place first; empty without a registry. names: of the image."""
    if not facts.registry:
        return ()
    repository = f"{facts.registry}/cache/{facts.project}"
    what = _what(run, names)
    tags = dict.fromkeys(f"{line}-{what}" for line in (_line(run, facts), _LATEST))
    return tuple(CacheFrom("registry", f"{repository}:{tag}", optional=True) for tag in tags)


def shared_targets(run: Run, read: tuple[CacheFrom, ...]) -> tuple[CacheTo, ...]:
    """Which of the caches that the run reads it writes, too. A cache that cannot be written fails no run."""
    kept = read[:1] if run.trigger.kind == "pull_request" else read
    return tuple(CacheTo("registry", place.location, mode="max", ignore_error=True) for place in kept)


def _line(run: Run, facts: TagFacts) -> str:
    """What the run continues: a branch, or a pull request."""
    if run.trigger.kind == "pull_request":
        return f"pull-{run.trigger.pull_request}"
    return fit_for_tag(facts.branch) or _LATEST


def _what(run: Run, names: tuple[Reference, ...]) -> str:
    """What is built, in a few digits: a project may build several things from one repository."""
    options = run.options
    images = sorted({name.familiar_name for name in names})
    built = json.dumps([options.file, options.target, options.platform, images])
    return hashlib.sha256(built.encode()).hexdigest()[:_HASH_DIGITS]
