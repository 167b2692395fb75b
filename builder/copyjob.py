"""One COPY or ADD on its way: the files that it takes are chosen at first need, hashed once, and written once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from builder.copyspec import CopySpec

if TYPE_CHECKING:
    from builder.filetree import SourceTree
    from builder.selecting import Selection
    from builder.statcache import StatCache
    from images.tarwriter import TarWriter


class SharedStatCache:
    """The digests of a context's files, for all steps of a build; loaded when a step needs it."""

    def __init__(self, load: Callable[[], bytes | None]) -> None:
        self._load = load
        self._cache: StatCache | None = None
        self.lock = threading.Lock()

    def get(self) -> StatCache:
        """The cache; the caller holds ``lock``."""
        if self._cache is None:
            from builder.statcache import StatCache

            self._cache = StatCache.load(self._load())
        return self._cache

    def dump(self) -> bytes | None:
        """What to remember, or None when nothing has changed."""
        with self.lock:
            return self._cache.dump() if self._cache is not None else None


class CopyJob:
    """open_tree: opens what is copied from; what it puts on the stack is closed with the job.

    shared: digests by stat data; None for a source that is not the context.
    """

    def __init__(
        self,
        spec: CopySpec,
        open_tree: Callable[[contextlib.ExitStack], SourceTree],
        shared: SharedStatCache | None,
    ) -> None:
        self._spec = spec
        self._open_tree = open_tree
        self._shared = shared
        self._stack = contextlib.ExitStack()
        self._selection: Selection | None = None

    def selection(self) -> Selection:
        """The files, by name and stat data. Raises CopyError when one that is named is missing."""
        if self._selection is None:
            from builder.selecting import select

            self._selection = select(self._open_tree(self._stack), self._spec)
        return self._selection

    def digest(self) -> str:
        """Identify what the files hold; after ``write`` this reads nothing again."""
        from builder.digesting import content_digest

        selection = self.selection()
        if self._shared is None:
            return content_digest(selection)
        with self._shared.lock:
            return content_digest(selection, self._shared.get())

    def write(self, below: int | None, writer: TarWriter, *, created_at: int, timestamp: int | None) -> None:
        """Write the layer. below: the root of the filesystem that is copied into; None for an empty one."""
        from builder.copying import write_layer

        write_layer(self.selection(), below, writer, created_at=created_at, timestamp=timestamp)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
