"""``.git`` of a workspace: few files of its own, and the mirror's objects, read-only. ``git status`` reads no file.

The objects stay where they are. What all commits have in common is a layer, and git's index of a whole tree is one;
what differs from these in a commit is written above them for each workspace, and goes with that: as many commits as
there may be leave nothing. What a fork's job sees is a pack of its commit alone, for the mirror has branches that are
not for strangers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import msgpack

from ci.epoch import BEGINNING
from ci.failedfiles import GitPlace
from ci.source.facts import Commit
from ci.source.gitindex import entry_of, index_of, patched, retimed
from ci.source.layers import INDEX, INDEX_TIME, Base, bases_of, index_layer, is_little
from ci.source.lfs import Pointer
from ci.source.objects import DIRECTORY, FOLDER, SUBMODULE, Entry, Objects
from ci.source.treewriter import ATTRIBUTES, filtered_paths
from containers.spec import Bind, Mount, Tree
from core.digests import DiffID
from core.files import storage_errors
from core.trust import Privacy, scoped
from images.records import CacheRecord
from images.store import Store
from images.tarreader import TarReader
from images.tarwriter import TarWriter

_VERSION: Final = "2"
_OP: Final = hashlib.sha256(b"git view").hexdigest()
_DIRECTORIES: Final = (
    "branches", "info", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags",
)  # fmt: skip
_LENT: Final = "lent"
_PATCHES: Final = "git index"  # the memo's kind
_SHALLOW: Final = "git shallow"
_LONGEST_PATCH: Final = 64 << 10  # bytes that are remembered; what is longer is found again


class _Made(NamedTuple):
    """What every workspace gets. files: by name, what is written above the layers, for a workspace alone."""

    layers: tuple[DiffID, ...]
    files: Mapping[str, bytes]


class GitView:
    """``.git`` of one commit, for any number of workspaces, for as long as its mirror and store are open.

    commit: HEAD's.
    tree: of the files that the workspace has: of the commit, or of a working tree that differs from it.
    branch: that HEAD is on; empty: on none.
    history: how many commits are seen, 1 at least; None: all of them, with the tags.
    origin: the URL of the remote ``origin``, without credentials; empty: there is no remote.
    large: the files whose content is not HEAD's pointer, but what Git LFS has.
    alone: give no objects but the commit's own, as for a fork: its history is then 1.
    place: see ``ci.outcome.GitMounts``.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        objects: Objects,
        commit: Commit,
        tree: str,
        *,
        branch: str = "",
        history: int | None = None,
        origin: str = "",
        alone: bool = False,
        large: Sequence[Pointer] = (),
        place: GitPlace | None = None,
    ) -> None:
        self.place: Final = place
        self._store = store
        self._objects = objects
        self._commit, self._own_tree = commit.id, commit.tree
        self._tree = tree
        self._branch = branch
        self._history = 1 if alone else history
        self._origin = origin
        self._alone = alone
        self._key = key
        self._large = {each.entry.path: each.size for each in large}
        self._pointers = {each.entry.path: each.entry for each in large}
        self._format = "sha1" if len(commit.id) == 40 else "sha256"
        self._making = threading.Lock()
        self._known: _Made | None = None

    @contextlib.contextmanager
    def mounted(self, target: str, mtime_s: int = BEGINNING) -> Iterator[Sequence[Mount]]:
        """The mounts that show it at ``target``, in this order; what a job writes there is thrown away afterwards.

        mtime_s: of the workspace's files, in seconds since the epoch: git goes by it.
        """
        made = self._made()
        lowers = self._store.snapshots.lowers(made.layers)
        upper = self._store.snapshots.new_upper(lowers)
        try:
            with storage_errors("the files of .git"):
                _write(f"{upper.path}/fs", made.files)
                if mtime_s != BEGINNING:
                    self._retime(f"{upper.path}/fs/{INDEX}", made, mtime_s)
            lent = [
                Bind(str(path), f"{target}/{_LENT}/{number}", readonly=True) for number, path in enumerate(self._lent())
            ]
            yield (Tree(lowers, target, upper=upper.path), *lent)
        finally:
            self._store.snapshots.discard(upper)

    def _retime(self, path: str, made: _Made, mtime_s: int) -> None:
        """Write the index for files with another time, itself younger than they are."""
        index = made.files.get(INDEX)
        if index is None:
            index = self._read(made.layers[1])  # the one after the skeleton has it then
        with open(path, "wb") as file:
            file.write(retimed(index, mtime_s, self._format))
        os.utime(path, (mtime_s + 1, mtime_s + 1))

    def _made(self) -> _Made:
        """What every workspace gets. Jobs beside each other ask for it at once; it is made once."""
        with self._making:
            if self._known is None:
                self._known = self._make()
            return self._known

    def _make(self) -> _Made:
        layers, index = self._index()
        files = {
            "HEAD": f"ref: refs/heads/{self._branch}\n" if self._branch else f"{self._commit}\n",
            "config": self._config(),
            "packed-refs": self._refs(),
        }
        if shallow := self._shallow():
            files["shallow"] = "".join(f"{commit}\n" for commit in shallow)
        written = {name: text.encode("utf-8", "surrogateescape") for name, text in files.items()}
        if index is not None:
            written[INDEX] = index
        return _Made((self._skeleton(), *layers, *((self._pack(),) if self._alone else ())), written)

    def _skeleton(self) -> DiffID:
        """The layer with what is the same for every commit."""
        lent = [f"{_LENT}/{number}" for number in range(len(self._lent()))]

        def write(writer: TarWriter) -> None:
            for name in ("", *_DIRECTORIES, *([_LENT, *lent] if lent else [])):
                writer.directory(name.encode(), 0o755, 0, 0, BEGINNING)
            files = {"description": "a commit of a pipeline\n", "info/exclude": ""}
            if lent:
                files["objects/info/alternates"] = "".join(f"../{name}\n" for name in lent)
            for name, text in sorted(files.items()):
                writer.file(name.encode(), 0o644, 0, 0, BEGINNING, len(text), text.encode())

        return self._layer(("skeleton", str(len(lent))), write, "directories of .git")

    def _pack(self) -> DiffID:
        """The layer with a pack of the commit, its trees and its files."""
        return self._layer(("pack", self._key, self._commit), self._write_pack, f".git of {self._commit[:12]}")

    def _layer(self, parts: Sequence[str], write: Callable[[TarWriter], None], description: str) -> DiffID:
        """A layer, remembered by these parts; it stays for as long as the store's session."""
        key = self._named(parts)
        found = self._store.cache.get(key)
        if found is not None and found.diff_id is not None:
            return found.diff_id
        began = time.time()
        with self._store.layers.writer(sync=False) as sink:
            writer = TarWriter(sink)
            write(writer)
            writer.close()
            diff_id = sink.commit()
        domain = self._store.holdings.domain
        scope, owner = domain.writes(Privacy.PROJECT), domain.project_scope
        took = time.time() - began
        self._store.cache.put(
            CacheRecord(key, _OP, diff_id, began, took, f"source: {description}", b"{}", scope, owner)
        )  # fmt: skip
        return diff_id

    def _named(self, parts: Sequence[str]) -> str:
        """The key of a record or of a memo, for the builds that it counts for."""
        text = "\0".join((_VERSION, *parts))
        scope = self._store.holdings.domain.writes(Privacy.PROJECT)
        return scoped(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), scope)

    def _lent(self) -> tuple[Path, ...]:
        """Directories of objects that the workspace sees."""
        return () if self._alone else (self._objects.path, *self._objects.borrowed)

    def _config(self) -> str:
        has_sha256 = self._format == "sha256"
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
        name = self._named(("shallow", self._key, self._commit, str(self._history), *cut))
        known = self._store.cache.memo_get(_SHALLOW, name)
        if known is None:
            known = " ".join(self._cut_off(cut, self._history)).encode()
            self._store.cache.memo_put(_SHALLOW, name, known)
        return known.decode().split()

    def _cut_off(self, cut: Sequence[str], history: int) -> list[str]:
        parents = {}
        for line in self._objects.run("rev-list", "--parents", self._commit).decode().splitlines():
            commit, *above = line.split()
            parents[commit] = above
        level, seen = {self._commit}, {self._commit}
        for _ in range(history - 1):
            level = {above for commit in level for above in parents[commit]} - seen
            seen |= level
        return sorted(commit for commit in seen if commit in cut or not seen.issuperset(parents[commit]))

    def _index(self) -> tuple[tuple[DiffID, ...], bytes | None]:
        """HEAD's files; of those that the workspace has as they are there, git need not look at one.

        A layer that has them, and what is to be in its place; None: nothing.
        """
        for base in bases_of(self._store, self._key, self._objects):
            patch = self._patch(base)
            layer = None if patch is None else index_layer(self._store, self._key, self._objects, base)
            if patch is not None and layer is not None:
                return (layer,), patched(self._read(layer), patch, self._format) if patch else None
        return (), self._whole_index()

    def _read(self, layer: DiffID) -> bytes:
        with self._store.layers.open(layer) as stream:
            reader = TarReader(stream, seekable=True)
            entry = next(entry for entry in reader if entry.name == INDEX.encode())
            return reader.read(entry.size)

    def _patch(self, base: Base) -> dict[bytes, bytes] | None:
        """The entries in which HEAD's index differs from a base's; None: that is no base for it. It is remembered."""
        if self._tree == base.tree and self._tree == self._own_tree and not self._large:
            return {}
        name = self._named(("patch", self._key, base.tree, self._commit, self._tree, repr(sorted(self._large.items()))))
        known = self._store.cache.memo_get(_PATCHES, name)
        if known is not None:
            return msgpack.decode(known, type=dict[bytes, bytes])
        patch = self._patch_of(base)
        if patch is not None and len(data := msgpack.encode(patch)) <= _LONGEST_PATCH:
            self._store.cache.memo_put(_PATCHES, name, data)
        return patch

    def _patch_of(self, base: Base) -> dict[bytes, bytes] | None:
        changes = self._objects.changes_since(base.tree, self._commit)
        elsewhere = () if self._tree == self._own_tree else self._objects.changes(self._tree, self._commit)
        if changes is None or not is_little(changes, base):
            return None
        if any(change.path.endswith(ATTRIBUTES) for change in (*changes, *elsewhere)):
            return None
        other = {change.path: change for change in elsewhere if change.now not in (b"", DIRECTORY)}
        files = {change.path: change for change in changes if change.now not in (b"", DIRECTORY)}
        same = [Entry(each.now, each.id, path) for path, each in files.items() if path not in other]
        same += [each for path, each in self._pointers.items() if path not in other and path not in files]
        sizes = self._sizes(same, has_attributes=base.has_attributes)
        found = {change.path: b"" for change in changes if change.before not in (b"", DIRECTORY)}
        for entry in same:
            found[entry.path] = entry_of(entry.path, entry.mode, entry.id, sizes.get(entry.path), BEGINNING)
        for path, each in other.items():
            found[path] = entry_of(path, each.now, each.id, None, BEGINNING)
        return found

    def _whole_index(self) -> bytes:
        entries = [entry for entry in self._objects.entries(self._own_tree) if entry.mode != DIRECTORY]
        same = entries
        if self._own_tree != self._tree:
            there = set(self._objects.entries(self._tree))
            same = [entry for entry in entries if entry in there]
        has_attributes = any(entry.path.endswith(ATTRIBUTES) for entry in same)
        sizes = self._sizes(same, has_attributes=has_attributes)
        named = ((entry.path, entry.mode, entry.id) for entry in entries)
        return index_of(named, sizes, BEGINNING, self._format)

    def _sizes(self, same: Sequence[Entry], *, has_attributes: bool) -> dict[bytes, int]:
        """By path, the sizes in the workspace of those files that it has as they are in the repository.

        same: files that the workspace has as HEAD has them.
        """
        if has_attributes:
            filtered = filtered_paths(self._objects, self._tree, same)
            same = [entry for entry in same if entry.path not in filtered]
        same = [entry for entry in same if entry.mode != SUBMODULE]
        found = self._objects.sizes([entry.id for entry in same]) if same else []
        sizes = {entry.path: size for entry, size in zip(same, found, strict=True)}
        return sizes | {path: size for path, size in self._large.items() if path in sizes}

    def _write_pack(self, writer: TarWriter) -> None:
        for name in ("", "objects", "objects/pack"):
            writer.directory(name.encode(), 0o755, 0, 0, BEGINNING)
        entries = self._objects.entries(self._own_tree)
        files = [entry.id for entry in entries if entry.mode != SUBMODULE]
        ids = [self._commit.encode(), self._own_tree.encode(), *files]
        with self._objects.packed(ids) as made:
            for path in made:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    writer.file(f"objects/pack/{path.name}".encode(), 0o444, 0, 0, BEGINNING, size, file.fileno())


def _write(directory: str, files: Mapping[str, bytes]) -> None:
    """Write files that are as a layer's would be."""
    for name, data in files.items():
        path = os.path.join(directory, name)
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
        at = INDEX_TIME if name == INDEX else BEGINNING
        os.utime(path, (at, at))
    os.utime(directory, (BEGINNING, BEGINNING))  # overlayfs shows the topmost root directory's


def _quoted(text: str) -> str:
    """A value of git's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(letter for letter in escaped if letter.isprintable())}"'
