"""What came of jobs, by key: kept among the records of the build cache, answered from there, and explained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from builder.copying.listings import Listing, pack, unpack
from ci.ends import JobOutcome, Published
from ci.reports.packing import packed, unpacked
from ci.reuse.keys import JobKey
from core.digests import DiffID
from core.events import MissReason
from core.trust import COMMON, Domain, Privacy, Scope, scoped
from images.errors import MissingBlobError
from images.records import CacheRecord
from images.store import Store

_FILES: Final = "files of jobs"  # the memo's kind


class _KeptOutput(msgspec.Struct, frozen=True, array_like=True):
    """An output for people, as ``ci.ends.Published`` has it."""

    name: str
    layer: str
    count: int
    size: int
    keep_s: float


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What a record has beside the layer.

    run: the one whose result it is, for people.
    exports: of the job.
    key, members, image, content: as ``JobKey`` has them.
    reports: what the job reported, packed.
    published: its outputs for people.
    """

    run: str
    exports: Mapping[str, str]
    key: str
    members: Mapping[str, str]
    image: tuple[str, str]
    content: str
    reports: bytes = b""
    published: tuple[_KeptOutput, ...] = ()


class Results:
    """The results of one job, for the runs of one domain.

    label: what the job is a version of; the same for the same job of later runs.
    """

    def __init__(self, store: Store, domain: Domain, label: str) -> None:
        self._store = store
        self._domain = domain
        self._label = label

    def find(self, key: JobKey) -> JobOutcome | None:
        """The result that there is under this key and counts for the domain; its layer stays for the store's session.

        A result whose layer is gone is none.
        """
        for scope in self._asked(key.privacy):
            record = self._store.cache.get(scoped(key.key, scope))
            kept = None if record is None else _kept_in(record)
            published = () if kept is None else tuple(map(_published, kept.published))
            if record is not None and kept is not None and self._has(published):
                return JobOutcome(
                    "reused",
                    outputs=record.diff_id,
                    exports=kept.exports,
                    reused_from=kept.run,
                    published=published,
                    reports=unpacked(kept.reports),
                )
        return None

    def keep(self, key: JobKey, outcome: JobOutcome, *, run: str, took_s: float = 0.0) -> None:
        """Keep what came of a job that succeeded, for those for whom it counts. A fork's run keeps nothing.

        run: for people. took_s: seconds. Raises MissingBlobError when its layer is not in the store.
        """
        assert outcome.state == "succeeded", "only successes are kept"
        if self._domain.is_fork:
            return
        reports = packed(outcome.reports)
        published = tuple(
            _KeptOutput(each.name, str(each.layer), each.count, each.size, each.keep_s) for each in outcome.published
        )
        kept = _Kept(run, dict(outcome.exports), key.key, key.members, key.image, key.content, reports, published)
        scope = self._domain.writes(key.privacy)
        # The files come first: a record without them would explain less than it could. Those of the last success alone
        # are kept: each run of a job that sees 20,000 files would leave a megabyte.
        files = key.content.encode() + b"\n" + pack([Listing((b"",), key.manifest)])
        self._store.cache.memo_put(_FILES, self._files, files)
        self._store.cache.put(
            CacheRecord(
                scoped(key.key, scope),
                key.op,
                outcome.outputs,
                time.time(),
                took_s,
                self._label,
                msgspec.msgpack.encode(kept, enc_hook=str),  # digests
                scope,
                self._domain.project_scope,
            )
        )

    def changes(self, key: JobKey, *, before: float) -> list[MissReason]:
        """Why no result answered: what differs from the last success of the job in this project; at least one reason.

        before: in seconds since the epoch; what was kept later does not count.
        """
        record = self._store.cache.latest_for(before=before, description=self._label, owner=self._domain.project_scope)
        kept = None if record is None else _kept_in(record)
        if kept is None:
            return [MissReason("never-succeeded")]
        if kept.key == key.key:
            return [MissReason("evicted")]
        from builder.explaining.details import member_changes

        changes = member_changes(kept.members, key.members)
        if kept.image[1] != key.image[1]:
            changes.append(MissReason("base", key.image[0], kept.image[1], key.image[1]))
        if kept.content != key.content:
            changes += self._changed_files(kept.content, key.manifest)
        return changes or [MissReason("version")]

    def _changed_files(self, content: str, manifest: bytes) -> list[MissReason]:
        of, _, files = (self._store.cache.memo_get(_FILES, self._files) or b"").partition(b"\n")
        if of != content.encode():  # another run has ended at the same time
            return [MissReason("changed", "what it sees")]
        from builder.explaining.files import file_changes

        return file_changes(unpack(files), [Listing((b"",), manifest)])

    def _has(self, published: tuple[Published, ...]) -> bool:
        """Whether the outputs for people are still there. They stay for the store's session then."""
        try:
            for each in published:
                self._store.layers.path(each.layer)
        except MissingBlobError:
            return False
        return True

    def _asked(self, privacy: Privacy) -> tuple[Scope, ...]:
        """The scopes in which a result may be. What was green in a branch is green at once when it is merged."""
        if self._domain.is_fork:
            return (COMMON,) if privacy is Privacy.COMMON else ()
        of_lane = (self._domain.protected_scope,) if privacy is Privacy.DOMAIN else ()
        return tuple(dict.fromkeys((self._domain.writes(privacy), *of_lane, self._domain.project_scope, COMMON)))

    @property
    def _files(self) -> str:
        """The key of the memo: names of files are the project's."""
        return scoped(self._label, self._domain.project_scope)


def _published(kept: _KeptOutput) -> Published:
    return Published(kept.name, DiffID.parse(kept.layer), kept.count, kept.size, kept.keep_s)


def _kept_in(record: CacheRecord) -> _Kept | None:
    """What a record has of a job; None when another version wrote it."""
    try:
        return msgspec.msgpack.decode(record.detail, type=_Kept)
    except msgspec.MsgspecError:
        return None
