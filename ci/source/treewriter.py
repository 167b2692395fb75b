"""Writes the files of a tree, or what differs between two, as one layer: as a checkout has them, all of one time."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

from builder.errors import CopyError
from builder.paths import NAME_MAX, check_length
from ci.epoch import BEGINNING
from ci.errors import SourceFileError
from ci.source.objects import DIRECTORY, EXECUTABLE, LINK, SUBMODULE, Change, Entry, Objects
from core.cancellation import check
from images.errors import LayerSourceError
from images.tarwriter import TarWriter
from images.whiteouts import WHITEOUT_PREFIX

ATTRIBUTES: Final = b".gitattributes"

_MODE, _EXECUTABLE_MODE, _DIRECTORY_MODE = 0o644, 0o755, 0o755
_SMALL_BYTES: Final = 256 << 10
_LONGEST_TARGET: Final = 4095
_ASK_EACH: Final = 64
_FILTERING: Final = ("eol", "ident", "working-tree-encoding")
_AS_IT_IS: Final = (b"unspecified", b"unset", b"lf", b"UTF-8", b"utf-8")
_FOREIGN: Final = re.compile(rb"(?:^|/)(?:|\.|\.\.|\.[gG][iI][tT])(?:/|$)")


class TreeLayer:
    """One layer on its way.

    tree: whose .gitattributes count.
    prefix: the directory that all of it is in; empty for the root.
    sizes: by path, of the files and links that are written as the repository has them, in bytes.
    """

    def __init__(self, writer: TarWriter, objects: Objects, tree: str, prefix: str) -> None:
        self._writer = writer
        self._objects = objects
        self._tree = tree
        self.sizes: dict[bytes, int] = {}
        self._prefix = f"{prefix.strip('/')}/".encode("utf-8", "surrogateescape") if prefix.strip("/") else b""

    def directories_above(self) -> None:
        """Write the root directory, and those down to the prefix."""
        self._directory(b"", is_whole=True)
        at = self._prefix.find(b"/")
        while at >= 0:
            self._directory(self._prefix[:at], is_whole=True)
            at = self._prefix.find(b"/", at + 1)

    def write(self, entries: Sequence[Entry], *, has_attributes: bool) -> None:
        """Write all of these, which come after the directories that they are in."""
        blobs = [entry for entry in entries if entry.mode not in (DIRECTORY, SUBMODULE)]
        with self._contents(blobs, has_attributes) as contents:
            for number, entry in enumerate(entries):
                if not number % _ASK_EACH:
                    check()
                self._check(entry.path)
                if entry.mode in (DIRECTORY, SUBMODULE):
                    self._directory(entry.path)
                else:
                    size, content = next(contents)
                    if not isinstance(content, bytes):
                        self.sizes[entry.path] = size
                    self._blob(entry, size, content)

    def write_changes(self, changes: Sequence[Change], *, has_attributes: bool) -> None:
        """Write what came or changed, and a whiteout for what is gone."""
        now = {change.path: change for change in changes if change.now}
        self.write(_with_parents(now), has_attributes=has_attributes)
        hidden: set[bytes] = set()
        for change in changes:
            if change.now or change.path in now:
                continue
            check()
            above = change.path.rpartition(b"/")[0]
            if change.before == DIRECTORY or above in hidden:
                hidden.add(change.path)
            is_covered = above in hidden or _is_below(change.path, now)
            if not is_covered:
                self._check(change.path)
                self._writer.whiteout(self._prefix + change.path)
        for change in changes:
            # A directory of this layer is laid over one below: what that has would be seen in an empty submodule.
            if change.before == DIRECTORY and change.path in now and now[change.path].now == SUBMODULE:
                self._writer.opaque(self._prefix + change.path)

    def write_files(self, files: Sequence[tuple[Entry, Path, int]]) -> None:
        """Write files whose content is elsewhere, each with its size, and the directories that they are in."""
        places = {entry.path: (path, size) for entry, path, size in files}
        changes = {entry.path: Change(b"", entry.mode, entry.id, entry.path) for entry, _, _ in files}
        for entry in _with_parents(changes):
            check()
            self._check(entry.path)
            if entry.mode == DIRECTORY:
                self._directory(entry.path)
                continue
            path, size = places[entry.path]
            mode = _EXECUTABLE_MODE if entry.mode == EXECUTABLE else _MODE
            with path.open("rb", buffering=0) as file:
                self._writer.file(self._prefix + entry.path, mode, 0, 0, BEGINNING, size, file.fileno())

    def _directory(self, path: bytes, *, is_whole: bool = False) -> None:
        self._writer.directory(path if is_whole else self._prefix + path, _DIRECTORY_MODE, 0, 0, BEGINNING)

    def _blob(self, entry: Entry, size: int, content: bytes | IO[bytes]) -> None:
        name = self._prefix + entry.path
        if entry.mode == LINK:
            if size > _LONGEST_TARGET:
                raise SourceFileError(f"{os.fsdecode(entry.path)}: a link to a name of {size} bytes")
            target = content if isinstance(content, bytes) else content.read(size)
            if not target or b"\0" in target:
                raise SourceFileError(f"{os.fsdecode(entry.path)} is a link to no name that a file can have")
            self._writer.symlink(name, target, 0, 0, BEGINNING)
            return
        mode = _EXECUTABLE_MODE if entry.mode == EXECUTABLE else _MODE
        if size <= _SMALL_BYTES and not isinstance(content, bytes):
            content = content.read(size)
        try:
            self._writer.file(name, mode, 0, 0, BEGINNING, size, content)
        except LayerSourceError as error:
            raise self._objects.damaged(("cat-file",), b"%b ended early" % entry.path) from error

    @contextmanager
    def _contents(
        self, blobs: Sequence[Entry], has_attributes: bool
    ) -> Iterator[Iterator[tuple[int, bytes | IO[bytes]]]]:
        """The contents of the blobs, in their order: of each its size and either all of it or what to read it from."""
        filtered = filtered_paths(self._objects, self._tree, blobs) if has_attributes else frozenset()
        with ExitStack() as stack:
            plain_ids = [entry.id for entry in blobs if entry.path not in filtered]
            plain: Iterator[tuple[int, IO[bytes]]] = iter(())
            made: Iterator[bytes] = iter(())
            if plain_ids:
                plain = stack.enter_context(self._objects.contents(plain_ids))
            wanted = [(entry.id, entry.path) for entry in blobs if entry.path in filtered]
            if wanted:
                made = stack.enter_context(self._objects.filtered(self._tree, wanted))

            def each() -> Iterator[tuple[int, bytes | IO[bytes]]]:
                for entry in blobs:
                    if entry.path in filtered:
                        data = next(made)
                        yield len(data), data
                    else:
                        yield next(plain)
                next(plain, None)  # lets it look at what follows its last one
                next(made, None)

            contents = each()
            yield contents
            next(contents, None)

    def _check(self, path: bytes) -> None:
        """Raises SourceFileError for a name that no layer can have, or that leads out of it."""
        name = self._prefix + path
        if _FOREIGN.search(path):
            raise SourceFileError(f"{os.fsdecode(path)!r} is no name that a file of a repository may have")
        if WHITEOUT_PREFIX in path and path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
            raise SourceFileError(
                f"{os.fsdecode(path)}: names that begin with .wh. mark deleted files, so no layer can hold it",
                hint="give the file another name, or let the job make it",
            )
        if len(name) > NAME_MAX:
            try:
                check_length(os.fsdecode(name), "the repository")
            except CopyError as error:
                raise SourceFileError(error.message, hint=error.hint) from error


def filtered_paths(objects: Objects, tree: str, entries: Iterable[Entry]) -> frozenset[bytes]:
    """The paths of those files of which the tree's .gitattributes say something that a checkout heeds."""
    return paths_with(objects, tree, entries, _FILTERING, lambda value: value not in _AS_IT_IS)


def paths_with(
    objects: Objects, tree: str, entries: Iterable[Entry], attributes: Sequence[str], wanted: Callable[[bytes], bool]
) -> frozenset[bytes]:
    """The paths of those files for which one of the tree's attributes has a value that is wanted."""
    files = [entry.path for entry in entries if entry.mode not in (DIRECTORY, LINK, SUBMODULE)]
    if not files:
        return frozenset()
    with tempfile.TemporaryFile() as asked:
        asked.writelines(path + b"\0" for path in files)
        asked.seek(0)
        words = ("check-attr", "-z", "--stdin", f"--source={tree}", *attributes)
        parts = iter(objects.run(*words, stdin=asked).split(b"\0"))
    return frozenset(path for path, _, value in zip(parts, parts, parts, strict=False) if wanted(value))


def _with_parents(now: Mapping[bytes, Change]) -> list[Entry]:
    """Entries of what is there now, each after all directories that it is in."""
    done: set[bytes] = set()
    entries = []
    for path in sorted(now):
        at = path.find(b"/")
        while at >= 0:
            above = path[:at]
            if above not in done:
                done.add(above)
                entries.append(Entry(DIRECTORY, b"", above))
            at = path.find(b"/", at + 1)
        change = now[path]
        if path not in done:
            done.add(path)
            entries.append(Entry(change.now, change.id, path))
    return entries


def _is_below(path: bytes, now: Mapping[bytes, Change]) -> bool:
    """Whether a path is below something that is no directory any more, which takes that directory's place."""
    at = path.rfind(b"/")
    while at >= 0:
        above = now.get(path[:at])
        if above is not None and above.now != DIRECTORY:
            return True
        at = path.rfind(b"/", 0, at)
    return False
