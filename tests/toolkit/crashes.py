"""Power losses without a plug to pull: what a process asked of the disk is recorded, and lost again.

``record`` runs a program under strace. ``crashes`` goes through what it did below a directory, in order, and gives
what a power loss may have left at each point. A disk promises little: content is there once its file was synced, and a
name, or the lack of one, once its directory was. All else may be there or not, so that each point gives several states:
with and without the unsynced content of files, of databases, and of directories.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

# All that changes files or makes them durable. What ``Disk`` does not know of these fails the test.
_TRACED: Final = (
    "open,openat,openat2,creat,close,lseek,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "copy_file_range,sendfile,splice,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,fsync,fdatasync,syncfs,sync,sync_file_range,msync,clone,clone3,fork,vfork"
)
_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)")
_UNFINISHED: Final = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_ARGUMENT: Final = re.compile(
    r"\s*(?:"
    r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?'  # a string
    r'|([^,"<>{}\[\]]+)?<((?:\\x[0-9a-f]{2})+)>(\(deleted\))?'  # a descriptor, with its path
    r"|([^,]+))"
)
_PROMISE: Final = b"PROMISE "
_DATABASE: Final = re.compile(r"\.db(-wal|-journal)?$")
_BY_FD: Final = b"/proc/self/fd/"
_NEVER_KEPT: Final = "-shm"  # SQLite makes it again


class Call(NamedTuple):
    """A system call that succeeded.

    arguments: strings and paths as bytes; a descriptor as the path that it had then, None when that was removed;
    anything else as text.
    fds: the descriptors as numbers, by position.
    """

    name: str
    arguments: tuple[bytes | str | None, ...]
    fds: dict[int, int]
    result: int


def record(program: str, root: Path, *arguments: str | Path) -> list[Call]:
    """Run ``program`` (Python) with ``sys.argv`` = root, arguments; what it did. It may start threads, no processes.

    Lines ``PROMISE …`` that it writes to standard output in one call say what survives from there on.
    """
    log = root.with_name(f"{root.name}.strace")
    command = ["strace", "-f", "-qq", "-y", "-xx", "-s", str(16 << 20), "-o", str(log), "-e", f"trace={_TRACED}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", program, str(root), *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    calls = list(_calls(log.read_text()))
    log.unlink()
    return calls


def _calls(text: str) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for line in text.splitlines():
        if (unfinished := _UNFINISHED.fullmatch(line)) is not None:
            begun[unfinished[1]] = unfinished[2]
            continue
        if (resumed := _RESUMED.fullmatch(line)) is not None:
            line = f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}"
        call = _CALL.fullmatch(line)
        if call is None or call[4].startswith("-") or call[4] == "?":
            continue
        arguments: list[bytes | str | None] = []
        fds: dict[int, int] = {}
        for found in _ARGUMENT.finditer(call[3]):
            if found[1] is not None:
                assert not found[2], f"cut short: {line[:200]}"
                arguments.append(_unescaped(found[1]))
            elif found[4] is not None:
                if (found[3] or "").strip().isdigit():
                    fds[len(arguments)] = int(found[3])
                arguments.append(None if found[5] else _unescaped(found[4]))
            elif found[6].strip():
                arguments.append(found[6].strip())
        yield Call(call[2], tuple(arguments), fds, int(call[4], 0))


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass(slots=True, eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass(slots=True, eq=False)
class _Directory:
    entries: dict[str, _File | _Directory] = field(default_factory=dict)
    synced: dict[str, _File | _Directory] = field(default_factory=dict)


Tree = dict[str, bytes | None]  # content by path; None for directories


class State(NamedTuple):
    """What a power loss left.

    after: how many calls had been made. kept: what of the unsynced survived: some of "content", "rows", "names".
    promised: what the program had said by then.
    """

    tree: Tree
    after: int
    kept: tuple[str, ...]
    promised: tuple[str, ...]

    def write(self, directory: Path) -> Path:
        """Make it real."""
        directory.mkdir()
        for path, content in self.tree.items():
            if content is None:
                (directory / path).mkdir()
            else:
                (directory / path).write_bytes(content)
        return directory


class _Disk:
    """The files below ``root``, and what of them is durable. All that is there at the beginning is."""

    def __init__(self, root: Path) -> None:
        self._prefix = os.fsencode(root) + b"/"
        self._root = self._read(root)
        self._positions: dict[int, int] = {}
        self._unnamed: dict[int, _File] = {}  # by their descriptors: O_TMPFILE
        self.promised: list[str] = []

    def _read(self, path: Path) -> _Directory:
        made = _Directory()
        for entry in path.iterdir():
            if entry.is_dir():
                made.entries[entry.name] = self._read(entry)
            else:
                data = entry.read_bytes()
                made.entries[entry.name] = _File(bytearray(data), data)
        made.synced = dict(made.entries)
        return made

    def apply(self, call: Call) -> bool:
        """Do what the call did; whether a power loss after it may leave something that one before it cannot."""
        name, at = call.name, call.arguments
        if name in ("clone", "clone3", "fork", "vfork"):
            assert any("CLONE_THREAD" in str(each) for each in at), f"a process was started: {call}"
            return False
        if name == "write" and isinstance(at[1], bytes) and at[1].startswith(_PROMISE):
            self.promised += [line.removeprefix(_PROMISE.decode()) for line in at[1].decode().splitlines()]
            return True
        if name in ("open", "openat", "openat2", "creat"):
            return self._open(call)
        if name == "sync":
            self._sync_all(self._root)
            return True
        if name == "close":
            self._unnamed.pop(call.fds.get(0, -1), None)
            return False
        unnamed = self._unnamed.get(call.fds.get(0, -1))
        if unnamed is not None and at[0] is None:
            self._write(call, unnamed)
            return False  # a power loss takes all of it
        paths = [self._below(each) for each in self._resolved(call)]
        if not any(path is not None for path in paths):
            return False
        return self._change(call, [path or "" for path in paths])

    def _resolved(self, call: Call) -> list[bytes]:
        """The paths that a call names; a name after a directory's descriptor is in that directory."""
        paths: list[bytes] = []
        is_at = call.name.endswith(("at", "at2")) and call.name != "creat"
        directory = b""
        for argument in call.arguments[:4]:
            if not isinstance(argument, bytes):
                continue
            if is_at and not directory:
                directory = argument
            else:
                paths.append(argument if argument.startswith(b"/") or not is_at else directory + b"/" + argument)
                directory = b""
            if not is_at and call.name not in ("rename", "link"):
                break  # what follows is content
        return paths

    def _below(self, path: bytes) -> str | None:
        if path + b"/" == self._prefix:
            return ""
        return os.fsdecode(path.removeprefix(self._prefix)) if path.startswith(self._prefix) else None

    def _open(self, call: Call) -> bool:
        self._positions[call.result] = 0
        stated = [each for each in call.arguments if isinstance(each, str) and "O_" in each]
        flags = stated[0] if stated else "O_CREAT|O_TRUNC"
        path = self._below(self._resolved(call)[0])
        if path is not None and "O_TMPFILE" in flags:
            self._unnamed[call.result] = _File()
            return False
        if not path or "O_DIRECTORY" in flags:
            return False
        parent, name = self._parent(path)
        there = parent.entries.get(name)
        if there is None:
            assert "O_CREAT" in flags, f"opened what was not made: {call}"
            parent.entries[name] = _File()
            return True
        if isinstance(there, _File):
            if "O_APPEND" in flags:
                self._positions[call.result] = len(there.data)
            if "O_TRUNC" in flags and there.data:
                there.data.clear()
                return True
        return False

    def _change(self, call: Call, paths: list[str]) -> bool:
        name, at = call.name, call.arguments
        if name in ("write", "pwrite64", "ftruncate", "truncate", "fallocate"):
            self._write(call, self._file(paths[0]))
        elif name == "lseek":
            self._positions[call.fds[0]] = call.result
            return False
        elif name == "sync_file_range":  # it makes nothing durable
            return False
        elif name in ("fsync", "fdatasync"):
            self._sync(self._find(paths[0]))
        elif name == "syncfs":
            self._sync_all(self._root)
        elif name.startswith("rename"):
            (from_parent, from_name), (to_parent, to_name) = self._parent(paths[0]), self._parent(paths[1])
            to_parent.entries[to_name] = from_parent.entries.pop(from_name)
        elif name.startswith("link"):
            to_parent, to_name = self._parent(paths[1])
            to_parent.entries[to_name] = self._linked(at, paths[0])
        elif name.startswith("mkdir"):
            parent, last = self._parent(paths[0])
            parent.entries[last] = _Directory()
        elif name in ("unlink", "unlinkat", "rmdir"):
            parent, last = self._parent(paths[0])
            del parent.entries[last]
        else:
            raise AssertionError(f"a call that is not known here: {call}")
        return True

    def _write(self, call: Call, file: _File) -> None:
        """Change a file's content, or make it durable."""
        name, at = call.name, call.arguments
        if name in ("write", "pwrite64"):
            data = at[1]
            assert isinstance(data, bytes)
            offset = int(str(at[3])) if name == "pwrite64" else self._positions[call.fds[0]]
            if name == "write":
                self._positions[call.fds[0]] = offset + call.result
            file.data.extend(bytes(max(0, offset - len(file.data))))
            file.data[offset : offset + call.result] = data[: call.result]
        elif name in ("ftruncate", "truncate"):
            size = int(str(at[1]))
            del file.data[size:]
            file.data.extend(bytes(size - len(file.data)))
        elif name == "fallocate":
            file.data.extend(bytes(max(0, int(str(at[2])) + int(str(at[3])) - len(file.data))))
        elif name == "lseek":
            self._positions[call.fds[0]] = call.result
        elif name in ("fsync", "fdatasync"):
            self._sync(file)
        else:
            raise AssertionError(f"a call that is not known here: {call}")

    def _linked(self, arguments: tuple[bytes | str | None, ...], path: str) -> _File:
        """The file that gets another name: by its own, or by its descriptor when it has none."""
        by_fd = next((each for each in arguments if isinstance(each, bytes) and each.startswith(_BY_FD)), None)
        return self._file(path) if by_fd is None else self._unnamed[int(by_fd.removeprefix(_BY_FD))]

    def _find(self, path: str) -> _File | _Directory:
        found: _File | _Directory = self._root
        for name in filter(None, path.split("/")):
            assert isinstance(found, _Directory)
            found = found.entries[name]
        return found

    def _file(self, path: str) -> _File:
        found = self._find(path)
        assert isinstance(found, _File)
        return found

    def _parent(self, path: str) -> tuple[_Directory, str]:
        parent, _, name = path.rpartition("/")
        found = self._find(parent)
        assert isinstance(found, _Directory)
        return found, name

    def _sync(self, what: _File | _Directory) -> None:
        if isinstance(what, _File):
            what.synced = bytes(what.data)
        else:
            what.synced = dict(what.entries)

    def _sync_all(self, directory: _Directory) -> None:
        self._sync(directory)
        for entry in directory.entries.values():
            if isinstance(entry, _Directory):
                self._sync_all(entry)
            else:
                self._sync(entry)

    def after_power_loss(self, kept: Sequence[str]) -> Tree:
        tree: Tree = {}

        def add(directory: _Directory, prefix: str) -> None:
            entries = directory.entries if "names" in kept else directory.synced
            for name, entry in entries.items():
                path = prefix + name
                if isinstance(entry, _Directory):
                    tree[path] = None
                    add(entry, f"{path}/")
                elif not name.endswith(_NEVER_KEPT):
                    lives = ("rows" if _DATABASE.search(name) else "content") in kept
                    tree[path] = bytes(entry.data) if lives else entry.synced

        add(self._root, "")
        return tree


class Disk(_Disk):
    """As it was before a program was recorded; made first, for it reads what is there."""

    def crashes(self, calls: Sequence[Call]) -> Iterator[State]:
        """The states that a power loss may leave after each call, each state once; those of the whole run last."""
        seen: set[bytes] = set()
        for number, call in enumerate(calls):
            if not self.apply(call):
                continue
            if number + 1 < len(calls) and call.name in ("write", "pwrite64") and calls[number + 1].name == call.name:
                continue  # what is torn inside a run of writes is nobody's promise: each run counts as one
            for kept in _SUBSETS:
                tree = self.after_power_loss(kept)
                mark = hashlib.sha256(repr((sorted(tree.items()), self.promised)).encode()).digest()
                if mark not in seen:
                    seen.add(mark)
                    yield State(tree, number + 1, kept, tuple(self.promised))


_SUBSETS: Final = tuple(
    subset for size in range(4) for subset in itertools.combinations(("content", "rows", "names"), size)
)
