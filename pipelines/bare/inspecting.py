"""Whether a bare repository is fit to be served to others than its owner.

git obeys some things in a repository: configuration that starts programs, and links or alternates that lead to the
objects of others. Whoever may write to the repository by its path may put them there; whoever pushes over HTTP cannot.
But git would obey them at a push, too, and run with the service's rights. So a repository that has such things is not
served.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Final

from core.owners import user_name
from pipelines.errors import BareRepositoryError

_SEGMENT: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?"
NAME: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,3}}")
"""The path of a repository below ROOT/git, without ``.git``."""

_REFUSED_FILES: Final = ("objects/info/alternates", "objects/info/http-alternates", "commondir", "gitdir")
_MAX_CONFIG_BYTES: Final = 64 << 10
_NOBODY: Final = 65534
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ALLOWED: Final = re.compile(
    r"core\.(?:repositoryformatversion|filemode|bare|ignorecase|symlinks|precomposeunicode|logallrefupdates|"
    r"sharedrepository|compression|loosecompression|bigfilethreshold|packedgit\w+|deltabasecachelimit|fsync\w*|"
    r"commitgraph|multipackindex)|"
    r"extensions\.(?:objectformat|refstorage)|"
    r"(?:receive|transfer|uploadpack|http|pack|repack|user|gitweb|index|init)\.[a-z0-9]+|"
    r"receive\.fsck\.[a-z0-9]+|"
    r"gc\.(?!recentobjectshook)[a-z0-9]+|"
    r"remote\..*\.(?:url|pushurl|fetch|push|mirror|tagopt|prune)|"
    r"branch\..*\.(?:remote|merge)",
    re.DOTALL,
)
_STARTS_PROGRAMS: Final = frozenset({"uploadpack.packobjectshook", "receive.procreceiverefs", "receive.certnonceseed"})


def locate(top: Path, name: str) -> Path:
    """The directory TOP/NAME.git. Links to it are the administrator's own. Raises BareRepositoryError."""
    path = (top / f"{name}.git").resolve()
    if NAME.fullmatch(name) is None or not all((path / part).exists() for part in ("HEAD", "config", "objects")):
        raise BareRepositoryError(f"there is no repository {name[:200]}.git")
    return path


def inspect(repository: Path) -> None:
    """Raises BareRepositoryError when the repository is not fit to be served."""
    try:
        for name in _REFUSED_FILES:
            if os.path.lexists(repository / name):
                raise BareRepositoryError(
                    f"{repository.name} has {name}: it borrows from elsewhere",
                    hint="let it have its own: git repack -a -d, then remove that file",
                )
        _refuse_links(str(repository), but="hooks")  # no hook in there runs
        _check_configuration(repository)
    except OSError as error:
        raise BareRepositoryError(f"{repository.name} cannot be read: {error.strerror}") from error


def _refuse_links(directory: str, but: str = "") -> None:
    """Refuse links, and all else that is no file or directory, at any depth. but: an entry that is not looked into."""
    try:
        listed = os.scandir(directory)
    except FileNotFoundError:  # a file of git's that existed only for a moment
        return
    with listed as entries:
        for entry in entries:
            if entry.name == but:
                continue
            if entry.is_dir(follow_symlinks=False):
                _refuse_links(entry.path)
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                raise BareRepositoryError(f"{entry.name[:200]} in the repository is a link, or no file")


def check_writable(repository: Path) -> None:
    """Raises BareRepositoryError when git, as the user that serves the repository, could not write all of it.

    Whoever pushed by the path as another user, as root, has left directories there that only they may write to. A push
    over HTTP would fail at the object that belongs into one of them: one push does, and another does not.
    """
    try:
        user = os.geteuid() or repository.stat().st_uid  # root has git run as the owner
        if found := _closed(str(repository), user):
            place, name = os.path.relpath(found, repository.parent), user_name(user)
            raise BareRepositoryError(
                f"{place} cannot be written to by {name}, as whom git runs: somebody else pushed by the path",
                hint=f"as root, on the service's host: chown -R {name}: {repository}",
            )
    except OSError as error:
        raise BareRepositoryError(f"{repository.name} cannot be read: {error.strerror}") from error


def _closed(directory: str, user: int) -> str:
    """The first directory, at any depth, that git cannot write to as this user; empty: none."""
    is_root = os.geteuid() == 0  # of a repository of root's all is mapped to nobody, as whom git runs
    try:
        if os.stat(directory).st_uid != user if is_root else not os.access(directory, os.W_OK | os.X_OK):
            return directory if os.path.lexists(directory) else ""
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.name != "hooks" and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # a directory of another push's that existed only for a moment
        return ""
    return next(filter(None, (_closed(path, user) for path in below)), "")


def _check_configuration(repository: Path) -> None:
    fd = os.open(repository / "config", _FLAGS)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_CONFIG_BYTES:
            raise BareRepositoryError(f"the configuration of {repository.name} is no file, or too large")
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if key in _known_good:
            return
        words = ["git", "config", "--file", "-", "--no-includes", "--null", "--name-only", "--list"]
        nobody, groups = (_NOBODY, ()) if os.geteuid() == 0 else (None, None)
        done = subprocess.run(  # git's own reading of this file, and of no other
            words, stdin=file, capture_output=True, check=False, cwd="/", env={"PATH": os.defpath}, user=nobody,
            group=nobody, extra_groups=groups,
        )  # fmt: skip
    if done.returncode:
        raise BareRepositoryError(f"git cannot read the configuration of {repository.name}")
    for name in filter(None, done.stdout.decode(errors="replace").split("\0")):
        if not _ALLOWED.fullmatch(name) or name in _STARTS_PROGRAMS:
            raise BareRepositoryError(
                f"the configuration of {repository.name} has {name[:200]}, which is not obeyed for others",
                hint=f"take it out: git -C {repository.name} config unset",
            )
    if len(_known_good) > _MAX_KNOWN:
        _known_good.clear()
    _known_good[key] = True


_MAX_KNOWN: Final = 1000
_known_good: Final[dict[tuple[int, ...], bool]] = {}
"""Files of configuration that were looked at, by what changes when they do."""
