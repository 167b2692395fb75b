"""Mirrors: a bare repository for each (project, URL) that stays, and gets what is new by one fetch at a time.

A mirror only grows while somebody looks at it. One that is damaged is set aside, and fetched anew. Fetching makes
nothing of what a server says but objects, tags, and a ref of ours for each branch that was asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from builder.errors import FetchError, FetchUnreachableError
from builder.remotes.gitprogram import NOBODY, Bind, borrowing
from builder.remotes.gitroute import GitAccess
from builder.remotes.gitserver import Found, GitServer, Head, is_commit
from builder.remotes.gitshell import GitShell
from builder.remotes.giturls import GitRemote, check_ref, is_ref
from ci.errors import DamagedRepositoryError, RepositoryError
from ci.source.locking import holding, holding_if_free
from ci.source.objects import FOLDER, Objects, disk_full, is_disk_full
from core.cancellation import asking
from core.closing import Closing
from core.errors import ShiplapError
from core.files import fsync_directory, make_directory, reclaim_scratch, scratch_directory, storage_errors
from core.settings import FetchSettings
from images.mirrors import DIRECTORY as TOP

FETCHING: Final = ".fetching-"
_MAKING: Final = ".making-"
_TREE: Final = "tree"
_OURS: Final = "refs/shiplap/"
_LOOKING_S: Final = 600.0  # packing anew, for which readers wait, takes less
_PATIENCE_S: Final = 60.0  # beyond what one fetch may take
_MOST_PACKS: Final = 50
_MOST_LOOSE: Final = 6700
_LEFT: Final = re.compile(r".*\.lock")  # no ref ends so
_LEFT_IN_OBJECTS: Final = re.compile(r".*\.lock|tmp_.*|\.tmp-.*")
_CONFIG: Final = "[fetch]\n\tunpackLimit = 1\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
_DAMAGE: Final = re.compile(  # what git says of a repository of its own that is not in order
    r"(?i)bad (?:object|tree|config|signature)|corrupt|missing (?:blob|tree|commit|necessary|object)|unable to read|"
    r"not a git repository|could not (?:parse|read)|unable to (?:unpack|find)|inflate|packfile|index file|"
    r"invalid (?:object|sha1|index)|loose object|object file|failed to read|hash mismatch|cannot be accessed|"
    r"did not receive expected|not a valid object|does not point to a valid|unable to (?:create|resolve|write)|"
    r"cannot lock ref|early EOF|did not send all"
)
_SHUT: Final = "cannot change to '.'"  # it is somebody else's, as what was copied by hand
_OTHER_FORMAT: Final = "mismatched algorithms"
_NOT_THERE: Final = re.compile(
    r"couldn't find remote ref|not our ref|unadvertised object|no such remote ref|upload-pack: not our"
)
_log = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """What was asked for, and is in the mirror now.

    commit: the one that was asked for.
    branch, tag: if the ref is one.
    others: by ref, the commits of the other refs; those that are not there are left out.
    head: the server's, where it was asked for.
    """

    commit: str
    branch: str
    tag: str
    others: dict[str, str]
    head: Head = Head()


class Mirror(Closing):
    """One mirror, which stays as it is for as long as this is open: it may get more objects, and loses none.

    Whoever leaves its ``with`` by finding it damaged has it fetched anew the next time.
    Threads: any; fetches take turns. objects: for reading.
    """

    def __init__(
        self,
        root: Path,
        key: str,
        name: str,
        bounds: FetchSettings,
        *,
        of_fork: bool = False,
        lender: str = "",
        borrowed: tuple[Path, ...] = (),
        owner: tuple[int, int] = (NOBODY, NOBODY),
    ) -> None:
        """Hold the locks by which others see that it, and the one that it borrows from, are in use.

        name: for people.
        of_fork: what is in it is a stranger's.
        lender: the key of the mirror that it borrows from.
        borrowed, owner: as in ``Objects``.
        """
        self._top = root / TOP
        self.key = key
        self._name = name
        self.is_of_fork = of_fork
        self._owner = owner
        self._bounds = bounds
        self._directory = self._top / key
        make_directory(self._top, mode=0o700)
        for prefix in (_MAKING, FETCHING):
            reclaim_scratch(self._top, prefix)
        with contextlib.ExitStack() as stack:
            for each in filter(None, (lender, key)):
                stack.enter_context(holding(self._top / f"{each}.use", _LOOKING_S, shared=True))
            lent = self._top / lender / FOLDER / "objects"
            self._borrowed = (lent,) if lender and lent.is_dir() else borrowed
            self._stack = stack.pop_all()
        # One for as long as this is open: a run asks a dozen short questions, and a sandbox for each takes longer.
        alone = Objects(self._directory, self._borrowed, self._owner, self._bounds)
        self._shell = GitShell(alone.program, self._directory)
        self._alone = alone
        if _is_whole(self._directory / FOLDER):
            self._shell.warm()

    @classmethod
    def open(cls, root: Path, project: str, url: str, *, bounds: FetchSettings | None = None) -> Self:
        """The mirror of a repository for a project. project: empty for the host's own use. Fetches nothing."""
        return cls(root, _digest(project, url), f"{project} {url}".strip(), bounds or FetchSettings())

    @classmethod
    def beside(
        cls, root: Path, name: str, borrowed: tuple[Path, ...], owner: tuple[int, int], bounds: FetchSettings
    ) -> Self:
        """A repository that borrows from others on this machine, and fetches nothing. name: tells it from others."""
        return cls(root, _digest("beside", name), name, bounds, borrowed=borrowed, owner=owner)

    def of_fork(self, name: str) -> Self:
        """A repository beside this one, for what a fork has. name: tells forks apart. It borrows from this mirror."""
        key = f"{self.key}-{_digest(name)[:16]}"
        named = f"{self._name}, fork {name}"
        return type(self)(self._top.parent, key, named, self._bounds, of_fork=True, lender=self.key)

    def of_fork_alone(self, name: str) -> Self:
        """The same, which borrows nothing: for when this one seems to be damaged, of which no fork is to judge."""
        key = f"{self.key}-{_digest(name, 'alone')[:16]}"
        return type(self)(self._top.parent, key, f"{self._name}, fork {name} alone", self._bounds, of_fork=True)

    @property
    def is_there(self) -> bool:
        """Whether it has been fetched, and is here."""
        return _is_whole(self._directory / FOLDER)

    @property
    def objects(self) -> Objects:
        """For reading; valid while this is open."""
        return self._alone._replace(shell=self._shell)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Keep others from writing; gives the lock's descriptor. Raises RepositoryError when it stays held."""
        with holding(self._path(".lock"), self._bounds.time_s + _PATIENCE_S) as lock:
            if not os.fstat(lock).st_size:
                with storage_errors(str(self._top)):
                    os.write(lock, self._name.encode("utf-8", "backslashreplace"))
            os.utime(lock)  # when it was last used
            yield lock

    def fetch(
        self,
        remote: GitRemote,
        access: GitAccess,
        ref: str,
        *,
        commit: str = "",
        others: Sequence[str] = (),
        ask_head: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Fetched:
        """Have a commit, all of its history, and the server's tags.

        ref: a branch, a tag, a commit, a full ref; empty for the default branch.
        commit: which one it was when the run was asked for; it counts, whatever the ref has become since then.
        others: more refs or commits, which need not exist.
        ask_head: ask the server for its default branch, whatever is known; its ref is then one of the others.
        Raises RepositoryError, and the builder's FetchError, FetchUnreachableError, InvalidUrlError and
        BuildCancelledError.
        """
        for name in (ref, commit, *others):
            check_ref(name)
        wanted = [name for name in (commit or ref, *others) if is_commit(name)]
        with self.locked() as lock:
            self.prepare("sha256" if any(len(name) == 64 for name in wanted) else "sha1")
            asked = _Asked(remote, access, ref, commit, tuple(others), ask_head, stopped, lock)
            try:
                return self._fetch_cleanly(asked)
            except FetchError as error:
                if is_disk_full(error.message):
                    raise disk_full(f"fetching {remote.url}") from error
                if isinstance(error, FetchUnreachableError) or not self._is_to_blame(error):
                    raise
                self._set_aside()
                self.prepare("sha256" if _OTHER_FORMAT in error.message else "sha1")
                return self._fetch_cleanly(asked)

    def throw_away(self) -> None:
        """Set a mirror aside that was found to be damaged; the next fetch begins anew."""
        with self.locked():
            self._set_aside()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, DamagedRepositoryError) and error.directory == self._directory:
                with contextlib.suppress(ShiplapError):  # somebody else writes to it: the next one finds the damage too
                    self.throw_away()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it. If nobody else looks, remove what was set aside, and make one pack of many."""
        self._shell.close()
        self._stack.close()
        aside, is_scattered = list(self._top.glob(f"{self.key}.away-*")), self._is_scattered()
        if not aside and not is_scattered:
            return
        with holding_if_free(self._path(".use")) as unseen, holding_if_free(self._path(".lock")) as unlocked:
            if not unseen or not unlocked:
                return
            for path in aside:
                _remove(path)
            if is_scattered:
                self._pack()

    def _pack(self) -> None:
        """Make one pack of many. It spares the next ones time: no run fails for it, nor is held up by its own end."""
        with asking(_go_on):
            try:
                self._clean()
                self._alone.run("repack", "-d", "-l", "-q", "--geometric=2")
            except (RepositoryError, FetchError) as error:
                _log.warning("mirror %s stays as it is: %s", self.key, error)

    def _fetch_cleanly(self, asked: _Asked) -> Fetched:
        """What a fetch that failed has left would take the disk until the next one, perhaps all of it."""
        try:
            return self._fetch(asked)
        except BaseException:
            with contextlib.suppress(OSError):  # it is done before the next fetch, too
                self._clean()
            raise

    def _fetch(self, asked: _Asked) -> Fetched:
        wanted = asked.commit or asked.ref
        # The server knows what its branches are; a tag may be new where its commit is not.
        may_be_here = is_commit(asked.ref) or asked.ref.startswith("refs/heads/")
        may_be_here = may_be_here and not asked.ask_head and all(map(is_commit, asked.others))
        known = self._commits_of(filter(is_commit, (*([wanted] if may_be_here else []), *asked.others)))
        missing = [name for name in asked.others if name not in known]
        if may_be_here and wanted in known and not missing:
            return self._answer(asked.ref, "", asked)
        with self._server(asked) as server:
            head = server.head() if asked.ask_head else Head()
            if head.branch and (ref := f"refs/heads/{head.branch}") not in asked.others and is_ref(ref):
                asked = asked._replace(others=(*asked.others, ref))
                missing.append(ref)
            found = Found(asked.ref, ()) if asked.ref.startswith("refs/") else server.find(asked.ref)
            essential = [] if is_commit(found.name) else [found.name]
            self._get(server, [*essential, *missing], len(essential))
            for commit in filter(is_commit, (found.name, asked.commit)):
                if not self._known(commit):
                    self._get_commit(server, commit, asked)
            return self._answer(found.name, found.branch, asked)._replace(head=head)

    def _get(self, server: GitServer, refs: Sequence[str], essential: int) -> None:
        """Fetch these refs; those beyond the first ``essential`` ones need not be there."""
        if not refs:
            return
        try:
            self._fetch_refs(server, refs)
        except FetchError as error:
            if len(refs) == 1 or not _NOT_THERE.search(error.message):
                raise
            for number, ref in enumerate(refs):
                try:
                    self._fetch_refs(server, [ref])
                except FetchError as alone:
                    if number < essential or not _NOT_THERE.search(alone.message):
                        raise

    def _fetch_refs(self, server: GitServer, refs: Sequence[str]) -> None:
        self._run_fetch(server, [f"+{ref}:{_own_name(ref)}" for ref in refs])

    def _run_fetch(self, server: GitServer, specs: list[str]) -> None:
        words = ["fetch", "--quiet", "--no-auto-maintenance", "--no-recurse-submodules", "--no-write-fetch-head"]
        if not self.is_of_fork:  # a fork's tags say nothing
            words, specs = [*words, "--prune"], [*specs, "+refs/tags/*:refs/tags/*"]
        server.run(*words, "--no-tags", "--", server.url, *specs)

    def _get_commit(self, server: GitServer, commit: str, asked: _Asked) -> None:
        """Fetch a commit that may be on no branch any more; servers may have it all the same."""
        try:
            self._fetch_refs(server, [commit])
        except FetchError as error:
            if not _NOT_THERE.search(error.message):
                raise
            self._run_fetch(server, [f"+refs/heads/*:{_OURS}heads/*"])  # it gives no commits, only branches
        if self._known(commit):
            return
        if commit != asked.commit:
            raise RepositoryError(f"{asked.remote.url} has no commit {commit}, or gives no commits away")
        raise RepositoryError(
            f"{asked.remote.url} has no commit {commit[:12]} any more: {asked.ref or 'its branch'} was pushed by force",
            hint="what was pushed since then has a run of its own",
        )

    def _answer(self, name: str, default: str, asked: _Asked) -> Fetched:
        """What a fetch of the name found.

        default: the branch where the name does not say it.
        """
        known = self._commits_of([*([] if asked.commit else [name]), *asked.others])
        commit = asked.commit or known.get(name)
        if commit is None:
            raise RepositoryError(f"{name} of {asked.remote.url} is no commit")
        others = {other: known[other] for other in asked.others if other in known}
        branch, tag = name.removeprefix("refs/heads/"), name.removeprefix("refs/tags/")
        return Fetched(commit, branch if branch != name else default, tag if tag != name else "", others)

    def _known(self, name: str) -> bool:
        return is_commit(name) and self.objects.has(name)

    def _commits_of(self, names: Iterable[str]) -> dict[str, str]:
        """The commits of those of the server's refs and of those hashes that are here, by name."""
        asked = list(dict.fromkeys(names))
        found = self.objects.commits([name if is_commit(name) else _own_name(name) for name in asked])
        return {name: commit for name, commit in zip(asked, found, strict=True) if commit is not None}

    @contextlib.contextmanager
    def _server(self, asked: _Asked) -> Iterator[GitServer]:
        with scratch_directory(self._top, FETCHING) as directory:
            (directory / _TREE).mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(directory, NOBODY, NOBODY)
            binds, environment = borrowing(directory, self._borrowed)
            with GitServer(
                asked.remote,
                directory,
                _TREE,
                asked.access,
                asked.stopped,
                binds=(Bind(self._directory / FOLDER, _TREE, readonly=False), *binds),
                environment=environment,
                pass_fds=(asked.lock,),
            ) as server:
                yield server

    def _is_to_blame(self, error: FetchError) -> bool:
        """Whether the mirror itself may be why a fetch failed, and a new one may help."""
        if _SHUT in error.message:
            return True
        if error.hint is not None or _NOT_THERE.search(error.message):
            return False
        if _OTHER_FORMAT in error.message or _DAMAGE.search(error.message):
            return True
        try:
            self.objects.run("for-each-ref", "--count=1")
        except DamagedRepositoryError:
            return True
        return False

    def prepare(self, object_format: str) -> None:
        """Have a repository that git can write into. The caller holds the lock: what a git left there is of a dead one.

        object_format: of a new one.
        """
        if _is_whole(self._directory / FOLDER):
            self._clean()
            return
        if self._directory.exists():
            self._set_aside()
        with storage_errors(str(self._top)), scratch_directory(self._top, _MAKING) as directory:
            made = directory / "new"
            (made / FOLDER).mkdir(mode=0o700, parents=True)
            if os.geteuid() == 0:
                os.chown(made, *self._owner)
                os.chown(made / FOLDER, *self._owner)
            words = ("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            Objects(made, owner=self._owner, bounds=self._bounds).run(*words, f"--object-format={object_format}", ".")
            with open(made / FOLDER / "config", "a") as file:
                file.write(_CONFIG)
                file.flush()
                os.fsync(file.fileno())
            os.rename(made, self._directory)
        fsync_directory(self._top)

    def _clean(self) -> None:
        """Remove what a git that was killed has left."""
        repository, objects = self._directory / FOLDER, self._directory / FOLDER / "objects"
        for folder, _, names in os.walk(repository):
            left = _LEFT_IN_OBJECTS if Path(folder).is_relative_to(objects) else _LEFT
            for name in filter(left.fullmatch, names):
                os.unlink(os.path.join(folder, name))
        for name in os.listdir(objects):
            if name.startswith(("tmp_objdir", "incoming-")):
                shutil.rmtree(objects / name)

    def _set_aside(self) -> None:
        self._shell.close()
        number = 0
        while (aside := self._path(f".away-{number}")).exists():
            number += 1
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._directory, aside)

    def _is_scattered(self) -> bool:
        objects = self._directory / FOLDER / "objects"
        with contextlib.suppress(FileNotFoundError):
            if sum(name.endswith(".pack") for name in os.listdir(objects / "pack")) > _MOST_PACKS:
                return True
            return len(os.listdir(objects / "17")) > _MOST_LOOSE / 256  # git's own way to guess
        return False

    def _path(self, suffix: str) -> Path:
        return self._top / f"{self.key}{suffix}"


class _Asked(NamedTuple):
    """One fetch, as it was asked for. lock: the descriptor of the mirror's, which git holds, too."""

    remote: GitRemote
    access: GitAccess
    ref: str
    commit: str
    others: tuple[str, ...]
    ask_head: bool
    stopped: Callable[[], bool]
    lock: int


def _remove(aside: Path) -> None:
    """Remove what was set aside, whatever has come in a mirror's place. No run fails for it."""
    try:
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    except OSError as error:
        _log.warning("%s stays: %s", aside, error)


def _go_on() -> None:
    """The question that is never answered by an end."""


def _own_name(ref: str) -> str:
    """Where a ref of the server's is kept: names of branches may not be beside each other (``a`` and ``a/b``)."""
    return f"{_OURS}{hashlib.sha256(ref.encode()).hexdigest()[:32]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_whole(repository: Path) -> bool:
    return all((repository / name).exists() for name in ("HEAD", "config", "objects/pack", "refs"))
