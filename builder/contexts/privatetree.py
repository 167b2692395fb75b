"""Trees that this process made for one build. Nobody writes to them, so stat data need not prove anything."""

from __future__ import annotations

from collections.abc import Mapping

from builder.contexts.filetree import PathFilter, SelectedFile, SourceTree
from builder.errors import ContextDamagedError, ContextError


class PrivateTree(SourceTree):
    """A tree that this process made and nobody writes to: content that was read once stays the same."""

    def is_proven(self, entry: SelectedFile, looked_at_ns: int) -> bool:
        del entry, looked_at_ns
        return True

    def check_unchanged(self, entry: SelectedFile, fd: int) -> None:
        pass


class KnownTree(PrivateTree):
    """A private tree of files whose digests are known, so no file is read to hash it.

    A file may be a hard link to a blob that other trees share. So its ctime and its inode say nothing, and no two names
    count as one file. The files have no extended attributes.

    contents: the sha256 of each regular file, by path.
    """

    def __init__(
        self, fd: int, label: str, *, contents: Mapping[str, bytes], ignored: PathFilter | None = None
    ) -> None:
        super().__init__(fd, label, ignored=ignored)
        self.contents = self._digests = contents

    def is_proven(self, entry: SelectedFile, looked_at_ns: int) -> bool:
        """False: files are first read when they are written into a layer, and a disk may have damaged them."""
        del entry, looked_at_ns
        return False

    def is_another(self, entry: SelectedFile) -> ContextError:
        return ContextDamagedError(
            f"{entry.tree_path} in {self.label} is damaged: it is not what its digest says",
            digest=self._digests.get(entry.tree_path, b"").hex(),
        )
