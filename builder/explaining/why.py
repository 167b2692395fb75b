"""Explains why each step of a build ran, after it ran. Cheap while the cache answers; never delays a step."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from builder.copying.listings import Listing, pack, unpack
from builder.copying.owners import UnknownName
from builder.explaining.details import (
    StepDetail,
    base_of,
    facts_of,
    instruction_text,
    may_name_owner,
    members_of,
    operation_changes,
    stage_label,
)
from builder.explaining.lineage import Lineage, matching
from builder.graph.vertices import BaseOp, CopyOp, Plan, RunOp, Vertex, WorkdirOp
from core.events import MissReason
from core.trust import COMMON, Domain, Scope, scoped

if TYPE_CHECKING:
    from images.store import Store

_FILES: Final = "copied-files"


class StepAnswer(msgspec.Struct, frozen=True):
    """How a step was answered. What is not known (yet) is empty.

    ran: the cache had no answer.
    forced: the cache was not asked.
    below, content: what the step's key is made of.
    keys: all keys of the step.
    layer: its diff ID.
    record: what the cache's record says of the step.
    listings: the files that the step copied.
    unknown_names: names of owners that root replaces.
    facts: what takes part, other than the operation; see ``builder.cacheio.classes``.
    asks: the scopes in which a result of the step may be found, that of its own results first.
    """

    op: str
    ran: bool
    forced: bool = False
    below: str = ""
    content: str = ""
    keys: tuple[str, ...] = ()
    layer: str = ""
    record: bytes = b""
    listings: tuple[Listing, ...] = ()
    unknown_names: tuple[UnknownName, ...] = ()
    facts: tuple[tuple[str, ...], ...] = ()
    asks: tuple[Scope, ...] = ()


class Explainer:
    """Explains the steps of one build. Any number of threads may use it.

    Its answers are the project's: no reason shows what others build or which files they copy.

    identity: see ``Lineage``.
    domain: for whom the build is.
    """

    def __init__(self, store: Store, identity: str, plan: Plan, domain: Domain) -> None:
        self._store = store
        self._domain = domain
        self._owner = domain.project_scope
        self._files_scope = COMMON if domain.is_host else self._owner  # the host's names are as they have always been
        self._lineage = Lineage(store, identity)
        self._plan = plan
        self._before: dict[Vertex, StepDetail | None] | None = None
        self._outcomes: dict[Vertex, StepAnswer] = {}
        self._lock = threading.Lock()
        self._began_at = time.time()

    def note(self, vertex: Vertex, outcome: StepAnswer) -> None:
        """Remember how a step was answered, for those after it and for the next build."""
        self._outcomes[vertex] = outcome

    def changes(self, vertex: Vertex, outcome: StepAnswer) -> tuple[MissReason, ...]:
        """Why a step ran. Called once per step, after ``note`` was called for the steps that it builds on."""
        if outcome.forced:
            return (MissReason("no-cache"),)
        old = self._previous(vertex, outcome.op)
        if old is None:
            return (MissReason("never-built"),)
        new = self._detail(vertex, outcome)
        if old.op != new.op:
            changes = operation_changes(old, new)
            if old.text == new.text and changes:
                changes += self._content_changes(vertex, old, outcome)
            return tuple(changes) or (MissReason("never-built"),)
        if not outcome.keys or not set(old.keys).isdisjoint(outcome.keys):
            return (self._absence(old, outcome),)  # without keys: it may use no record of the operation
        changes = self._content_changes(vertex, old, outcome)
        if old.below != outcome.below:
            changes.append(self._below_change(vertex, old))
        return tuple(changes) or (self._absence(old, outcome),)

    def unknown_names(self, outcome: StepAnswer) -> tuple[UnknownName, ...]:
        """The names of owners that the image did not have when the step ran, in this build or before."""
        kept = None if outcome.ran else _detail_of(outcome.record)
        return outcome.unknown_names if kept is None else kept.unknown_names

    def finish(self) -> None:
        """Write down the steps of this build, unless they are those of the last one."""
        stages: dict[str, list[Vertex]] = {}
        for vertex in self._plan.vertices():
            if vertex in self._outcomes:
                stages.setdefault(stage_label(vertex), []).append(vertex)
        keys = {stage: [self._outcomes[it].keys[0] for it in vertices] for stage, vertices in stages.items()}
        if self._lineage.is_current(keys):
            return
        self._lineage.write(
            {stage: [self._detail(it, self._outcomes[it]) for it in vertices] for stage, vertices in stages.items()},
            keys,
        )

    def detail(self, vertex: Vertex, outcome: StepAnswer) -> bytes:
        """The step's details for its cache record. Builds without an earlier version of themselves read them."""
        return msgspec.msgpack.encode(self._detail(vertex, outcome), enc_hook=str)  # digests

    def remember_files(self, outcome: StepAnswer) -> None:
        """Keep the listings of copied files, under the digest of these files."""
        if outcome.listings:
            self._store.cache.memo_put(_FILES, scoped(outcome.content, self._files_scope), pack(outcome.listings))

    # What was

    def _previous(self, vertex: Vertex, op: str) -> StepDetail | None:
        with self._lock:
            if self._before is None:
                self._before = self._match()
        if any(self._before.values()):
            return self._before.get(vertex)
        # The first build in this directory. A checkout elsewhere may have built the same step, on the same base.
        # Records of this build do not count: a step's record may be there before its reason is asked.
        latest = functools.partial(self._store.cache.latest_for, before=self._began_at, owner=self._owner)
        for record in (latest(op=op), latest(description=vertex.step.name)):
            if record is None or record.description != vertex.step.name:
                continue
            kept = _detail_of(record.detail)
            if kept is not None and kept.base[0] == base_of(vertex)[0]:
                return kept
        return None

    def _match(self) -> dict[Vertex, StepDetail | None]:
        stages = self._lineage.read()
        matched: dict[Vertex, StepDetail | None] = {}
        for chain in self._plan.chains:
            steps = [vertex for vertex in chain.vertices if isinstance(vertex.op, (RunOp, CopyOp, WorkdirOp))]
            if steps:
                old = stages.get(stage_label(steps[0]), [])
                matched.update(zip(steps, matching(old, [instruction_text(it) for it in steps]), strict=True))
        return matched

    # What is

    def _detail(self, vertex: Vertex, outcome: StepAnswer) -> StepDetail:
        content = outcome.content
        if not content and (kept := _detail_of(outcome.record)) is not None:
            content = kept.content
        return StepDetail(
            outcome.op,
            instruction_text(vertex),
            members_of(vertex.op) | facts_of(outcome.facts),
            outcome.below,
            base_of(vertex),
            content,
            outcome.keys,
            outcome.layer,
            self.unknown_names(outcome) if may_name_owner(vertex.op) else (),
        )

    # What differs

    def _absence(self, old: StepDetail, outcome: StepAnswer) -> MissReason:
        """Why nothing has answered a step that is what it was: its result is gone, or counts for others."""
        keys = set(old.keys).intersection(outcome.keys) if outcome.keys else old.keys
        for scope in dict.fromkeys((COMMON, *self._domain.reads())):
            # (Only looked for: what explains a step gives the build no right to a layer, and keeps none alive.)
            if scope not in outcome.asks and self._store.cache.results(scoped(key, scope) for key in keys):
                return MissReason("audience", "", self._whom(scope), self._whom(outcome.asks[0]))
        return MissReason("evicted")

    def _whom(self, scope: Scope) -> str:
        """For whom what is kept in a scope counts, in words."""
        if scope == COMMON:
            return "everybody"
        if self._domain.is_host:
            return "this host"
        return "the project" if scope == self._owner else "the lane of the run"

    def _content_changes(self, vertex: Vertex, old: StepDetail, outcome: StepAnswer) -> list[MissReason]:
        if not outcome.content or not old.content or old.content == outcome.content:
            return []
        if not outcome.listings:
            return [MissReason("source", source.step.name) for source in vertex.sources]
        kept = self._store.cache.memo_get(_FILES, scoped(old.content, self._files_scope))
        if kept is None:
            return [MissReason("changed", "its files")]
        from builder.explaining.files import file_changes

        return file_changes(unpack(kept), outcome.listings)

    def _below_change(self, vertex: Vertex, old: StepDetail) -> MissReason:
        """The nearest step below whose layer differs from the last time, else the base image."""
        below = vertex.input
        while below is not None and not isinstance(below.op, BaseOp):
            outcome, before = self._outcomes.get(below), (self._before or {}).get(below)
            if outcome is not None and (before is None or before.layer != outcome.layer):
                return MissReason("parent", below.step.name)
            below = below.input
        name, image = base_of(vertex)
        return MissReason("base", name or "scratch", old.base[1] or None, image or None)


def _detail_of(record: bytes) -> StepDetail | None:
    """The details in a cache record; None when it comes from elsewhere or from another version."""
    try:
        return msgspec.msgpack.decode(record, type=StepDetail) if record else None
    except msgspec.MsgspecError:
        return None
