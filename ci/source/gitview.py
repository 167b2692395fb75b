"""``.git`` of a workspace: few files of its own, and the mirror's objects, read-only. ``git status`` reads no file.

The files are a layer, made once for a commit. The objects stay where they are: as many commits as there may be cost an
index. What a fork's job sees is a pack of its commit alone, for the mirror has branches that are not for strangers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ci.epoch import BEGINNING
from ci.source.gitindex import index_of
from ci.source.lfs import Pointer
from ci.source.objects import DIRECTORY, FOLDER, SUBMODULE, Objects
from ci.source.treewriter import ATTRIBUTES, filtered_paths
from containers.spec import Bind, Mount, Tree
from core.digests import DiffID
from core.trust import Privacy, scoped
from images.records import CacheRecord
from images.store import Store
from images.tarwriter import TarWriter

_VERSION: Final = "1"
_OP: Final = hashlib.sha256(b"git view").hexdigest()
_INDEX_TIME: Final = BEGINNING + 1  # younger than the files: else git takes them for written after it looked
_DIRECTORIES: Final = (
    "branches", "info", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags",
)  # fmt: skip
_LENT: Final = "lent"


class GitView:
    """``.git`` of one commit, for any number of workspaces, for as long as its mirror and store are open.

    commit: HEAD's.
    tree: of the files that the workspace has: of the commit, or of a working tree that differs from it.
    branch: that HEAD is on; empty: on none.
    history: how many commits are seen, 1 at least; None: all of them, with the tags.
    origin: the URL of the remote ``origin``, without credentials; empty: there is no remote.
    large: the files whose content is not HEAD's pointer, but what Git LFS has.
    alone: give no objects but the commit's own, as for a fork: its history is then 1.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        objects: Objects,
        commit: str,
        tree: str,
        *,
        branch: str = "",
        history: int | None = None,
        origin: str = "",
        alone: bool = False,
        large: Sequence[Pointer] = (),
    ) -> None:
        self._store = store
        self._objects = objects
        self._commit = commit
        self._tree = tree
        self._branch = branch
        self._history = 1 if alone else history
        self._origin = origin
        self._alone = alone
        self._key = key
        self._large = {each.entry.path: each.size for each in large}

    @contextlib.contextmanager
    def mounted(self, target: str) -> Iterator[Sequence[Mount]]:
        """The mounts that show it at ``target``, in this order; what a job writes there is thrown away afterwards."""
        lowers = self._store.snapshots.lowers((self.layer(),))
        upper = self._store.snapshots.new_upper(lowers)
        try:
            os.utime(f"{upper.path}/fs", (BEGINNING, BEGINNING))  # overlayfs shows the topmost root directory's
            lent = [
                Bind(str(path), f"{target}/{_LENT}/{number}", readonly=True) for number, path in enumerate(self._lent())
            ]
            yield (Tree(lowers, target, upper=upper.path), *lent)
        finally:
            self._store.snapshots.discard(upper)

    def layer(self) -> DiffID:
        """The layer with its files; it stays for as long as the store's session."""
        parts = (
            _VERSION, self._key, self._commit, self._tree, self._branch, str(self._history), self._origin,
            str(self._alone), str(len(self._lent())), self._tags(),
            repr(sorted(self._large.items())),
        )  # fmt: skip
        scope = self._store.holdings.domain.writes(Privacy.PROJECT)
        key = scoped(hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest(), scope)
        found = self._store.cache.get(key)
        if found is not None and found.diff_id is not None:
            return found.diff_id
        began = time.time()
        with self._store.layers.writer(sync=False) as sink:
            writer = TarWriter(sink)
            self._write(writer)
            writer.close()
            diff_id = sink.commit()
        owner = self._store.holdings.domain.project_scope
        description = f"source: .git of {self._commit[:12]}"
        self._store.cache.put(
            CacheRecord(key, _OP, diff_id, began, time.time() - began, description, b"{}", scope, owner)
        )
        return diff_id

    def _write(self, writer: TarWriter) -> None:
        lent = self._lent()
        for name in (
            "",
            *_DIRECTORIES,
            *([_LENT, *(f"{_LENT}/{number}" for number in range(len(lent)))] if lent else []),
        ):
            writer.directory(name.encode(), 0o755, 0, 0, BEGINNING)
        files = {
            "HEAD": f"ref: refs/heads/{self._branch}\n" if self._branch else f"{self._commit}\n",
            "config": self._config(),
            "description": "a commit of a pipeline\n",
            "info/exclude": "",
            "packed-refs": self._refs(),
        }
        if lent:
            files["objects/info/alternates"] = "".join(f"../{_LENT}/{number}\n" for number in range(len(lent)))
        if shallow := self._shallow():
            files["shallow"] = "".join(f"{commit}\n" for commit in shallow)
        for name, text in sorted(files.items()):
            data = text.encode("utf-8", "surrogateescape")
            writer.file(name.encode(), 0o644, 0, 0, BEGINNING, len(data), data)
        index = self._index()
        writer.file(b"index", 0o644, 0, 0, _INDEX_TIME, len(index), index)
        if self._alone:
            self._write_pack(writer)

    def _lent(self) -> tuple[Path, ...]:
        """Directories of objects that the workspace sees."""
        return () if self._alone else (self._objects.path, *self._objects.borrowed)

    def _config(self) -> str:
        has_sha256 = len(self._commit) == 64
        lines = [
            "[core]", f"\trepositoryformatversion = {1 if has_sha256 else 0}", "\tfilemode = true", "\tbare = false",
            "\tlogallrefupdates = true", "\tcheckStat = minimal", "\ttrustctime = false", "[gc]", "\tauto = 0",
        ]  # fmt: skip
        if has_sha256:
            lines += ["[extensions]", "\tobjectFormat = sha256"]
        if self._origin:
            lines += [
                '[remote "origin"]',
                f"\turl = {_quoted(self._origin)}",
                "\tfetch = +refs/heads/*:refs/remotes/origin/*",
            ]
        return "\n".join(lines) + "\n"

    def _refs(self) -> str:
        lines = self._tags().splitlines() if self._history is None else []
        if self._branch:
            lines.append(f"{self._commit} refs/heads/{self._branch}")
            if self._origin:
                lines.append(f"{self._commit} refs/remotes/origin/{self._branch}")
        return "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.partition(" ")[2]))

    def _tags(self) -> str:
        if self._history is not None:
            return ""
        told = self._objects.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags")
        return told.decode("utf-8", "surrogateescape")

    def _shallow(self) -> list[str]:
        """The commits whose parents are not to be seen."""
        if self._history == 1:
            return [self._commit]
        begins = self._objects.directory / FOLDER / "shallow"
        cut = begins.read_text().split() if begins.exists() else []
        if self._history is None:
            return cut
        parents = {}
        for line in self._objects.run("rev-list", "--parents", self._commit).decode().splitlines():
            commit, *above = line.split()
            parents[commit] = above
        level, seen = {self._commit}, {self._commit}
        for _ in range(self._history - 1):
            level = {above for commit in level for above in parents[commit]} - seen
            seen |= level
        return sorted(commit for commit in seen if commit in cut or not seen.issuperset(parents[commit]))

    def _index(self) -> bytes:
        """HEAD's files; of those that the workspace has as they are there, git need not look at one."""
        tree = self._objects.run("rev-parse", f"{self._commit}^{{tree}}").decode().strip()
        entries = [entry for entry in self._objects.entries(tree) if entry.mode != DIRECTORY]
        same = entries
        if tree != self._tree:
            there = set(self._objects.entries(self._tree))
            same = [entry for entry in entries if entry in there]
        if any(entry.path.endswith(ATTRIBUTES) for entry in same):
            filtered = filtered_paths(self._objects, self._tree, same)
            same = [entry for entry in same if entry.path not in filtered]
        same = [entry for entry in same if entry.mode != SUBMODULE]
        found = self._objects.sizes([entry.id for entry in same])
        sizes = {entry.path: size for entry, size in zip(same, found, strict=True)}
        sizes |= {path: size for path, size in self._large.items() if path in sizes}
        named = ((entry.path, entry.mode, entry.id) for entry in entries)
        return index_of(named, sizes, BEGINNING, "sha1" if len(self._commit) == 40 else "sha256")

    def _write_pack(self, writer: TarWriter) -> None:
        """A pack of the commit, its trees and its files."""
        entries = self._objects.entries(f"{self._commit}^{{tree}}")
        tree = self._objects.run("rev-parse", f"{self._commit}^{{tree}}").strip()
        ids = [self._commit.encode(), tree, *(entry.id for entry in entries if entry.mode != SUBMODULE)]
        with self._objects.packed(ids) as made:
            for path in made:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    writer.file(f"objects/pack/{path.name}".encode(), 0o444, 0, 0, BEGINNING, size, file.fileno())


def _quoted(text: str) -> str:
    """A value of git's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(letter for letter in escaped if letter.isprintable())}"'
