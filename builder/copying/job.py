"""The job of one COPY or ADD: it chooses its files when they are first needed, hashes them once, writes them once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.graph.copyspec import CopySpec
from core.closing import Closing

if TYPE_CHECKING:
    from builder.contexts.filetree import SourceTree
    from builder.copying.earlierlayer import CopiedLayer, EarlierLayer
    from builder.copying.listings import Listing
    from builder.copying.owners import UnknownName
    from builder.copying.planner import Written
    from builder.copying.selecting import Selection
    from builder.copying.statcache import StatCache
    from core.digests import DiffID
    from images.tarwriter import TarWriter


class SharedStatCache:
    """The stat cache of a context, shared by all steps of a build. Loaded when a step first needs it."""

    def __init__(self, load: Callable[[], bytes | None]) -> None:
        self._load = load
        self._cache: StatCache | None = None
        self.lock = threading.Lock()

    def get(self) -> StatCache:
        """The cache; the caller holds ``lock``."""
        if self._cache is None:
            from builder.copying.statcache import StatCache

            self._cache = StatCache.load(self._load())
        return self._cache

    def dump(self) -> bytes | None:
        """What to remember, or None when nothing has changed."""
        with self.lock:
            return self._cache.dump() if self._cache is not None else None


class CopyFrom(NamedTuple):
    """What is copied from one tree.

    open_tree: opens the tree; whatever it puts on the stack is closed with the job.
    shared: digests by stat data; None for a tree that is no context, or a context whose files' digests are known.
    """

    spec: CopySpec
    open_tree: Callable[[contextlib.ExitStack], SourceTree]
    shared: SharedStatCache | None = None


class CopyJob(Closing):
    """One COPY or ADD, ready to be done: what is copied, from where, to where.

    parts: at least one, in the order of the instruction.
    note: called with the digest once it is known.
    last: the layer that the same copy made before, where that can be known.
    """

    def __init__(
        self, *parts: CopyFrom, note: Callable[[str], None] | None = None, last: CopiedLayer | None = None
    ) -> None:
        self._parts = parts
        self._note = note
        self._last = last
        self._stack = contextlib.ExitStack()
        self._selections: list[Selection] = []
        self._manifests: list[bytes] = []
        self._digest = ""

    def selections(self) -> list[Selection]:
        """The files of each part, with names and stat data. Raises CopyError when a named file is missing."""
        if not self._selections:
            from builder.copying.selecting import select

            self._selections = [select(part.open_tree(self._stack), part.spec) for part in self._parts]
            for selection in self._selections:
                selection.tree.expect(selection.entries())
        return self._selections

    def digest(self) -> str:
        """Identify the files' content. Reads every file once; after ``write`` nothing: all hashes are known."""
        if not self._digest:
            from core.digests import Digest

            self._manifests = list(map(self._manifest, self._parts, self.selections()))
            self._digest = " ".join(map(Digest.of, self._manifests))
            if self._note is not None:
                self._note(self._digest)
        return self._digest

    def listings(self) -> list[Listing]:
        """The files that ``digest`` has seen, one by one."""
        from builder.copying.listings import Listing

        return list(map(Listing.of, self._selections, self._manifests))

    def _manifest(self, part: CopyFrom, selection: Selection) -> bytes:
        from builder.copying.digesting import manifest

        if part.shared is None:
            return manifest(selection)
        with part.shared.lock:
            return manifest(selection, part.shared.get())

    def same_layer(
        self, below: int | None, *, created_at: int, timestamp: int | None
    ) -> tuple[DiffID, tuple[UnknownName, ...]] | None:
        """A stage's layer that ``write`` would write again, byte for byte, where most of it is copied; see ``write``.

        Contents are the same by their place in it, so they are not read. Also returns ``Written.unknown_names``.
        """
        first, *others = self.selections()
        layers = [layer for selection in self._selections if (layer := selection.tree.main_layer()) is not None]
        if len(layers) != 1:
            return None
        from builder.copying.planner import write_layer
        from images.matching import AnotherTarError, TarMatcher

        matcher = TarMatcher(layers[0].fd)
        try:
            written = write_layer(first, below, matcher, created_at=created_at, timestamp=timestamp, also=others)
            matcher.close()
        except AnotherTarError:
            return None
        return layers[0].diff_id, written.unknown_names

    def write(self, below: int | None, writer: TarWriter, *, created_at: int, timestamp: int | None) -> Written:
        """Write the layer. below: the root of the filesystem that is copied into; None for an empty one.

        Raises DamagedBlobError when contents were taken from an earlier layer that turned out to be damaged. The caller
        then discards what was written. The next call reads every file.
        """
        from builder.copying.planner import write_layer

        first, *others = self.selections()
        with self._earlier() as earlier:
            written = write_layer(
                first, below, writer, created_at=created_at, timestamp=timestamp, also=others, earlier=earlier
            )
            writer.take_in()
            return written

    def _earlier(self) -> contextlib.AbstractContextManager[EarlierLayer | None]:
        if self._last is None or not self._digest:  # without hashes, in a build that asks no cache, every file is read
            return contextlib.nullcontext()
        entries = (entry for selection in self._selections for entry in selection.entries())
        return self._last.opened((entry.sha, entry.size) for entry in entries if entry.sha is not None)

    def written(self, diff_id: DiffID, places: Sequence[tuple[bytes, int]]) -> None:
        """Remember the layer that ``write`` made. places: see ``Written``."""
        if self._last is not None:
            self._last.keep(diff_id, places)

    def close(self) -> None:
        self._stack.close()
