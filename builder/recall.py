"""Recall: remembers the outcome of a build, and answers the same build without planning it while nothing has changed.

Most builds of a day change nothing. Most of their time goes into loading the code that finds this out: grammar,
frontend, solver, exporter. So the last build of each kind leaves an *outcome*: what it was made of, and the image that
it made. The outcome holds as long as a build would look at the same things and find them the same. When one of them
differs, or cannot be found out, there is no answer, and the build takes its usual way (decision 16). The things are:

- the code, the Dockerfile, the ignore file and every option that a build depends on are the same bytes;
- each name in FROM and ``--from`` still means the same image;
- each file that COPY takes from the context has the same content, which ``builder.copying.selecting`` and
  ``builder.copying.digesting`` find out as in every build;
- the cache has the same records under the same keys. A step's key is made of its operation, what is below it and what
  it reads. If all of the above is the same, so is the first step's key. The record then gives the same layer, so the
  second step's key is the same, and so on to the image;
- that image is in the store.

Builds with fetched URLs, several platforms, attestations or outputs other than the store take the usual way.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import builder
import core
import dockerfile_grammar
import images
from builder.codestamp import code_stamp
from builder.explaining.lineage import Lineage
from builder.graph.copyspec import CopySpec
from builder.request.arguments import EPOCH_ARG, INLINE_CACHE_ARG, MULTI_PLATFORM_ARG
from builder.request.output import Output
from builder.result import RecalledResult
from core.digests import Digest
from core.errors import ShiplapError
from core.events import BuildPlanned, Monitor, StepFinished, StepInfo, StepStarted, Warned
from images.errors import ImageNotFoundError

if TYPE_CHECKING:
    from builder.copying.contextfiles import ContextFiles
    from builder.request.request import BuildRequest
    from images.records import CacheRecord
    from images.store import Store

_KIND: Final = "outcome"


class RememberedBuild(NamedTuple):
    """The outcome of a build. All members are JSON values, so only ``json`` is loaded to read it; bytes are Latin-1.

    bases: expanded names of the Dockerfile, and the IDs of the images that they meant.
    copies: what COPY and ADD took from the context, and its digest.
    records: cache key to diff ID and time.
    steps: in the order in which they are shown, each with whether the cache answers it; bases and the export need no
    answer.
    manifest: digest, size in bytes and media type.
    """

    code: str
    dockerfile: str
    ignore: Sequence[str] | None
    lineage: str
    bases: Sequence[tuple[str, str]]
    copies: Sequence[tuple[Mapping[str, Any], str]]
    records: Mapping[str, tuple[str | None, float]]
    steps: Sequence[tuple[int, str, str, int, bool]]
    warnings: Sequence[tuple[str, int, str]]
    image: str
    manifest: tuple[str, int, str]


def recall(request: BuildRequest, store: Store, monitor: Monitor, files: ContextFiles) -> RecalledResult | None:
    """Answer ``request`` with the last build's outcome, and show it as a build does; None when it does not hold.

    files: keeps what is read of the context, for the build that follows an answer of None.
    """
    if request.no_cache or request.no_cache_stages or request.pull or not may_be_recalled(request):
        return None
    outcome = _read(request, store)
    if outcome is None or not _is_current(outcome, request, store):
        return None
    try:
        for members, content in outcome.copies:
            if files.content(_spec(members)) != content:
                return None
    except ShiplapError:  # the build reports it, with its place
        return None
    files.save()
    names = request.outputs[0].names
    try:
        for name in names:
            if not store.lookup.is_named(name, outcome.image):
                store.images.tag(name, Digest(outcome.image))
    except ImageNotFoundError:  # removed a moment ago
        return None
    digest, size, media_type = outcome.manifest
    return RecalledResult(
        id=os.urandom(13).hex(),
        config_digest=Digest(outcome.image),
        manifest_digest=Digest(digest),
        manifest_size=size,
        media_type=media_type,
        platform=request.platform,
        names=names,
        cached=_tell(outcome, monitor),
    )


def may_be_recalled(request: BuildRequest) -> bool:
    """Whether an outcome can answer everything that this request asks for."""
    return (
        request.domain.is_host  # a run asks registries what names mean
        and bool(request.context.key)
        and all(output == Output("image", names=output.names) for output in request.outputs)
        and len(request.outputs) == 1
        and len(request.platforms) <= 1
        and request.source_date_epoch is None
        and request.build_args.keys().isdisjoint((EPOCH_ARG, MULTI_PLATFORM_ARG, INLINE_CACHE_ARG))
        and not (request.attest or request.named_contexts or request.cache_from or request.cache_to)
    )


def remember(
    request: BuildRequest,
    store: Store,
    *,
    bases: Sequence[tuple[str, str]],
    copies: Sequence[tuple[CopySpec, str]],
    records: Mapping[str, CacheRecord],
    steps: Sequence[tuple[StepInfo, bool]],
    warnings: Sequence[Warned],
    image: Digest,
    manifest: tuple[Digest, int, str],
) -> None:
    """Keep the outcome of a build for which ``may_be_recalled`` holds, after its lineage was written."""
    if not _mean_the_same(bases, store):
        return
    outcome = RememberedBuild(
        code=_code(),
        dockerfile=_text(request.dockerfile),
        ignore=_ignored(request),
        lineage=_lineage(request, store),
        bases=bases,
        copies=[(_members(spec), content) for spec, content in dict(copies).items()],
        records={key: (record.diff_id, record.created_at) for key, record in records.items()},
        steps=[(step.id, step.name, step.stage, step.line, cached) for step, cached in steps],
        warnings=[(it.message, it.line, it.rule) for it in warnings],
        image=image,
        manifest=manifest,
    )
    data = json.dumps(outcome, separators=(",", ":"), default=_text).encode()
    key = _key(request)
    if store.cache.memo_get(_KIND, key) != data:
        store.cache.memo_put(_KIND, key, data)


def _read(request: BuildRequest, store: Store) -> RememberedBuild | None:
    data = store.cache.memo_get(_KIND, _key(request))
    if data is None:
        return None
    try:
        return RememberedBuild(*json.loads(data))
    except (ValueError, TypeError):  # of another version
        return None


def _is_current(outcome: RememberedBuild, request: BuildRequest, store: Store) -> bool:
    """Whether everything but the context's files is the same as before. Cheap questions come first."""
    seen = (_text(request.dockerfile), _ignored(request), _code())
    if seen != (outcome.dockerfile, outcome.ignore, outcome.code):
        return False
    if store.lookup.manifest_of(outcome.image) != outcome.manifest[0]:
        return False
    # After a build of something else in between, the next miss would be compared with that build.
    if _lineage(request, store) != outcome.lineage:
        return False
    known = store.cache.results(outcome.records)
    if any(known.get(key) != tuple(result) for key, result in outcome.records.items()):
        return False
    return _mean_the_same(outcome.bases, store)


def _mean_the_same(bases: Sequence[tuple[str, str]], store: Store) -> bool:
    """Whether each name still means its image itself, rather than an index from which the platform would choose."""
    try:
        targets = [store.lookup.of_base(name) for name, _ in bases]
    except ShiplapError:
        return False
    return all(
        target.index_digest is None and target.image_id == image
        for target, (_, image) in zip(targets, bases, strict=True)
    )


def _tell(outcome: RememberedBuild, monitor: Monitor) -> int:
    """Emit the events of a fully cached build, in its order. Returns how many steps the cache answered."""
    steps = [(StepInfo(number, name, stage, line), cached) for number, name, stage, line, cached in outcome.steps]
    for message, line, rule in outcome.warnings:
        monitor.emit(Warned(message, line, rule))
    monitor.emit(BuildPlanned(tuple(sorted(step for step, _ in steps))))
    for step, cached in steps:
        monitor.emit(StepStarted(step.id, time.time()))
        monitor.emit(StepFinished(step.id, "cached" if cached else "done", 0.0, time.time()))
    return sum(cached for _, cached in steps)


def _key(request: BuildRequest) -> str:
    """The key of a build's outcome: two builds with the same key replace each other."""
    args = ""
    if request.build_args:  # they may be secret: proxies have passwords
        import hashlib

        args = hashlib.sha256(ascii(list(request.build_args.items())).encode()).hexdigest()
    asked = (
        request.target,
        list(request.labels.items()),
        list(request.default_labels.items()),
        [str(platform) for platform in (*request.platforms, request.platform)],
        request.network,
        request.add_hosts,
        sorted(request.allow),
        request.limits,
        request.lineage,
        request.domain.scope,
        request.given,
    )
    return ascii((request.context.key, request.dockerfile_name, args, asked))


def _ignored(request: BuildRequest) -> Sequence[str] | None:
    return None if request.context.ignore is None else list(request.context.ignore.texts)


def _code() -> str:
    return _text(code_stamp(core, images, dockerfile_grammar, builder))


def _lineage(request: BuildRequest, store: Store) -> str:
    return _text(Lineage(store, request.lineage_name).fingerprint() or b"")


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _members(spec: CopySpec) -> dict[str, Any]:
    return {"kind": type(spec).__name__, **spec._asdict()}


def _spec(members: Mapping[str, Any]) -> CopySpec:
    """The reverse of ``_members``: JSON's lists become tuples, and the bodies of heredocs bytes."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in members.items()
    }
    del values["kind"]
    values["heredocs"] = tuple((name, body.encode("latin-1")) for name, body in members["heredocs"])
    if members["kind"] == CopySpec.__name__:
        return CopySpec(**values)
    from builder.graph.mounts import MountSpec

    return MountSpec(**values)
