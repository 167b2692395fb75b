"""The source of a run from git: one commit, fetched, and what jobs get of it. A damaged mirror is fetched anew once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import GitRemote
from ci.errors import DamagedRepositoryError
from ci.failedfiles import GitPlace
from ci.model import SourceOptions
from ci.source.facts import Commit, describe, read_commit
from ci.source.gitview import GitView
from ci.source.layers import layers_of
from ci.source.lfs import Pointer, fetching, lfs_layer, pointers_of
from ci.source.mirror import Fetched, Mirror
from ci.source.objects import Objects
from ci.source.submodules import SubmoduleAccess, submodule_layers
from core.closing import Closing
from core.digests import DiffID
from images.store import Store

_Read = TypeVar("_Read")


class _Reads(Protocol):
    """Reads from a repository."""

    def __call__(self, ask: Callable[[Objects], _Read], /) -> _Read: ...


class WantedCommit(NamedTuple):
    """What is to be run.

    project: whose mirror it is.
    remote, access: how it is fetched. Of a fork's: the fork's remote; its access has no credentials of the project.
    ref: as for ``Mirror.fetch``, and so are commit and others.
    fork: tells the fork apart from others; empty: it is none.
    base: of a fork's, the remote of the repository that it is a fork of, whose mirror it borrows from.
    ask_head: as for ``Mirror.fetch``.
    """

    project: str
    remote: GitRemote
    access: GitAccess
    ref: str
    commit: str = ""
    others: Sequence[str] = ()
    fork: str = ""
    base: GitRemote | None = None
    ask_head: bool = False


@contextlib.contextmanager
def git_again(store: Store, place: GitPlace) -> Iterator[GitView | None]:
    """``.git`` as a job had it at its beginning; None: its commit is not in the mirror any more. Nothing is fetched.

    Raises RepositoryError for a mirror that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        mirror = stack.enter_context(Mirror.open(store.root, place.project, place.url))
        if place.fork:
            mirror = stack.enter_context(mirror.of_fork(place.fork))
        if not mirror.is_there or not mirror.objects.has(place.commit):
            yield None
            return
        commit = read_commit(mirror.objects, place.commit)
        yield _git_view(store, mirror, lambda ask: ask(mirror.objects), commit, place)


def _git_view(store: Store, mirror: Mirror, read: _Reads, commit: Commit, place: GitPlace) -> GitView:
    large: Sequence[Pointer] = read(lambda objects: pointers_of(objects, commit.tree)) if place.has_large else ()
    return GitView(
        store, mirror.key, mirror.objects, commit, commit.tree, branch=place.branch, history=place.history,
        origin=place.origin, alone=bool(place.fork), large=large, place=place,
    )  # fmt: skip


class FetchedCommit(Closing):
    """A commit, and what jobs get of it for as long as this is open.

    fetched: what came of it.
    commit: what it says of itself.
    """

    def __init__(self, store: Store, wanted: WantedCommit, stopped: Callable[[], bool] = lambda: False) -> None:
        """Fetch it. Raises RepositoryError, and the builder's errors of fetching."""
        self._store = store
        self._wanted = wanted
        self._stopped = stopped
        self._mirror = self._open()
        try:
            self.fetched = self._fetch(wanted.commit, wanted.others, ask_head=wanted.ask_head)
            self.commit = self._insist(lambda: read_commit(self._mirror.objects, self.fetched.commit))
        except BaseException:
            self._mirror.close()
            raise

    @property
    def objects(self) -> Objects:
        """For reading. What ``read`` can do is better done by that."""
        return self._mirror.objects

    def read(self, ask: Callable[[Objects], _Read]) -> _Read:
        """What ``ask`` says of the repository. Where that is found damaged, it is asked again, of a new one."""
        return self._insist(lambda: ask(self.objects))

    def beside(self, others: Sequence[str]) -> dict[str, str]:
        """By ref, the commits of other refs, which need not exist; they are fetched as by ``Mirror.fetch``."""
        return self._fetch(self.fetched.commit, others).others

    def facts(self) -> dict[str, str]:
        """Those of ``ci.facts`` that a commit has."""
        return self._insist(lambda: describe(self.objects, self.commit))

    def layers(self, options: SourceOptions) -> tuple[DiffID, ...]:
        """Its files as layers, base first; above them what Git LFS has of them, and submodules, where wanted."""
        wanted, tree = self._wanted, self.commit.tree
        layers = self._insist(lambda: layers_of(self._store, self._mirror.key, self.objects, tree))
        if options.lfs:
            large = self._insist(lambda: self._large(tree))
            layers += (large,) if large is not None else ()
        if not options.submodules:
            return layers
        project = f"{wanted.project} {wanted.fork}" if wanted.fork else wanted.project
        way = SubmoduleAccess(project, wanted.access, self._stopped)
        return layers + self.read(lambda objects: submodule_layers(self._store, objects, tree, wanted.remote, way))

    def git_view(self, options: SourceOptions) -> GitView | None:
        """``.git`` of its workspaces; None where there is to be none."""
        if options.history == 0:
            return None
        wanted = self._wanted
        origin = "" if wanted.remote.scheme == "file" else wanted.remote.url
        place = GitPlace(
            wanted.project, (wanted.base or wanted.remote).url, wanted.fork, self.commit.id, self.fetched.branch,
            options.history, origin, options.lfs,
        )  # fmt: skip
        return _git_view(self._store, self._mirror, self.read, self.commit, place)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mirror.__exit__(kind, error, trace)

    def close(self) -> None:
        self._mirror.close()

    def _large(self, tree: str) -> DiffID | None:
        find = fetching(self.objects, self._wanted.remote, self._wanted.access, self._stopped)
        return lfs_layer(self._store, self._mirror.key, self.objects, tree, find)

    def _open(self) -> Mirror:
        of_project = self._of_project()
        if not self._wanted.fork:
            return of_project
        with of_project:
            return of_project.of_fork(self._wanted.fork)

    def _of_project(self) -> Mirror:
        wanted = self._wanted
        return Mirror.open(
            self._store.root, wanted.project, (wanted.base or wanted.remote).url, bounds=wanted.access.bounds
        )

    def _renew(self) -> None:
        """Fetch it into another mirror than the one that is damaged."""
        self._mirror.throw_away()
        if self._wanted.fork:  # the damage may be in what it borrows
            self._mirror.close()
            with self._of_project() as of_project:
                self._mirror = of_project.of_fork_alone(self._wanted.fork)
        self._fetch(self.fetched.commit, self._wanted.others)

    def _fetch(self, commit: str, others: Sequence[str], *, ask_head: bool = False) -> Fetched:
        wanted = self._wanted
        return self._mirror.fetch(
            wanted.remote,
            wanted.access,
            wanted.ref,
            commit=commit,
            others=others,
            ask_head=ask_head,
            stopped=self._stopped,
        )

    def _insist(self, read: Callable[[], _Read]) -> _Read:
        """Read from the mirror; if that is damaged, once more from a new one."""
        try:
            return read()
        except DamagedRepositoryError as error:
            if error.directory == self._mirror.objects.directory:  # else it was a submodule's, which is gone by now
                self._renew()
            return read()
