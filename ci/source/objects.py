"""Reading a repository's objects: trees, differences, contents; each question is one git, which connects to nothing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from typing import IO, Final, NamedTuple

from builder.remotes.gitprogram import NOBODY, Ended, GitProgram, borrowing
from builder.remotes.gitroute import route_nowhere
from builder.remotes.gitshell import GitShell
from ci.errors import DamagedRepositoryError, RepositoryError, SourceFileError
from core.cancellation import check
from core.errors import StorageFullError
from core.files import reclaim_scratch, scratch_directory
from core.settings import FetchSettings

FOLDER: Final = "repository"
_MADE: Final = ".packing-"
_SHOWN_BYTES: Final = 1000
_READ_AT_ONCE: Final = 1 << 20
_FEW: Final = 500
_LITTLE: Final = 8 << 20  # bytes of contents that are read at once
_READERS: Final = 2  # gits that inflate contents beside each other: one takes longer than whoever writes them down
_SHEAF: Final = 64  # contents that each of them gives in turn
_AHEAD: Final = 1 << 20  # bytes that each may be ahead
_MAX_FILTERED_BYTES: Final = 1 << 30  # git holds all of it in memory, and so do we

DIRECTORY: Final = b"040000"
EXECUTABLE: Final = b"100755"
LINK: Final = b"120000"
SUBMODULE: Final = b"160000"
_NOTHING: Final = b"000000"
_DIFF: Final = ("diff-tree", "-r", "-t", "-z", "--raw", "--no-renames")


class Entry(NamedTuple):
    """What a tree has under a path. mode: as git writes it. id: of the object, in hexadecimal."""

    mode: bytes
    id: bytes
    path: bytes


class Change(NamedTuple):
    """A path in which two trees differ. before: its mode there, before and now; empty where it does not exist."""

    before: bytes
    now: bytes
    id: bytes
    path: bytes


class Objects(NamedTuple):
    """A repository of ours, and what it borrows.

    directory: the one that has it as ``repository``.
    borrowed: directories of objects of other repositories.
    owner: the user and group that git runs as.
    bounds: of every single git.
    shell: answers short questions; None: each git has a sandbox of its own.
    """

    directory: Path
    borrowed: tuple[Path, ...] = ()
    owner: tuple[int, int] = (NOBODY, NOBODY)
    bounds: FetchSettings = FetchSettings()
    shell: GitShell | None = None

    @property
    def path(self) -> Path:
        """The directory of its own objects."""
        return self.directory / FOLDER / "objects"

    def run(self, *words: str, stdin: IO[bytes] | None = None) -> bytes:
        """What git prints. Raises DamagedRepositoryError when it fails: everything that is asked for is there."""
        if stdin is None:
            ended = self._ended(words)
        else:
            program, process = self._start(words, stdin)
            ended = program.finish(process, f"git {words[0]}")
        if ended.code:
            raise self.damaged(words, ended.told)
        return ended.out

    def run_all(self, *commands: Sequence[str]) -> list[Ended]:
        """What came of several gits, one after the other. It takes hardly longer than one."""
        whole = [self._command(words) for words in commands]
        found = None if self.shell is None else self.shell.run_all(whole)
        if found is None:
            program, environment = self.program()
            found = program.run_all(whole, environment)
        return found

    def has(self, name: str, kind: str = "commit") -> bool:
        """Whether there is an object, and it is, or leads to, one of this kind."""
        words = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{{kind}}}")
        return self._ended(words).code == 0

    def commits(self, names: Sequence[str]) -> list[str | None]:
        """The commits that these are, or lead to, in this order; None for what is not here, or cannot be read.

        names: refs or hashes.
        """
        if not names:
            return []
        wanted = [f"{name}^{{commit}}".encode() for name in names]
        told = self._ended(("cat-file", "--batch-check=%(objectname)", "--buffer"), wanted).out
        lines = told.decode("utf-8", "replace").splitlines()
        if len(lines) != len(names):
            return [None] * len(names)
        return [line if line.isalnum() else None for line in lines]

    def ask(self, *words: str) -> bytes | None:
        """What git prints; None when the answer is no, which it says by its exit code 1."""
        ended = self._ended(words)
        if ended.code not in (0, 1):
            raise self.damaged(words, ended.told)
        return ended.out if ended.code == 0 else None

    def entries(self, tree: str, *paths: str) -> list[Entry]:
        """All that is in a tree, at any depth; directories come before what is in them.

        paths: these alone; of one with a slash at its end, what is right in it.
        """
        depth = () if paths else ("-r", "-t")
        listed = self.run("ls-tree", *depth, "-z", "--full-tree", tree, *(["--", *paths] if paths else []))
        lines = _parts(listed)
        if not lines:
            return []
        digits = len(lines[0].partition(b"\t")[0].rpartition(b" ")[2])
        found = []
        for line in lines:
            tab = line.index(b"\t")
            found.append(Entry(line[:6], line[tab - digits : tab], line[tab + 1 :]))
        return found

    def changes(self, before: str, now: str) -> list[Change]:
        """The paths in which two trees differ, directories too: a removed one comes with all that was in it."""
        return _changes(self.run(*_DIFF, before, now))

    def changes_since(self, before: str, now: str) -> list[Change] | None:
        """The same; None where the tree of before is not here."""
        there, told = self.run_all(("rev-parse", "--quiet", "--verify", f"{before}^{{tree}}"), (*_DIFF, before, now))
        if there.code:
            return None
        if told.code:
            raise self.damaged(_DIFF, told.told)
        return _changes(told.out)

    def changed_paths(self, before: str, now: str) -> tuple[str, ...]:
        """The paths of files that two commits or trees do not have in common."""
        listed = self.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, now)
        return tuple(os.fsdecode(path) for path in _parts(listed))

    def sizes(self, ids: Sequence[bytes]) -> list[int]:
        """The sizes of these objects, in this order. Raises DamagedRepositoryError for one that is not there."""
        words = ("cat-file", "--batch-check=%(objectsize)", "--buffer")
        ended = self._ended(words, ids)
        if ended.code:
            raise self.damaged(words, ended.told)
        try:
            return [int(size) for size in ended.out.split(b"\n")[:-1]]
        except ValueError:
            raise self.damaged(words, ended.out[-_SHOWN_BYTES:]) from None

    @contextmanager
    def packed(self, ids: Sequence[bytes]) -> Iterator[list[Path]]:
        """A pack of these objects and its index, as files that go with the block."""
        reclaim_scratch(self.directory, _MADE)
        with _lines(ids) as asked, scratch_directory(self.directory, _MADE) as place:
            if os.geteuid() == 0:
                os.chown(place, *self.owner)
            self.run("pack-objects", "-q", f"../{place.name}/pack", stdin=asked)
            yield sorted(place.glob("pack-*"))

    @contextmanager
    def contents(self, ids: Sequence[bytes]) -> Iterator[Iterator[tuple[int, IO[bytes]]]]:
        """The contents of these blobs, in this order: of each its size, and what to read exactly so many bytes from.

        Raises DamagedRepositoryError for one that is not there.
        """
        words = ("cat-file", "--batch", "--buffer")
        if self.shell is not None and len(ids) <= _FEW and sum(self.sizes(ids)) <= _LITTLE:
            yield self._answers(words, io.BytesIO(self._ended(words, ids).out), len(ids))
            return
        with ExitStack() as stack:
            sheaves = [ids[start : start + _SHEAF] for start in range(0, len(ids), _SHEAF)]
            readers = max(1, min(_READERS, len(sheaves) - 1))
            outs = []
            for number in range(readers):
                asked = stack.enter_context(_lines([each for sheaf in sheaves[number::readers] for each in sheaf]))
                outs.append(stack.enter_context(self._running(words, asked)))
            yield self._in_turn(words, outs, sheaves)

    @contextmanager
    def filtered(self, tree: str, wanted: Sequence[tuple[bytes, bytes]]) -> Iterator[Iterator[bytes]]:
        """The contents of blobs as a checkout of the tree has them. wanted: of each its ID and its path."""
        mark = os.urandom(16).hex()  # git tells the size of what it has, not of what the filters make of it
        with tempfile.TemporaryFile() as asked:
            asked.writelines(oid + b" " + path + b"\0" for oid, path in wanted)
            asked.seek(0)
            words = (f"--attr-source={tree}", "cat-file", f"--batch={mark}%(objecttype)", "-z", "--buffer", "--filters")
            with self._running(words, asked) as out:
                yield self._marked(words, out, f"{mark}blob\n".encode(), wanted)

    def _in_turn(
        self, words: Sequence[str], outs: Sequence[IO[bytes]], sheaves: Sequence[Sequence[bytes]]
    ) -> Iterator[tuple[int, IO[bytes]]]:
        for number, sheaf in enumerate(sheaves):
            yield from self._answers(words, outs[number % len(outs)], len(sheaf))

    def _answers(self, words: Sequence[str], out: IO[bytes], count: int) -> Iterator[tuple[int, IO[bytes]]]:
        for _ in range(count):
            head = out.readline()
            parts = head.split()
            if len(parts) != 3 or parts[1] != b"blob":
                raise self.damaged(words, head or b"it ended early")
            yield int(parts[2]), out
            if out.read(1) != b"\n":
                raise self.damaged(words, b"a blob has another size than git says")

    def _marked(
        self, words: Sequence[str], out: IO[bytes], mark: bytes, wanted: Sequence[tuple[bytes, bytes]]
    ) -> Iterator[bytes]:
        """Contents between marks that no commit can know."""
        data = bytearray(out.read(len(mark)))
        for number in range(len(wanted)):
            if data[: len(mark)] != mark:
                raise self.damaged(words, bytes(data[:_SHOWN_BYTES]) or b"it ended early")
            is_last = number == len(wanted) - 1
            at, looked = -1, len(mark)
            while at < 0:
                at = -1 if is_last else data.find(b"\n" + mark, looked)
                if at < 0:
                    check()
                    looked = max(len(mark), len(data) - len(mark))
                    more = out.read(_READ_AT_ONCE)
                    if not more:
                        at = len(data) - 1
                    data += more
                    if len(data) > _MAX_FILTERED_BYTES:
                        shown = os.fsdecode(wanted[number][1])
                        raise SourceFileError(f"{shown} is too big for what .gitattributes want of it")
            yield bytes(data[len(mark) : at])
            del data[: at + 1]

    @contextmanager
    def _running(self, words: Sequence[str], stdin: IO[bytes]) -> Iterator[IO[bytes]]:
        """A git whose output is read while it runs; it ends with the block. Raises DamagedRepositoryError."""
        _, process = self._start(words, stdin)
        late = threading.Timer(self.bounds.time_s, process.kill)
        late.start()
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            with suppress(OSError):  # as much as a user may
                fcntl(process.stdout, F_SETPIPE_SZ, _AHEAD)
            try:
                yield process.stdout
                rest, told = process.stdout.read(1), process.stderr.read()
            except BaseException:
                process.kill()
                raise
            finally:
                late.cancel()
        if process.returncode == -signal.SIGKILL:
            raise RepositoryError(
                f"reading {self.directory} did not end within {self.bounds.time_s} s",
                hint="SHIPLAP_FETCH_TIME is how long it may take",
            )
        if process.returncode or rest:
            raise self.damaged(words, told or b"it printed too much")

    def _ended(self, words: Sequence[str], lines: Sequence[bytes] = ()) -> Ended:
        """How a git ended whose output is not long. lines: what it reads, hashes or names of ours."""
        if self.shell is not None and (found := self.shell.run_all([self._command(words)], lines)) is not None:
            return found[0]
        with _lines(lines) as asked:
            program, process = self._start(words, asked)
            return program.finish(process, f"git {words[0]}")

    def _start(self, words: Sequence[str], stdin: IO[bytes] | None) -> tuple[GitProgram, subprocess.Popen[bytes]]:
        program, environment = self.program()
        return program, program.start(self._command(words), environment, stdin=stdin)

    def program(self) -> tuple[GitProgram, dict[str, str]]:
        """What starts git in it, and git's variables."""
        binds, environment = borrowing(self.directory, self.borrowed)
        program = GitProgram(self.directory, FOLDER, binds=binds, owner=self.owner, bounds=self.bounds, question=check)
        return program, {**route_nowhere().environment, **environment}

    def _command(self, words: Sequence[str]) -> list[str]:
        return ["git", "--git-dir=.", "--literal-pathspecs", *route_nowhere().settings, *words]

    def damaged(self, words: Sequence[str], told: bytes) -> DamagedRepositoryError | StorageFullError:
        """The error for a git that failed although all is there. told: what it said."""
        text = told[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()
        if is_disk_full(text):
            return disk_full(f"reading the repository {self.directory}")
        verb = next((word for word in words if not word.startswith("-")), "")
        return DamagedRepositoryError(
            f"git {verb} cannot read the repository {self.directory}: {text or 'no word of why'}", self.directory
        )


def is_disk_full(told: str) -> bool:
    """Whether git says so."""
    return "No space left on device" in told or "Disk quota exceeded" in told


def disk_full(what: str) -> StorageFullError:
    """The error for a git that had no space left. what: it was doing."""
    return StorageFullError(
        f"no space left on the disk while {what}",
        hint="free some space (shiplap image prune removes what nothing uses) and run it again",
    )


@contextmanager
def _lines(ids: Sequence[bytes]) -> Iterator[IO[bytes]]:
    """A file with an ID a line: git may read it as it likes, while its answers are read."""
    with tempfile.TemporaryFile() as file:
        file.writelines(oid + b"\n" for oid in ids)
        file.seek(0)
        yield file


def _changes(listed: bytes) -> list[Change]:
    parts = iter(_parts(listed))
    found = []
    for head, path in zip(parts, parts, strict=True):
        old, new, _, oid, _ = head[1:].split(b" ")
        found.append(Change(b"" if old == _NOTHING else old, b"" if new == _NOTHING else new, oid, path))
    return found


def _parts(listed: bytes) -> list[bytes]:
    return listed.split(b"\0")[:-1]
