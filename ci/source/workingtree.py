"""The working tree of a repository on this machine: what is committed, what is not yet, nothing that is ignored.

Nothing is written into the user's repository: its index is copied, and new objects go into a repository of ours that
borrows the user's. Of the configuration only that is heeded which says how files are looked at: no hook, no filter and
no monitor is run. As root, git runs as the owner of the working tree, which is read-only to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from builder.remotes.gitprogram import Bind, GitProgram, borrowing
from builder.remotes.gitroute import route_nowhere
from ci.errors import RepositoryError
from ci.source.discovery import Found, find_repository, read_of, read_with_time, told_by
from ci.source.lfs import Finding, from_repository
from ci.source.mirror import Mirror
from ci.source.objects import FOLDER, Objects, disk_full, is_disk_full
from core.cancellation import check
from core.closing import Closing
from core.files import storage_errors, write_atomically
from core.settings import FetchSettings

_INDEX: Final = "index"
_MAX_INDEX_BYTES: Final = 1 << 30
_SPLIT: Final = b"link"  # the extension of an index whose other part lies beside it
_DEFENCES: Final = (  # against what a configuration may have git start
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "core.splitIndex=false",
    "core.excludesFile=/dev/null", "core.attributesFile=/dev/null", "core.safecrlf=false",
    "advice.addEmbeddedRepo=false",
)  # fmt: skip


class LocalRepository(Closing):
    """A repository on this machine, and ours beside it.

    top: the working tree.
    commit: HEAD's; empty: there is none yet.
    branch: empty where HEAD is none.
    key: for ``layers_of``.
    """

    def __init__(self, root: Path, found: Found, bounds: FetchSettings) -> None:
        self.top, self.commit, self.branch = found.top, found.commit, found.branch
        self._found = found
        self._bounds = bounds
        self._mirror = Mirror.beside(root, f"{found.owner[0]} {found.top}", found.objects, found.owner, bounds)
        self.key = self._mirror.key
        try:
            with self._mirror.locked():
                self._mirror.prepare(found.object_format)
                self._take_over()
        except BaseException:
            self._mirror.close()
            raise

    @classmethod
    def open(cls, root: Path, path: Path, *, bounds: FetchSettings | None = None) -> Self:
        """The repository that a directory is in. root: the store's. Raises RepositoryError."""
        limits = bounds or FetchSettings()
        return cls(root, find_repository(root, path, limits), limits)

    def large_files(self) -> Finding:
        """What the user's git-lfs has of files that are elsewhere, for ``lfs_layer``."""
        return from_repository(self.objects, self._found.common, self._found.owner[0])

    @property
    def objects(self) -> Objects:
        """For reading, while this is open: all of the user's, and whatever ``tree`` made."""
        return self._mirror.objects

    def tree(self) -> str:
        """The tree of the files as they are now. Raises RepositoryError, StorageFullError."""
        try:
            return self._tree()
        except RepositoryError:  # what is ours may be damaged, by a power loss say
            self.renew()
            return self._tree()

    def renew(self) -> None:
        """Begin anew with what is ours: all of it can be made again. Objects that ``tree`` made are gone."""
        self._mirror.throw_away()
        with self._mirror.locked():
            self._mirror.prepare(self._found.object_format)
            self._take_over()

    def _tree(self) -> str:
        with self._mirror.locked():
            index = self._mirror.objects.directory / _INDEX
            try:
                begins = [] if self._copy_index(index) or not self.commit else [("read-tree", self.commit)]
                return self._run(*begins, ("add", "--all"), ("write-tree",)).decode().strip()
            finally:
                for path in (index, index.with_suffix(".lock")):
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        self._mirror.close()

    def _copy_index(self, place: Path) -> bool:
        """Take over what the user's git knows of the files, so that only those that changed are read."""
        found = read_with_time(self._found.index_file, self._found.owner[0], _MAX_INDEX_BYTES)
        if found is None or _SPLIT in found[0][-1024:]:
            return False
        data, written_at_ns = found
        with storage_errors(str(place)):
            place.write_bytes(data)
            # A file that was written after git looked at it, in the same moment, is known by the time of the index.
            os.utime(place, ns=(written_at_ns, written_at_ns))
            if os.geteuid() == 0:
                os.chown(place, *self._found.owner)
        return True

    def _take_over(self) -> None:
        """Have the user's branches and tags, where its history begins, and what is ignored beside .gitignore."""
        directory, owner = self._mirror.objects.directory / FOLDER, self._found.owner[0]
        write_atomically(directory / "packed-refs", self._found.refs)
        shallow = read_of(self._found.common / "shallow", owner)
        if shallow is None:
            (directory / "shallow").unlink(missing_ok=True)
        else:
            write_atomically(directory / "shallow", shallow)
        ignored = read_of(self._found.common / "info" / "exclude", owner) or b""
        (directory / "info").mkdir(mode=0o755, exist_ok=True)
        write_atomically(directory / "info" / "exclude", self._found.ignored + b"\n" + ignored)

    def _run(self, *commands: tuple[str, ...]) -> bytes:
        """What the last of these printed. Raises RepositoryError for the first that fails."""
        objects = self._mirror.objects
        binds, environment = borrowing(objects.directory, objects.borrowed)
        program = GitProgram(
            objects.directory,
            FOLDER,
            binds=(Bind(self.top, str(self.top)), *binds),
            owner=objects.owner,
            bounds=self._bounds,
            question=check,
        )
        route = route_nowhere()
        command = ["git", "-C", str(self.top), f"--git-dir={program.seen(FOLDER)}", f"--work-tree={self.top}"]
        command += [word for each in (*_DEFENCES, *self._found.settings) for word in ("-c", each)]
        variables = {**route.environment, **environment, "GIT_INDEX_FILE": program.seen(_INDEX)}
        found = program.run_all([[*command, *route.settings, *words] for words in commands], variables)
        for words, ended in zip(commands, found, strict=True):
            if ended.code:
                told = told_by(ended)
                if is_disk_full(told):
                    raise disk_full(f"git {words[0]} reads {self.top}")
                raise RepositoryError(f"git {words[0]} of {self.top} failed: {told}")
        return found[-1].out
