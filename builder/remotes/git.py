"""Git repositories, fetched shallowly by a git that can do little else.

- Only the protocols of ``core.fetchable.PORTS``. In a service, the address of each host is checked and pinned
  (``gitroute``), also for every submodule. No redirects are followed.
- No hooks, no filters, no configuration but ours. What the user wrote never is an option. Submodules only where asked.
- git runs as nobody, within limits: see ``gitprogram``.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from builder.errors import FetchError
from builder.remotes.gitprogram import NOBODY
from builder.remotes.gitroute import GitAccess, route_to
from builder.remotes.gitserver import Found, GitServer
from builder.remotes.giturls import GitRemote, parse_remote
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_GIT_LINK: Final = "160000 "  # a submodule's mode in the index
_TREE: Final = "tree"


class Checkout(msgspec.Struct, frozen=True):
    """What was fetched.

    tree: the directory that was asked for.
    committed_at: seconds since the epoch.
    hashes: of the commit, and of the tag that led to it.
    """

    tree: Path
    commit: str
    committed_at: int
    hashes: tuple[str, ...] = ()

    def check(self, found: Found) -> None:
        """Raises FetchError when it is not what ``find`` found: a branch may move between question and fetch."""
        if not set(self.hashes) & set(found.hashes):
            raise FetchError(f"{found.name} moved while it was fetched", hint="run the same command again")


class Git(GitServer):
    """One repository, in a directory that is made. A context manager, which ends the SSH agent that git may use.

    directory: belongs to this object as a whole; the caller removes it.
    stopped: asked every now and then.
    url: as git gets it.
    Every method raises FetchError, and BuildCancelledError once stopped.
    """

    def __init__(self, remote: GitRemote, directory: Path, access: GitAccess, stopped: Callable[[], bool]) -> None:
        self.tree = directory / _TREE
        directory.mkdir(mode=0o700)
        self.tree.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
            os.chown(self.tree, NOBODY, NOBODY)
        super().__init__(remote, directory, _TREE, access, stopped)
        self.is_public = access.reach.public_only and not access.local and not access.reach.names(*_place(remote))
        """Whether all that was fetched so far is at public addresses, and not let through by name."""
        self.run("init", "--quiet", "--template=", "--initial-branch=master", ".")

    def checkout(
        self, found: Found, *, subdirectory: str = "", keep: bool = False, submodules: bool = False
    ) -> Checkout:
        """Fetch the commit, and put its files into ``tree``. keep: leave ``.git`` there, as in a shallow clone."""
        self.run("remote", "add", "origin", self.url)
        target = f"+{found.name}:{found.name}" if keep and found.name.startswith("refs/") else found.name
        self._fetch(target)
        parsed = self.run("rev-parse", "FETCH_HEAD^{commit}", "FETCH_HEAD").split()
        commit = parsed[0]
        self.run("checkout", "--quiet", "--detach", "--no-recurse-submodules", commit)
        if submodules and (self.tree / ".gitmodules").is_file():
            self._fetch_submodules()
        committed_at = int(self.run("show", "--no-patch", "--format=%ct", commit).split()[-1])
        if keep:
            self.run("reflog", "expire", "--all", "--expire=now")
            (self.tree / ".git/FETCH_HEAD").unlink()
        else:
            for name in [".git", *(found for found in _git_links(self.tree) if submodules)]:
                _remove(self.tree / name)
        return Checkout(_below(self.tree, subdirectory), commit, committed_at, tuple(parsed))

    def _fetch_submodules(self) -> None:
        if not self._access.reach.public_only:
            self.run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
            return
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            waiting += [os.path.join(folder, path) for path in self._fetch_level(folder)]

    def _fetch_level(self, folder: str) -> list[str]:
        """Fetch the submodules that a repository itself names. Returns their paths.

        First the URLs of all are checked. Then each is fetched, with its address pinned.
        """
        if not (self.tree / folder / ".gitmodules").is_file():
            return []
        self.run("submodule", "--quiet", "init", folder=folder)
        urls = self._named(folder, "url", "--local")
        paths = self._named(folder, "path", "--file", ".gitmodules")
        staged = self.run("ls-files", "--stage", "-z", folder=folder).split("\0")
        links = {entry.partition("\t")[2] for entry in staged if entry.startswith(_GIT_LINK)}
        routes = []
        for name, url in urls.items():
            path = paths.get(name, "")
            if path not in links:  # git has looked it up by its path, but may read a file like this in another way
                raise FetchError(f"{self._remote.url}: .gitmodules does not say where submodule {name[:100]!r} is")
            remote = parse_remote(url)
            route = route_to(remote, self._access, self._ssh)
            self.is_public = self.is_public and not self._access.reach.names(*_place(remote))
            # The URL as it was checked, not as git would read the file.
            self.run("config", "--local", f"submodule.{name}.url", route.url, folder=folder)
            routes.append((path, route))
        update = ("submodule", "--quiet", "update", "--checkout", "--depth=1", "--")
        for path, route in routes:
            self.run(*update, path, folder=folder, route=route)
        return [path for path, _ in routes]

    def _named(self, folder: str, member: str, *where: str) -> dict[str, str]:
        """One setting of all submodules in a configuration file, by submodule. Raises FetchError if it comes twice."""
        found: dict[str, str] = {}
        for entry in self.run("config", *where, "--null", "--list", folder=folder).split("\0"):
            key, _, value = entry.partition("\n")
            if key.startswith("submodule.") and key.endswith(f".{member}"):
                name = key.removeprefix("submodule.").removesuffix(f".{member}")
                if name in found:
                    raise FetchError(f"{self._remote.url}: .gitmodules names submodule {name[:100]!r} twice")
                found[name] = value
        return found

    def _fetch(self, target: str) -> None:
        words = ("fetch", "--quiet", "--update-head-ok", "--no-tags", "--no-recurse-submodules")
        try:
            self.run(*words, "--depth=1", "--", "origin", target)
        except FetchError as error:
            if "shallow" not in error.message and "--depth" not in error.message:
                raise
            self.run(*words, "--", "origin", target)  # a server of files only: it has all or nothing


def _place(remote: GitRemote) -> tuple[str, int]:
    return remote.host, remote.port


def _git_links(tree: Path) -> list[str]:
    """The paths of submodules' ``.git`` files, whose targets do not exist any more."""
    found = []
    for folder, directories, files in os.walk(tree):
        if ".git" in directories:
            directories.remove(".git")
        if ".git" in files:
            found.append(os.path.relpath(os.path.join(folder, ".git"), tree))
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _below(tree: Path, subdirectory: str) -> Path:
    """A subdirectory of the tree. The kernel confines the lookup; a link in the path is refused."""
    subdirectory = subdirectory.strip("/")
    if subdirectory in ("", "."):
        return tree
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = openat2(root, subdirectory, os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise FetchError(f"the repository has no directory {subdirectory!r}: {error.strerror}") from error
    finally:
        os.close(root)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)
    if not is_directory:
        raise FetchError(f"{subdirectory!r} in the repository is not a directory")
    return tree / os.path.normpath(subdirectory)
