"""The layer of a job's outputs: what it wrote as far as a pattern names it, and what of that it removed.

Only the upper directory is walked. What is below is looked up where something is gone: it tells whether there was
anything, and by which names. A removal is told name by name and never by an opaque directory, which would hide what
another job puts there. Times and owners are the workspace's, attributes and set-user-ID bits do not travel: equal
content is an equal digest.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence

from ci.epoch import BEGINNING
from ci.model import Output
from ci.workspace.errors import OutputsError
from ci.workspace.looking import View
from ci.workspace.naming import Group, Wanted, groups, wanted, ways
from core.cancellation import check
from core.files import names_in
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from images.tarwriter import TarWriter
from images.upperwalk import DIRECTORY_FLAGS, Level, UpperWalk, attribute_names, is_opaque, lower_directory
from images.whiteouts import WHITEOUT_PREFIX

_MODES = 0o1777  # what travels of a mode
_PATH_MAX = 4096
_MOST_ENTRIES = 1_000_000
_MOST_PATH_BYTES = 256 << 20
_CONFINED = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


def write_outputs(
    upper: str,
    lower: Callable[[], int | None],
    writer: TarWriter,
    outputs: Sequence[Output],
    *,
    mounted: Collection[str] = (),
) -> None:
    """Write what ``outputs`` name of ``upper`` (an overlay upper directory that nothing uses any more).

    lower: gives a directory descriptor of the merged view of the layers below, None when there are none; called at
    most once. The writer is not closed. mounted: paths at which something else was mounted: nothing there counts.
    Raises OutputsError for what cannot be an output, and for an entry without a file; LayerSourceError.
    """
    with contextlib.ExitStack() as stack:
        top = os.open(upper, DIRECTORY_FLAGS)
        stack.callback(os.close, top)
        below = _Once(lower)
        view = View(top, below)
        for text, directory in ways(outputs):
            _check_way(view, f"the output {text}", directory)
        missing = _Missing(wanted(outputs))
        made = groups(outputs, lambda path: (found := view.find(path)) is not None and stat.S_ISDIR(found.mode))
        places = _Places(writer, view, is_needed=len(made) > 1 or any(group.into is not None for group in made))
        for group in made:
            if group.into is not None:
                _check_way(view, "a directory of `into`,", os.fsdecode(group.into))
            walk = _Walk(top, below, group, writer, places, missing, frozenset(map(os.fsencode, mounted)))
            stack.callback(walk.close)
            walk.write()
        for entry in missing.entries:
            if not view.has_below(entry.pattern):
                raise OutputsError(
                    f"there is no file for the output {entry.text}",
                    hint="did the job write it elsewhere? `optional: true` if it may be missing",
                )


def _check_way(view: View, what: str, path: str) -> None:
    """Refuse a way that a link leads elsewhere. Files lead nowhere, and are found out by what is missing."""
    found = view.find(path)
    if found is not None and stat.S_ISLNK(found.mode):
        raise OutputsError(
            f"{what} leads through {found.path}, which is a link: outputs are what lies in the workspace itself",
            hint="name the directory that the link leads to",
        )


class _Once:
    """The lower tree, opened when somebody asks for the first time."""

    def __init__(self, opening: Callable[[], int | None]) -> None:
        self._opening = opening
        self._opened: list[int | None] = []

    def __call__(self) -> int | None:
        if not self._opened:
            self._opened.append(self._opening())
        return self._opened[0]


class _Missing:
    """The entries for which no file was met so far."""

    def __init__(self, entries: list[Wanted]) -> None:
        self.entries = entries

    def note(self, path: bytes) -> None:
        """A file or link is an output."""
        text = os.fsdecode(path)
        self.entries = [entry for entry in self.entries if not entry.pattern.matches(text)]


class _Places:
    """What the layer has, and whence, where entries of several places could meet.

    is_needed: they could.
    """

    def __init__(self, writer: TarWriter, view: View, *, is_needed: bool) -> None:
        self._writer = writer
        self._view = view
        self._is_needed = is_needed
        self._taken: dict[bytes, tuple[bytes, bool]] = {}
        self._entries = self._path_bytes = 0

    def claim(self, place: bytes, path: bytes, *, is_directory: bool = False) -> bool:
        """Take a place for what the job wrote at ``path``; False: it is a directory that is there already."""
        if WHITEOUT_PREFIX in place and any(name.startswith(WHITEOUT_PREFIX) for name in place.split(b"/")):
            raise OutputsError(
                f"{_shown(path)} cannot be an output: in layers, names that begin with .wh. mean deletions",
                hint="give it another name, or leave it out with a pattern behind a !",
            )
        if len(place) >= _PATH_MAX:
            raise OutputsError(f"the output {_shown(place[:60])}… has a path of {len(place)} bytes; 4095 are possible")
        self._entries += 1
        self._path_bytes += len(place)
        if self._entries > _MOST_ENTRIES or self._path_bytes > _MOST_PATH_BYTES:
            raise OutputsError(
                f"the outputs have more than {_MOST_ENTRIES:,} files, or too long paths",
                hint="let the job pack them into one file; what is only needed by commands belongs into the image",
            )
        if not self._is_needed:
            return True
        if place not in self._taken:
            self._taken[place] = path, is_directory
            return True
        other, was_directory = self._taken[place]
        if was_directory and is_directory:
            return False
        raise OutputsError(f"two outputs would be {_shown(place)}: {_shown(other)} and {_shown(path)}")

    def make_way(self, into: bytes) -> None:
        """Write the directories of an ``into``."""
        at = b""
        for name in into.split(b"/"):
            at = at + b"/" + name if at else name
            found = self._view.find(os.fsdecode(at))
            if found is not None and not stat.S_ISDIR(found.mode):
                raise OutputsError(f"outputs cannot go into {_shown(into)}: {found.path} is no directory")
            if self.claim(at, at, is_directory=True):
                mode = found.mode if found is not None else 0o755
                self._writer.directory(at, mode & _MODES, 0, 0, BEGINNING)


class _Directory(Level):
    """A directory of the way.

    mode: as it is written.
    is_whole: all of it is an output.
    is_anew: what layers have in it is gone.
    """

    __slots__ = ("is_anew", "is_whole", "mode")

    def __init__(
        self, name: bytes, fd: int, lower: int | None, info: os.stat_result, *, mode: int, is_whole: bool, is_anew: bool
    ) -> None:
        super().__init__(name, fd, lower, info)
        self.mode = mode
        self.is_whole = is_whole
        self.is_anew = is_anew


class _Gone:
    """A directory of layers that is gone.

    members: those that are still to be looked at, and whether they are directories.
    found: what stands for those that were.
    is_kept: whether one of them is left out by the patterns, so that it stays.
    """

    __slots__ = ("found", "is_kept", "is_meant", "members", "path")

    def __init__(self, path: bytes, is_meant: bool, members: Iterator[tuple[bytes, bool]]) -> None:
        self.path = path
        self.is_meant = is_meant
        self.members = members
        self.found: list[bytes] = []
        self.is_kept = False


class _Walk(UpperWalk[_Directory]):
    """Writes the outputs of one group."""

    def __init__(
        self,
        root: int,
        open_lower: Callable[[], int | None],
        group: Group,
        writer: TarWriter,
        places: _Places,
        missing: _Missing,
        mounted: frozenset[bytes],
    ) -> None:
        super().__init__(root, open_lower)
        self._group = group
        self._patterns = group.patterns
        self._moves = group.into is not None
        self._writer = writer
        self._places = places
        self._missing = missing
        self._mounted = mounted
        self._written = 0 if self._moves else 1  # how many of the levels are in the tar; nobody outputs the root
        self._links: dict[tuple[int, int], bytes] = {}
        self._lower_parents: set[bytes] = set()

    def write(self) -> None:
        top = self.open_root()
        info = os.fstat(top)
        self.levels.append(_Directory(b"", top, None, info, mode=info.st_mode, is_whole=False, is_anew=False))
        self.run()

    def wants_all(self, level: _Directory) -> bool:
        return level.is_whole and not any(path.startswith(self.prefix) for path in self._mounted)

    def wants(self, level: _Directory, name: bytes, path: bytes) -> bool:
        if path in self._mounted:
            return False
        if level.is_whole:
            return True
        text = os.fsdecode(path)
        if self._patterns.matches(text):
            return True
        if not self._moves and self._patterns.reaches_below(text):
            below = self.lower_stat(level, name)
            if below is not None and stat.S_ISDIR(below.st_mode):
                self._remove(path, is_directory=True)  # something else has come in the place of the directory
        return False

    def directory(self, level: _Directory, name: bytes, path: bytes, info: os.stat_result) -> bool:
        text = os.fsdecode(path)
        is_whole = level.is_whole or self._patterns.can_skip(text)
        is_meant = is_whole or self._patterns.matches(text)
        if path in self._mounted or not (is_meant or self._patterns.reaches_below(text)):
            return False
        if len(path) >= _PATH_MAX and not is_meant:
            return False  # nothing in it could be an output, and paths take memory
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=level.fd)
        lower = None
        try:
            lower = lower_directory(name, self.lower_of(level))
            before = info.st_mode if lower is None else os.fstat(lower).st_mode
            is_anew = lower is not None and (level.is_anew or is_opaque(fd, attribute_names(fd, path)))
            mode = info.st_mode if is_meant else before
            entered = _Directory(name, fd, lower, info, mode=mode, is_whole=is_whole, is_anew=is_anew)
        except BaseException:
            for opened in (fd, lower):
                if opened is not None:
                    os.close(opened)
            raise
        self.descend(entered, path)
        if is_meant and (lower is None or (before ^ mode) & _MODES):
            self._write_levels()
        if is_anew and lower is not None:
            self._remove_missing(fd, lower)
        return True

    def file(self, path: bytes, info: os.stat_result, fd: int) -> None:
        if (place := self._begin(path, info)) is not None:
            self._writer.file(place, info.st_mode & _MODES, 0, 0, BEGINNING, info.st_size, fd)

    def link(self, path: bytes, info: os.stat_result, target: bytes) -> None:
        if (place := self._begin(path, info)) is not None:
            self._writer.symlink(place, target, 0, 0, BEGINNING)

    def special(self, path: bytes, info: os.stat_result) -> None:
        kind = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(info.st_mode), "device")
        raise OutputsError(
            f"{_shown(path)} cannot be an output: it is a {kind}", hint="leave it out with a pattern behind a !"
        )

    def gone(self, level: _Directory, name: bytes, path: bytes) -> None:
        below = None if self._moves else self.lower_stat(level, name)
        if below is not None:
            self._remove(path, is_directory=stat.S_ISDIR(below.st_mode))

    def left(self) -> None:
        self._written = min(self._written, len(self.levels))

    def _begin(self, path: bytes, info: os.stat_result) -> bytes | None:
        """Write what comes before a file or link, and give its place; None: it was written before, by another name."""
        if self._missing.entries:
            self._missing.note(path)
        if self._written < len(self.levels):
            self._write_levels()
        place = self._group.place(path)
        self._places.claim(place, path)
        if info.st_nlink == 1:
            return place
        first = self._links.setdefault((info.st_dev, info.st_ino), place)
        if first == place:
            return place
        self._writer.hardlink(place, first, info.st_mode & _MODES, 0, 0, BEGINNING)
        return None

    def _write_levels(self) -> None:
        """Put the directories on the way here into the tar, those that are not there yet."""
        into, base = self._group.into, self._group.base
        if into is not None and not self._written:
            self._places.make_way(into)
        path = b""
        for depth, level in enumerate(self.levels):
            path = path + b"/" + level.name if path else level.name
            if depth >= self._written and (into is None or _is_within(path, base)):
                self._write_directory(path, level.mode)
        self._written = len(self.levels)

    def _write_directory(self, path: bytes, mode: int) -> None:
        place = self._group.place(path)
        if self._places.claim(place, path, is_directory=True):
            self._writer.directory(place, mode & _MODES, 0, 0, BEGINNING)

    # Removals, which are told where they happened: what goes elsewhere is a copy.

    def _remove_missing(self, fd: int, lower: int) -> None:
        """Of a directory that was made anew, tell what it had and has no more."""
        if not self._moves:
            present = set(names_in(fd))
            for name in sorted(set(names_in(lower)) - present):
                info = os.stat(name, dir_fd=lower, follow_symlinks=False)
                self._remove(self.prefix + os.fsencode(name), is_directory=stat.S_ISDIR(info.st_mode))

    def _remove(self, path: bytes, *, is_directory: bool) -> None:
        """Tell that what layers have at ``path`` is gone, as far as patterns name it."""
        for gone in self._gone(path, is_directory=is_directory):
            self._write_levels()
            self._write_lower_parents(gone)
            self._writer.whiteout(gone)

    def _gone(self, path: bytes, *, is_directory: bool) -> list[bytes]:
        """The fewest names that stand for it: a directory that is meant, if nothing in it is left out."""
        top = _Gone(b"", False, iter([(path, is_directory)]))
        ways = [top]
        while ways:
            check()
            way = ways[-1]
            for member, has_members in way.members:
                text = os.fsdecode(member)
                is_meant = self._patterns.matches(text)
                if is_meant and (not has_members or self._patterns.can_skip(text)):
                    way.found.append(member)
                elif has_members and (is_meant or self._patterns.reaches_below(text)):
                    ways.append(_Gone(member, is_meant, self._lower_members(member)))
                    break
                else:
                    way.is_kept = True
            else:
                ways.pop()
                if ways:
                    is_whole = way.is_meant and not way.is_kept
                    ways[-1].found += [way.path] if is_whole else way.found
                    ways[-1].is_kept |= not is_whole
        return top.found

    def _lower_members(self, path: bytes) -> Iterator[tuple[bytes, bool]]:
        assert self.lower_root is not None, "something was found below"
        fd = openat2(self.lower_root, path, DIRECTORY_FLAGS, resolve=_CONFINED)
        try:
            with os.scandir(fd) as entries:
                found = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(fd)
        return ((path + b"/" + name, is_directory) for name, is_directory in found)

    def _write_lower_parents(self, path: bytes) -> None:
        """Write the directories between the one that the walk is in and ``path``, which only layers have."""
        parts = path.split(b"/")
        for count in range(len(self.levels), len(parts)):
            parent = b"/".join(parts[:count])
            if parent not in self._lower_parents:
                self._lower_parents.add(parent)
                mode = os.stat(parent, dir_fd=self.lower_root, follow_symlinks=False).st_mode
                self._write_directory(parent, mode)


def _is_within(path: bytes, base: bytes) -> bool:
    return not base or path == base or path.startswith(base + b"/")


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
