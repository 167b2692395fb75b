"""Kept pushes: a bare repository's hook keeps those that it could not report, and the service takes them when it runs.

    ROOT/git/NAME.git/shiplap-pending/TIME-N.json    {"url": …, "headers": {…}, "body": …}, as it would have been sent
                                      ….refused      what the service would not have

A kept push is a delivery like any other: the signature is checked, filters hold, and an id that came before starts
nothing. Only what a hook kept is built; that a ref exists is not enough. Whoever may write to the repository may write
here, too: so nothing in it is believed, and no link is followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from pipelines.errors import ConflictError
from pipelines.forges.errors import WebhookError
from pipelines.hooks.receiving import Receiver
from pipelines.model import Project
from pipelines.projects.projects import Projects

DIRECTORY: Final = "shiplap-pending"
"""The directory in the repository; pipelines/bare/post_receive.py has the same name."""

_MAX_BYTES: Final = 64 << 10
_MAX_FILES: Final = 1000  # of one repository at once
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_log = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True):
    """A file that the hook left."""

    headers: dict[str, str]
    body: str


class PendingPushes:
    """The kept pushes of all bare repositories. Thread-safe.

    top: ROOT/git, the only place where repositories are looked at.
    """

    def __init__(self, projects: Projects, receiver: Receiver, top: Path) -> None:
        self._projects = projects
        self._receiver = receiver
        self._top = top

    def deliver(self) -> int:
        """Take all kept pushes; returns how many. Raises DatabaseUnreachableError, SecretError."""
        return sum(self._deliver(project) for project in self._projects.list() if project.hook.forge == "plain")

    def _deliver(self, project: Project) -> int:
        repository = _path(project)
        if repository is None or not repository.is_relative_to(self._top):
            return 0
        taken = 0
        try:
            with _locked(repository / DIRECTORY) as directory:
                for name in _names(directory) if directory is not None else ():
                    self._take(project, directory, name)
                    taken += 1
        except ConflictError as error:  # the hook is reporting it at this moment
            _log.info("project %s: %s", project.name, error)
        except OSError as error:
            _log.warning("project %s: kept pushes in %s: %s", project.name, repository, error)
        return taken

    def _take(self, project: Project, directory: int | None, name: str) -> None:
        try:
            kept = _read(directory, name)
            headers = {key.lower(): value for key, value in kept.headers.items()}
            answer = self._receiver.receive(project.name, headers, kept.body.encode())
        except FileNotFoundError:
            return
        except (WebhookError, msgspec.DecodeError) as error:
            _log.warning("project %s: the kept push %s is refused: %s", project.name, name, error)
            os.rename(name, f"{name}.refused", src_dir_fd=directory, dst_dir_fd=directory)
            return
        _log.info("project %s: a kept push was taken: %s", project.name, answer.delivery.reason)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


def _path(project: Project) -> Path | None:
    """The project's repository, if it is on this machine."""
    parts = urlsplit(project.hook.repository)
    return Path(os.path.normpath(parts.path)) if parts.scheme == "file" and not parts.netloc else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The directory, locked so that no hook reports from it; None: it does not exist, or a hook has the lock."""
    try:
        fd = os.open(path, _DIRECTORY_FLAGS)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    except BlockingIOError:
        yield None
    finally:
        os.close(fd)


def _names(directory: int) -> list[str]:
    """File names of the pushes, the oldest first."""
    found = [name for name in os.listdir(directory) if name.endswith(".json") and not name.startswith(".")]
    return sorted(found)[:_MAX_FILES]


def _read(directory: int | None, name: str) -> Kept:
    """Raises FileNotFoundError; msgspec.DecodeError for a file that no hook wrote."""
    data = b""
    if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        with open(os.open(name, _FILE_FLAGS, dir_fd=directory), "rb") as file:
            data = file.read(_MAX_BYTES)
    return msgspec.json.decode(data, type=Kept)
