"""Working in a container's file tree, running or not, from a process that is the container's root and no more.

A child does it. For a container that runs, it joins the container's user namespace: owners are what the container sees,
and its rights end where the container's do. The way in is the root directory that the keeper gives. For one that does
not run, it mounts the layers with what was written on top, and the volumes, in a mount namespace of its own. Paths are
resolved by openat2 inside that root: no link of the container's leads out of it, whoever changes it meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

from containers import mounts, syscalls
from containers.errors import ContainerError, KeeperError
from containers.events import readable
from containers.rootfs import Layers, beneath, rooted
from core.cancellation import check
from core.errors import ShiplapError
from core.kernel import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from engine.errors import ConflictError, EngineError, InvalidRequestError, PathNotFoundError
from engine.keepers import Keepers

CONFINED: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_KINDS: Final[Mapping[str, type[ShiplapError]]] = {
    kind.__name__: kind for kind in (ConflictError, EngineError, InvalidRequestError, PathNotFoundError)
}
_PATIENCE_S: Final = 600.0
_LOOK_EACH_S: Final = 0.5
_DEATH_S: Final = 5.0
_stuck: Final[deque[int]] = deque()

Work: TypeAlias = Callable[[int], dict[str, Any]]
"""What a child does with a descriptor of the root; what it returns comes back."""


class Running(NamedTuple):
    """The tree of a container that runs. keepers: who asks its keeper. pid: the host's number of its first process."""

    keepers: Keepers
    identity: str
    pid: int

    def enter(self) -> int:
        """Become the container's root; its root directory. In a child only."""
        with self.keepers.connect(self.identity) as keeper:
            _answer, (root,) = keeper.ask("root")
        namespace = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        # The number may be another process's by now; then its root is another, too.
        if not os.path.samestat(os.stat(f"/proc/{self.pid}/root"), os.fstat(root)):
            raise ConflictError("the container ended a moment ago")
        if not os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/user")):  # without root it is our own
            os.setgroups([])
            syscalls.setns(namespace, syscalls.CLONE_NEWUSER)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        os.close(namespace)
        return root

    def leave(self) -> None:
        """There is nothing to be taken away."""


class Stopped:
    """The tree of a container that does not run. Whoever uses it holds the container's lock.

    scratch: a directory that is covered while this works, and that nobody else uses.
    layers: as ``spec.json`` has them, made ready.
    upper: a directory with ``fs`` and ``work``.
    binds: as ``spec.json`` has its mounts; those of host paths and volumes are mounted, too. This process has rights to
        all that a bind of somebody else's leads to, which they have not, so an empty directory is there instead.
    """

    def __init__(
        self, scratch: Path, layers: Sequence[Sequence[str]], upper: str, binds: Sequence[Mapping[str, Any]]
    ) -> None:
        self._scratch = str(scratch)
        self._layers = layers
        self._upper = upper
        self._binds = [
            mount
            for mount in binds
            if mount["kind"] == "bind" and (mount.get("caller") or os.path.isdir(mount["source"]))
        ]
        self._mounted: list[str] = []
        self._made: list[str] = []
        self._root = -1

    def enter(self) -> int:
        """Mount it where only this process sees it; its root directory. In a child only."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        folder = self._scratch
        syscalls.mount("tmpfs", folder, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=700")
        for name in ("links", "root"):
            os.mkdir(f"{folder}/{name}")
        layers = Layers(f"{folder}/layers", -1)
        paths = [layers.plain(tuple(layer)) for layer in reversed(self._layers)]
        flags = syscalls.MS_NODEV | syscalls.MS_NOSUID
        mounts.overlay(paths, self._upper, f"{folder}/root", f"{folder}/links", flags=flags, durable=True)
        self._root = os.open(f"{folder}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for mount in self._binds:
            self._bind(mount)
        return self._root

    def leave(self) -> None:
        """Take away the places of mounts that were made: the container has them only while it runs."""
        for target in reversed(self._mounted):
            with suppress(OSError), closing_fd(openat2(self._root, target, os.O_PATH, resolve=CONFINED)) as fd:
                syscalls.umount2(f"/proc/self/fd/{fd}", syscalls.MNT_DETACH)
        for path in reversed(self._made):
            with suppress(OSError), self._directory(os.path.dirname(path)) as above:
                os.rmdir(os.path.basename(path), dir_fd=above)

    def _bind(self, mount: Mapping[str, Any]) -> None:
        source, subpath = (self._closed(), "") if mount.get("caller") else (mount["source"], mount.get("subpath", ""))
        try:
            within = mount.get("within")
            found = rooted(source, within, subpath) if within else beneath(source, subpath or ".")
        except FileNotFoundError:
            return  # the part of a volume has gone: a start would be refused
        with closing_fd(found):
            if not stat.S_ISDIR(os.fstat(found).st_mode):
                return
            tree = syscalls.open_tree(
                syscalls.AT_FDCWD, f"/proc/self/fd/{found}", syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
            )
        with closing_fd(tree):
            if mount["readonly"]:
                syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attributes=syscalls.MOUNT_ATTR_RDONLY)
            self._make_place(mount["target"])
            mounts.attach(tree, self._root, mount["target"])
            self._mounted.append(mount["target"])

    def _closed(self) -> str:
        """A directory that is empty, and stays so."""
        place = f"{self._scratch}/closed"
        with suppress(FileExistsError):
            os.mkdir(place)
            syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_RDONLY, "size=0,mode=755")
        return place

    def _make_place(self, target: str) -> None:
        path = ""
        for name in target.strip("/").split("/"):
            with self._directory(path or "/") as above:
                path = f"{path}/{name}"
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
                    self._made.append(path)

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        with closing_fd(openat2(self._root, path, os.O_PATH | os.O_DIRECTORY, resolve=CONFINED)) as fd:
            yield fd


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """A descriptor that is closed at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


Tree: TypeAlias = Running | Stopped


def work(tree: Tree, does: Work, patience_s: float = _PATIENCE_S) -> dict[str, Any]:
    """Have a child do something in a container's tree; what it returns.

    patience_s: it is killed when it has neither read nor written anything for so long: a file system of the container's
    making does not answer.
    Raises what the child raised: EngineErrors as they are, others as EngineError; and what the canceller raises.
    """
    _reap()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _in_child(tree, does, theirs)
    os.close(theirs)
    try:
        with closing(open(ours, "rb")) as pipe:
            _wait_for(pid, ours, patience_s)
            said = pipe.read()
    except BaseException:
        _kill(pid)
        raise
    _pid, status = os.waitpid(pid, 0)
    if not said:
        raise EngineError(f"the process that worked in the container's files ended: wait status {status}")
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        kind = _KINDS.get(answer["error"], EngineError)
        raise kind(answer["message"], hint=answer["hint"])
    return answer


def _wait_for(pid: int, pipe: int, patience_s: float) -> None:
    """Wait until the child has something to say, or has ended. Raises EngineError when it gets nowhere."""
    before, last = b"", time.monotonic()
    while not readable(pipe, _LOOK_EACH_S):
        check()
        try:
            moved = Path(f"/proc/{pid}/io").read_bytes()
        except OSError:
            continue  # a kernel that does not count, or a child that is none of ours to look at
        if moved != before:
            before, last = moved, time.monotonic()
        elif time.monotonic() - last > patience_s:
            raise EngineError(
                f"nothing has come of the container's files for {patience_s:.0f} s",
                hint="a file system that is mounted in it does not answer, or nobody takes what is copied",
            )


def _kill(pid: int) -> None:
    """End a child. One that a file system has in its hands may not even end by SIGKILL before that does."""
    os.kill(pid, signal.SIGKILL)
    pidfd = os.pidfd_open(pid)
    try:
        has_ended = readable(pidfd, _DEATH_S)
    finally:
        os.close(pidfd)
    if has_ended:
        os.waitpid(pid, 0)
    else:
        _stuck.append(pid)


def _reap() -> None:
    """Let go of children that were killed and have ended by now: each would stay as a zombie."""
    for _ in range(len(_stuck)):
        pid = _stuck.popleft()  # whoever takes it off is alone with it
        if not os.waitpid(pid, os.WNOHANG)[0]:
            _stuck.append(pid)


def _in_child(tree: Tree, does: Work, pipe: int) -> NoReturn:
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
        try:
            root = tree.enter()
            try:
                answer = does(root)
            finally:
                tree.leave()
        except (KeeperError, ContainerError) as error:
            answer = {"error": "ConflictError", "message": error.message, "hint": error.hint}
        except ShiplapError as error:
            answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except OSError as error:
            answer = {"error": "EngineError", "message": f"cannot work in the container's files: {error}", "hint": None}
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(pipe, data) :]
        code = 0
    finally:
        os._exit(code)


def open_parent(root: int, path: str) -> tuple[int, str]:
    """The directory that the last name of a path is in, and that name; ``.`` for the root itself.

    Links on the way are followed inside the root; the last one is not, unless a slash or a dot ends the path.
    Raises PathNotFoundError.
    """
    cleaned = path.rstrip("/")
    follows = path.endswith(("/", "/.")) or not cleaned
    above, _, name = cleaned.rpartition("/")
    where, name = (cleaned or "/", ".") if follows or name in (".", "..", "") else (above or "/", name)
    try:
        return openat2(root, where, os.O_PATH | os.O_DIRECTORY, resolve=CONFINED), name
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_such_path(path) from error


def no_such_path(path: str) -> PathNotFoundError:
    """In docker's words."""
    return PathNotFoundError(f"Could not find the file {path} in container")


def described(name: str, info: os.stat_result, target: str) -> dict[str, Any]:
    """Docker's ContainerPathStat. Modes are Go's: its bits of types are others than the kernel's."""
    return {
        "name": name,
        "size": info.st_size,
        "mode": _go_mode(info.st_mode),
        "mtime_ns": info.st_mtime_ns,
        "linkTarget": target,
    }


def _go_mode(mode: int) -> int:
    """io/fs.FileMode"""
    found = mode & 0o777
    kinds = {stat.S_IFDIR: 31, stat.S_IFLNK: 27, stat.S_IFBLK: 26, stat.S_IFIFO: 25, stat.S_IFSOCK: 24}
    if stat.S_ISCHR(mode):
        found |= 1 << 26 | 1 << 21
    elif (bit := kinds.get(stat.S_IFMT(mode))) is not None:
        found |= 1 << bit
    for bit, here in ((stat.S_ISUID, 23), (stat.S_ISGID, 22), (stat.S_ISVTX, 20)):
        found |= (1 << here) if mode & bit else 0
    return found
