"""Trees that we made ourselves, for one build: nobody writes to them, so that no stat data has to prove anything."""

from __future__ import annotations

from collections.abc import Mapping

from builder.contexts.filetree import PathFilter, SelectedFile, SourceTree
from builder.errors import ContextDamagedError, ContextError


class PrivateTree(SourceTree):
    """A tree that this process made, and that nobody writes to: what was read of it once is what it holds."""

    def is_proven(self, entry: SelectedFile, looked_at_ns: int) -> bool:
        del entry, looked_at_ns
        return True

    def check_unchanged(self, entry: SelectedFile, fd: int) -> None:
        pass


class KnownTree(PrivateTree):
    """A private tree that was made of files whose digests were known: nothing of it is read to find them out.

    contents: of each regular file. Its names may be hard links to blobs that other trees share, so that neither its
    ctime nor its inode says anything, and it has no names of one file. Its files have no extended attributes.
    """

    def __init__(
        self, fd: int, label: str, *, contents: Mapping[str, bytes], ignored: PathFilter | None = None
    ) -> None:
        super().__init__(fd, label, ignored=ignored)
        self.contents = self._digests = contents

    def is_proven(self, entry: SelectedFile, looked_at_ns: int) -> bool:
        """False: what is written into a layer was never read before, and a disk may have damaged it."""
        del entry, looked_at_ns
        return False

    def is_another(self, entry: SelectedFile) -> ContextError:
        return ContextDamagedError(
            f"{entry.tree_path} in {self.label} is damaged: it is not what its digest says",
            digest=self._digests.get(entry.tree_path, b"").hex(),
        )
