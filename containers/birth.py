"""A container's first process, from its fork to the order that it carries out: what the launcher and keepers share.

``fork`` makes it in new namespaces. ``begin`` writes its ID maps and lets it prepare. ``order`` tells it what to
become. Whoever calls these has the process's control groups, its network and its end.
"""

from __future__ import annotations

import errno
import os

from containers import idmap, seccomp, setup, syscalls, wire
from containers.errors import ContainerError, NamespaceError
from containers.guest import Guest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, NoReturn

    from containers.rootfs import Layers

_NAMESPACES = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS


class Births:
    """Makes the first processes of containers.

    ranges: first host user and group ID of the containers; (0, 0) where their IDs are this process's own.
    layers: what their root filesystems are made of.
    oom_score: the containers' oom_score_adj, if it is above this process's own.
    death_signal: what this process gets when its parent dies; 0 for nothing. See ``idmap.clone_as``.
    """

    def __init__(self, ranges: tuple[int, int], layers: Layers, oom_score: int, death_signal: int) -> None:
        self._ranges = ranges
        self._layers = layers
        self._oom_score = max(oom_score, _own_oom_score())  # to lower it would need a privilege
        self._death_signal = death_signal
        self._filter = _filter_ahead

    def fork(self, name: str, number: int, kind: str, groups: tuple[int, list[int]]) -> Guest:
        """Make the process, which waits for ``begin``. Raises ContainerError, OSError.

        number: the how manieth of this process's containers it is, for ``idmap.owner``. kind: of network.
        groups: as ``cgroups.Session.create`` returns them; they are closed.
        """
        into, joins = groups
        ours = theirs = None
        try:
            ours, theirs = wire.socket_pair()
            flags = _NAMESPACES | (0 if kind == "host" else syscalls.CLONE_NEWNET)
            owner = idmap.owner(self._ranges, number)
            pid = idmap.clone_as(owner, flags, into, death_signal=self._death_signal)
            if pid == 0:
                setup.run(theirs, joins, network=kind)
            return Guest(name, pid, _watched(pid), ours, kind)
        except BaseException as error:
            if ours is not None:
                ours.close()
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EUSERS):
                raise NamespaceError(
                    f"cannot make the namespaces of a container: {error.strerror}",
                    hint="sysctls like user.max_user_namespaces limit them; `shiplap doctor` tells which are missing",
                ) from error
            if error.errno == errno.EAGAIN:
                raise ContainerError(
                    f"cannot make the process of a container: {error.strerror}",
                    hint="there may be no more processes: ulimit -u, pids.max of the control group, TasksMax=",
                ) from error
            raise
        finally:
            if theirs is not None:
                theirs.close()
            close_all([fd for fd in (into, *joins) if fd >= 0])

    def fork_beside(self, name: str, kind: str, groups: tuple[int, list[int]], namespaces: dict[str, int]) -> Guest:
        """Make the process in the user namespace of another container, and in more of its. Raises as ``fork``.

        namespaces: descriptors of the other's, by their names in /proc: ``user``, whose IDs are ``ranges``, and some of
            ``net``, ``pid`` and ``ipc``. This process has to be in a PID namespace above that one.
        The rest is as for ``fork``.
        """
        into, joins = groups
        ours = theirs = None
        heard = told = -1
        try:
            ours, theirs = wire.socket_pair()
            heard, told = os.pipe()
            helper = syscalls.clone3(0)
            if helper == 0:
                _beside(theirs, joins, kind, into, namespaces, told)
            os.close(told)
            told = -1
            os.waitpid(helper, 0)
            number = int(os.read(heard, 16) or b"0")
            if number <= 0:
                raise NamespaceError(f"cannot join the container's namespaces: {os.strerror(-number or errno.EIO)}")
            return Guest(name, number, _watched(number), ours, kind)
        except BaseException:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()
            close_all([fd for fd in (heard, told, into, *joins) if fd >= 0])

    def begin(self, guest: Guest, *, is_mapped: bool = False) -> None:
        """Let it prepare. Raises ContainerError, OSError, also when it has ended by then.

        is_mapped: its user namespace is another container's.
        """
        assert guest.channel is not None
        if not is_mapped:
            idmap.write_maps(guest.pid, self._ranges)
        _offer_to_oom_killer(guest.pid, self._oom_score)
        wire.send(guest.channel, "mapped")

    def order(self, guest: Guest, spec: Any, fds: list[int], resolv_conf: str) -> None:
        """Send it what it needs to become its command. Raises ContainerError, OSError.

        spec: as ``spec.to_wire`` makes it. fds: memfd of the spec, stdin, stdout, stderr; they stay open.
        """
        assert guest.channel is not None
        trees: list[int] = []
        try:
            order = self._order(spec, trees)
            order["resolv_conf"] = resolv_conf
            order["durable"] = spec["durable"]
            for fd in fds[1:]:
                _give_pipe(fd, *self._ranges)
            while len(trees) > wire.MAX_FDS - len(fds):
                some, trees[: wire.MAX_FDS] = trees[: wire.MAX_FDS], []
                wire.send(guest.channel, ("trees", None), some)
                close_all(some)
            wire.send(guest.channel, ("start", order), [*fds, *trees])
        finally:
            close_all(trees)

    def filter_of(self, spec: Any) -> bytes | None:
        """The filter of system calls for what is asked for. Raises SeccompError."""
        if not spec["filtered"]:
            return None
        own: bytes | None = spec["extras"].get("call_filter")
        return own or self.call_filter()

    def call_filter(self) -> bytes:
        """Ours. Raises SeccompError."""
        if self._filter is None:
            self._filter = seccomp.program()
        return self._filter

    def _order(self, spec: Any, trees: list[int]) -> dict[str, Any]:
        """What set-up is to do with the trees, whose descriptors are appended to ``trees``."""
        index: dict[str, int] = {}
        self._layers.drop_nodes()

        def place(path: str) -> tuple[int, str]:
            top, relative = self._layers.idmapped(path)
            if top not in index:
                index[top] = len(trees)
                trees.append(syscalls.open_tree(syscalls.AT_FDCWD, top, syscalls.OPEN_TREE_CLONE))
            return index[top], relative

        def stack(
            layers: Any, upper: str | None, place: Any = place
        ) -> tuple[list[tuple[int, str]], tuple[int, str] | None]:
            lowers = [place(self._layers.plain(layer)) for layer in layers]
            if upper is None:
                return lowers, None
            tree, changes = place(upper + "/fs")  # so that it is two levels down as the layers are
            return lowers, (tree, os.path.dirname(changes))

        def owned(owner: tuple[int, int], layers: Any, upper: str | None) -> Any:
            """A stack in which somebody else has what is root's on disk."""
            if owner == (0, 0) or not any(self._ranges):
                return stack(layers, upper)
            made: dict[str, int] = {}
            userns = idmap.user_namespace(self._ranges, instead_of_root=owner)

            def place_for(path: str) -> tuple[int, str]:
                count = len(made)
                tree, relative = self._layers.owned(path, userns, made)
                if len(made) > count:
                    trees.append(tree)
                return trees.index(tree), relative

            try:
                return stack(layers, upper, place_for)
            finally:
                os.close(userns)

        mounts = spec["mounts"]
        order: dict[str, Any] = {"root": stack(spec["layers"], spec["upper"])}
        order["stacks"] = {
            number: owned(details[3], details[0], details[2])
            for number, (kind, _, *details) in enumerate(mounts)
            if kind == "tree"
        }
        order["layer_trees"] = len(trees)
        order["binds"] = binds = {}
        for number, (kind, _, *details) in enumerate(mounts):
            if kind == "bind":
                source, readonly, mapped, how = details
                binds[number] = len(trees)
                ranges = self._ranges
                trees.append(self._layers.bind(source, readonly=readonly, idmapped=mapped, how=how, ranges=ranges))
            elif kind == "device":
                binds[number] = len(trees)
                trees.append(self._layers.device(details[0], self._ranges))
            elif kind == "node":
                binds[number] = len(trees)
                trees.append(self._layers.shared_device(details[0], self._ranges))
            elif kind == "given":
                binds[number] = len(trees)
                trees.append(os.dup(details[0]))
        order["filter"] = self.filter_of(spec)
        return order


_filter_ahead: bytes | None = None


def make_filter_ahead() -> None:
    """Make the filter of system calls for all that is forked from here. Raises SeccompError."""
    global _filter_ahead
    _filter_ahead = seccomp.program()


_JOINABLE = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "pid": syscalls.CLONE_NEWPID}


def _beside(
    channel: _socket.socket, joins: list[int], kind: str, into: int, namespaces: dict[str, int], told: int
) -> NoReturn:
    """In a child: enter the namespaces, and leave a process in new ones below them to the parent. Tells its number."""
    try:
        flags = _NAMESPACES & ~syscalls.CLONE_NEWUSER | syscalls.CLONE_PARENT
        if kind != "host":
            flags |= syscalls.CLONE_NEWNET
        for name, flag in _JOINABLE.items():
            if name in namespaces:
                syscalls.setns(namespaces[name], flag)
                flags &= ~flag
        syscalls.setns(namespaces["user"], syscalls.CLONE_NEWUSER)
        # Whoever sees it by the PID namespace that they share finds a copy of this process, with the host in sight.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        pid = syscalls.clone3(flags, cgroup=into)
        if pid == 0:
            setup.run(channel, joins, network=kind, own_ipc="ipc" not in namespaces)
        os.write(told, b"%d" % pid)
    except OSError as error:
        os.write(told, b"%d" % -(error.errno or errno.EIO))
    finally:
        os._exit(0)


def close_all(fds: list[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def _give_pipe(fd: int, uid: int, gid: int) -> None:
    """Let the container's root own an anonymous pipe, so that it can reopen it as /dev/stdout."""
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            os.fchown(fd, uid, gid)
    except PermissionError:
        return  # somebody else's, as can be where we are root of a user namespace only


def _watched(pid: int) -> int:
    """A pidfd of a new child, which ends where there is none to be had."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, syscalls.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _own_oom_score() -> int:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def _offer_to_oom_killer(pid: int, score: int) -> None:
    """Have the kernel kill containers first when memory runs out, not the service. Raising needs no privilege."""
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % score)
    finally:
        os.close(fd)
