"""Finding the repository that a directory of this machine is in, and asking it, as its owner, what it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from builder.remotes.gitprogram import Ended, GitProgram
from builder.remotes.gitroute import route_nowhere
from ci.errors import RepositoryError
from ci.source.mirror import FETCHING
from core.cancellation import check
from core.files import make_directory, scratch_directory
from core.settings import FetchSettings, user_directories
from images.mirrors import DIRECTORY as TOP

MAX_TEXT_BYTES: Final = 1 << 20
_TREE: Final = "tree"
_MOST_BORROWED: Final = 10
_SHOWN_BYTES: Final = 1000
_HEEDED: Final = "autocrlf|eol|filemode|ignorecase|precomposeunicode|symlinks"
_NO_REPOSITORY: Final = "not a git repository"
_NO_TREE: Final = "must be run in a work tree"


class Found(NamedTuple):
    """A repository of this machine.

    top: its working tree.
    common: the directory that all of its working trees have in common.
    index_file: of this working tree.
    objects: directories of objects: its own, and those that it borrows from.
    object_format: ``sha1`` or ``sha256``.
    commit, branch: what HEAD is; empty for no commit yet, and for no branch.
    refs: its branches and tags, as packed refs have them.
    settings: ``name=value`` of what its configuration says about how files are looked at.
    ignored: what its user ignores everywhere.
    owner: the user and group of the working tree.
    """

    top: Path
    common: Path
    index_file: Path
    objects: tuple[Path, ...]
    object_format: str
    commit: str
    branch: str
    refs: bytes
    settings: tuple[str, ...]
    ignored: bytes
    owner: tuple[int, int]


def find_repository(root: Path, path: Path, bounds: FetchSettings) -> Found:
    """The repository that ``path`` is in. root: the store's. Raises RepositoryError with the next step."""
    path = path.absolute()
    if not path.is_dir():
        raise RepositoryError(f"{path} is no directory")
    make_directory(root / TOP, mode=0o700)
    with scratch_directory(root / TOP, FETCHING) as scratch:
        (scratch / _TREE).mkdir(mode=0o755)
        if os.geteuid() == 0:
            scratch.chmod(0o711)
        return _Asking(scratch, path, bounds).found()


def read_of(path: Path, owner: int, most_bytes: int = MAX_TEXT_BYTES) -> bytes | None:
    """What is in a file of the owner's; None for one that is not there, is somebody else's, or cannot be read."""
    found = read_with_time(path, owner, most_bytes)
    return None if found is None else found[0]


def read_with_time(path: Path, owner: int, most_bytes: int) -> tuple[bytes, int] | None:
    """The same, and when it was written, in nanoseconds since the epoch."""
    fd = open_of(path, owner)
    if fd is None:
        return None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        return (file.read(most_bytes), info.st_mtime_ns) if info.st_size <= most_bytes else None


def open_of(path: Path, owner: int) -> int | None:
    """A descriptor of a file of the owner's; None as for ``read_of``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or (os.geteuid() == 0 and info.st_uid != owner):
        os.close(fd)
        return None
    return fd


def told_by(ended: Ended) -> str:
    """What git said of its failure, for a message."""
    return ended.told[-_SHOWN_BYTES:].decode("utf-8", "replace").strip() or str(ended.code)


class _Asking:
    """Questions to the repository that a directory is in, by a git that runs as the directory's owner."""

    def __init__(self, scratch: Path, path: Path, bounds: FetchSettings) -> None:
        self._scratch = scratch
        self._path = path
        self._bounds = bounds
        info = path.stat()
        self._owner = (info.st_uid, info.st_gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

    def found(self) -> Found:
        places, head, branch, refs, own, *more = self._ask(
            (
                "rev-parse", "--path-format=absolute", "--show-toplevel", "--git-common-dir",
                "--git-path", "index", "--git-path", "objects", "--show-object-format",
            ),
            ("rev-parse", "--quiet", "--verify", "HEAD^{commit}"),
            ("symbolic-ref", "--quiet", "--short", "HEAD"),
            ("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"),
            ("config", "--null", "--get-regexp", f"^core\\.({_HEEDED})$"),
        )  # fmt: skip
        if places.code:
            raise self._not_one(places)
        lines = os.fsdecode(places.out).removesuffix("\n").split("\n")
        if len(lines) != 5:
            raise RepositoryError(f"the path of the repository at {self._path} has a line break", hint="rename it")
        top, common, index, objects = (Path(line) for line in lines[:4])
        self._check_owner(top)
        user = _settings((more[0] if more else self._of_user()).out)
        everywhere = user.pop("core.excludesfile", "")
        return Found(
            top, common, index, self._borrowed(objects), lines[4],
            head.out.decode().strip(), branch.out.decode("utf-8", "surrogateescape").strip(), refs.out,
            tuple(f"{name}={value}" for name, value in (user | _settings(own.out)).items()),
            self._ignored(everywhere), self._owner,
        )  # fmt: skip

    def _ask(self, *questions: Sequence[str]) -> list[Ended]:
        """Answers of the repository's git, and of the user's where both are the same user."""
        commands = [["git", "-C", str(self._path), "-c", "safe.directory=*", *words] for words in questions]
        if self._owner == _ourselves() and (question := _of_user()) is not None:
            commands.append(question)
        return self._run(self._owner, commands)

    def _of_user(self) -> Ended:
        question = _of_user()
        return Ended(0, b"", b"") if question is None else self._run(_ourselves(), [question])[0]

    def _ignored(self, named: str) -> bytes:
        homes = user_directories()
        usual = Path(homes.get("XDG_CONFIG_HOME") or f"{homes.get('HOME', '/nonexistent')}/.config", "git", "ignore")
        path = Path(named) if named else usual
        return read_of(path, os.geteuid()) or b""

    def _run(self, owner: tuple[int, int], commands: Sequence[Sequence[str]]) -> list[Ended]:
        program = GitProgram(self._scratch, _TREE, owner=owner, bounds=self._bounds, question=check)
        return program.run_all(commands, route_nowhere().environment)

    def _check_owner(self, top: Path) -> None:
        if os.geteuid() == 0 and top.stat().st_uid != self._owner[0]:
            raise RepositoryError(
                f"{self._path} and {top}, which is the working tree that it is in, belong to different users",
                hint=f"run it in {top}, or as the user to whom it belongs",
            )

    def _borrowed(self, objects: Path) -> tuple[Path, ...]:
        """A directory of objects, and those that it names, and so on."""
        found: list[Path] = []
        waiting = [objects]
        while waiting:
            path = waiting.pop(0).resolve()
            if path in found:
                continue
            if os.geteuid() == 0 and path.is_dir() and path.stat().st_uid != self._owner[0]:
                raise RepositoryError(
                    f"the repository at {self._path} borrows objects of somebody else's: {path}",
                    hint="git repack -a -d makes it whole; then remove .git/objects/info/alternates",
                )
            if len(found) == _MOST_BORROWED:
                raise RepositoryError(f"the repository at {self._path} borrows objects from too many others")
            found.append(path)
            named = read_of(path / "info" / "alternates", self._owner[0]) or b""
            waiting += [path / os.fsdecode(line) for line in named.split(b"\n") if line and not line.startswith(b"#")]
        return tuple(path for path in found if path.is_dir())

    def _not_one(self, ended: Ended) -> RepositoryError:
        told = told_by(ended)
        if _NO_REPOSITORY in told:
            hint = "git init makes one of it; nothing has to be committed"
            return RepositoryError(f"{self._path} is in no git repository", hint=hint)
        if _NO_TREE in told:
            return RepositoryError(f"{self._path} is a repository without files", hint="run it in a clone of it")
        return RepositoryError(f"git cannot read the repository at {self._path}: {told}")


def _ourselves() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def _of_user() -> list[str] | None:
    """The question what the configuration of who started us says; the file is their own. None: there can be none."""
    homes = user_directories()
    if "HOME" not in homes:
        return None
    variables = [f"{name}={value}" for name, value in homes.items()]
    words = ("config", "--global", "--includes", "--null", "--type=path", "--get-regexp")
    return ["env", "-u", "GIT_CONFIG_GLOBAL", *variables, "git", *words, f"^core\\.(excludesfile|{_HEEDED})$"]


def _settings(listed: bytes) -> dict[str, str]:
    """``name NEWLINE value NUL`` as git lists them; the last of a name counts."""
    entries = (entry.partition("\n") for entry in os.fsdecode(listed).split("\0") if entry)
    return {name: value if separator else "true" for name, separator, value in entries}
