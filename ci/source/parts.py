"""The files of parts: from a commit, from a working tree, and from other repositories, by full commit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from builder.errors import FetchError, FetchUnreachableError, InvalidUrlError
from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import parse_remote
from ci.errors import DamagedRepositoryError, RepositoryError
from ci.files import read_pipeline_file
from ci.language.names import PartPlace
from ci.parts import ReadPart
from ci.source.commit import FetchedCommit
from ci.source.facts import file_of_tree, read_commit
from ci.source.mirror import Mirror
from core.errors import OutOfReachError


class PartsElsewhere(NamedTuple):
    """The way to the parts of other repositories.

    root: the store's; mirrors are below it.
    project: whose mirrors these get.
    access: the run's own, to other hosts.
    stopped: asked every now and then.
    """

    root: Path
    project: str
    access: GitAccess
    stopped: Callable[[], bool] = lambda: False

    def read(self, place: PartPlace) -> bytes:
        """The file. Raises RepositoryError for what is not there, and FetchUnreachableError."""
        try:
            remote = parse_remote(place.url)
            with Mirror.open(self.root, self.project, remote.url, bounds=self.access.bounds) as mirror:
                try:
                    return self._read(mirror, place)
                except DamagedRepositoryError:
                    mirror.throw_away()
                    return self._read(mirror, place)
        except FetchUnreachableError:
            raise
        except (FetchError, InvalidUrlError, OutOfReachError) as error:
            raise RepositoryError(error.message, hint=error.hint) from error

    def _read(self, mirror: Mirror, place: PartPlace) -> bytes:
        mirror.fetch(parse_remote(place.url), self.access, place.commit, stopped=self.stopped)
        return file_of_tree(mirror.objects, read_commit(mirror.objects, place.commit).tree, place.path)


def parts_of_commit(commit: FetchedCommit, elsewhere: PartsElsewhere) -> ReadPart:
    """Parts of a commit's own tree, and those from elsewhere."""

    def own(path: str) -> bytes:
        return commit.read(lambda objects: file_of_tree(objects, commit.commit.tree, path))

    return lambda place: elsewhere.read(place) if place.url else own(place.path)


def parts_of_directory(top: Path, elsewhere: PartsElsewhere) -> ReadPart:
    """Parts of a working tree, and those from elsewhere."""
    return lambda place: elsewhere.read(place) if place.url else _file_of(top, place.path)


def _file_of(top: Path, path: str) -> bytes:
    """A file of a working tree. A link counts no more here than in a commit. Raises CiError."""
    place = top
    for step in path.split("/"):
        place /= step
        try:
            is_link = stat.S_ISLNK(os.lstat(place).st_mode)
        except OSError:
            raise RepositoryError(f"there is no file {path}") from None
        if is_link:
            raise RepositoryError(f"{path} is behind a link", hint="write the part itself there, no link to it")
    return read_pipeline_file(place)
