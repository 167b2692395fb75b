"""Submodules: each has a mirror of its own, and its files are layers below its path, as its commit has them.

Where it comes from says the commit, so a stranger may have written it: every URL is checked as a run's own, none leads
to a repository of this machine, and their number and depth are bounded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec

from builder.errors import InvalidUrlError
from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import GitRemote, parse_remote
from ci.errors import DamagedRepositoryError, RepositoryError
from ci.source.facts import read_commit
from ci.source.layers import layers_of
from ci.source.mirror import Mirror
from ci.source.objects import SUBMODULE, Objects
from ci.source.workingtree import LocalRepository
from core.cancellation import check
from core.digests import DiffID
from images.store import Store

_FILE: Final = ".gitmodules"
_NO_CONFIG: Final = re.compile(r"bad config line \d+")
_MOST: Final = 100
_DEEPEST: Final = 10


class Submodule(NamedTuple):
    """A submodule of a tree. url: as .gitmodules has it; empty where it has none."""

    path: str
    commit: str
    url: str


class SubmoduleAccess(NamedTuple):
    """How submodules are fetched.

    project: whose mirrors they get.
    access: the run's own, to other hosts.
    stopped: asked every now and then.
    """

    project: str
    access: GitAccess
    stopped: Callable[[], bool] = lambda: False


def submodules_of(objects: Objects, tree: str) -> list[Submodule]:
    """The submodules of a tree, by path. Raises RepositoryError for a .gitmodules that says something twice."""
    links = [entry for entry in objects.entries(tree) if entry.mode == SUBMODULE]
    if not links:
        return []
    urls = _urls(objects, tree) if objects.entries(tree, _FILE) else {}
    found = [(os.fsdecode(link.path), link.id.decode()) for link in links]
    return [Submodule(path, commit, urls.get(path, "")) for path, commit in found]


def submodule_layers(
    store: Store, objects: Objects, tree: str, remote: GitRemote, way: SubmoduleAccess
) -> tuple[DiffID, ...]:
    """The layers of all submodules of a tree, and of theirs, to be laid over the tree's own.

    remote: of the tree's repository, from where relative URLs count.
    Raises RepositoryError, SourceFileError, and what fetching raises.
    """
    fetching = _Fetching(store, way)
    fetching.add(objects, tree, remote, "", 1)
    return tuple(fetching.layers)


def local_submodule_layers(store: Store, repository: LocalRepository, tree: str) -> tuple[DiffID, ...]:
    """The same of a working tree: from the submodules' own working trees. Raises RepositoryError."""
    layers: list[DiffID] = []
    _add_local(store, repository, tree, "", layers)
    return tuple(layers)


class _Fetching:
    """The layers so far."""

    def __init__(self, store: Store, way: SubmoduleAccess) -> None:
        self._store = store
        self._project = way.project
        self._access = msgspec.structs.replace(way.access, local=None)
        self._stopped = way.stopped
        self._count = 0
        self.layers: list[DiffID] = []

    def add(self, objects: Objects, tree: str, remote: GitRemote, prefix: str, depth: int) -> None:
        for submodule in submodules_of(objects, tree):
            check()
            self._count += 1
            path = f"{prefix}{submodule.path}"
            if self._count > _MOST or depth > _DEEPEST:
                raise RepositoryError(
                    f"there are more than {_MOST} submodules, or some are in {_DEEPEST} others: {path}"
                )
            self._add_one(submodule, path, _remote_of(submodule, path, remote), depth)

    def _add_one(self, submodule: Submodule, path: str, remote: GitRemote, depth: int) -> None:
        with Mirror.open(self._store.root, self._project, remote.url, bounds=self._access.bounds) as mirror:
            mirror.fetch(remote, self._access, submodule.commit, stopped=self._stopped)
            tree = read_commit(mirror.objects, submodule.commit).tree
            self.layers += layers_of(self._store, mirror.key, mirror.objects, tree, prefix=path)
            self.add(mirror.objects, tree, remote, f"{path}/", depth + 1)


def _add_local(store: Store, repository: LocalRepository, tree: str, prefix: str, layers: list[DiffID]) -> None:
    for submodule in submodules_of(repository.objects, tree):
        check()
        path, place = f"{prefix}{submodule.path}", repository.top / submodule.path
        if not (place / ".git").exists():
            raise RepositoryError(
                f"the submodule {path} is not here", hint="git submodule update --init --recursive fetches it"
            )
        with LocalRepository.open(store.root, place) as inner:
            files = inner.tree()
            layers += layers_of(store, inner.key, inner.objects, files, prefix=path)
            _add_local(store, inner, files, f"{path}/", layers)


def _urls(objects: Objects, tree: str) -> Mapping[str, str]:
    """By path, where .gitmodules says that a submodule comes from."""
    members: dict[tuple[str, str], str] = {}
    try:
        listed = objects.run("config", f"--blob={tree}:{_FILE}", "--null", "--list")
    except DamagedRepositoryError as error:
        found = _NO_CONFIG.search(error.message)
        if found is None:
            raise
        raise RepositoryError(f".gitmodules is no configuration of git's: {found[0]}") from error  # its author's fault
    for entry in os.fsdecode(listed).split("\0"):
        key, _, value = entry.partition("\n")
        name, _, member = key.removeprefix("submodule.").rpartition(".")
        if key.startswith("submodule.") and member in ("path", "url"):
            if (name, member) in members:
                raise RepositoryError(f".gitmodules says the {member} of submodule {name[:100]!r} twice")
            members[name, member] = value
    return {path: members.get((name, "url"), "") for (name, member), path in members.items() if member == "path"}


def _remote_of(submodule: Submodule, path: str, above: GitRemote) -> GitRemote:
    """Where a submodule comes from. Raises RepositoryError."""
    if not submodule.url:
        raise RepositoryError(f"{path} is a submodule, and .gitmodules does not say where it comes from")
    url = submodule.url
    if url.startswith(("./", "../")):
        url = _joined(above, url, path)
    try:
        return parse_remote(url)
    except InvalidUrlError as error:
        raise RepositoryError(f"the submodule {path}: {error.message}", hint=error.hint) from error


def _joined(above: GitRemote, url: str, path: str) -> str:
    """A relative URL, as git reads it: from the repository's own, which counts as a directory."""
    if above.scheme == "file":
        raise RepositoryError(
            f"the submodule {path} would come from {url[:100]!r}, beside a repository of this machine",
            hint="write its whole URL into .gitmodules",
        )
    parts = urlsplit(above.url)
    is_short = not parts.scheme or "://" not in above.url  # user@host:path
    front, _, place = above.url.partition(":") if is_short else ("", "", parts.path)
    steps = place.rstrip("/").split("/")
    for step in url.split("/"):
        if step == "..":
            if not steps or steps == [""]:
                raise RepositoryError(f"the submodule {path} would come from above the server's root: {url[:100]!r}")
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    joined = "/".join(steps)
    return f"{front}:{joined}" if is_short else urlunsplit((parts.scheme, parts.netloc, joined, "", ""))
