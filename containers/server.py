"""The launcher process: one thread, few imports, forks containers for its client.

There are two processes, so that the kernel does the clean-up however one of them dies. The outer one waits. The inner
one is the first process of a pid namespace, in which every container, pasta and all they start live. Its death kills
them all. It dies with the outer one (PR_SET_PDEATHSIG) and when the client's socket closes. All mounts are in its own
mount namespace.

With each request on the control socket the client sends a socket for the answers. For a container that socket is also
its life: closing it kills the container.
"""

from __future__ import annotations

import gc
import os
import sys

from containers import cgroups, idmap, syscalls, wire
from containers.errors import ContainerError, MountError, NamespaceError, NetworkError
from containers.events import Loop
from containers.guest import error_message
from containers.guests import Guests, reply
from containers.hierarchies import make_room, own_hierarchies
from containers.rootfs import Layers
from containers.setup import STAGING
from containers.uplink import Uplink
from core import namespaces
from core.openfiles import how_to_allow_more

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, NoReturn

    from containers.hierarchies import Hierarchy

_SHUTDOWN_TIMEOUT_S = 5.0
_QUIET_S = 0.02  # without events, before what nobody waits for is done


class Server:
    """Serves one client.

    parent: a descriptor of the process that it dies with.
    folder: the directory that the private tmpfs is mounted on.
    uplink: the containers' network, whose events ``loop`` has.
    hierarchies: what control groups can be made in.
    """

    def __init__(
        self,
        control: _socket.socket,
        parent: int,
        folder: str,
        loop: Loop,
        uplink: Uplink,
        hierarchies: list[Hierarchy],
    ) -> None:
        self._control = control
        self._reserve = os.dup(control.fileno())  # a descriptor to do without when there are no others
        self._parent = parent
        self._running = True
        self._reclaimed = False
        self._loop = loop
        self._ranges = idmap.host_ranges()
        userns = idmap.user_namespace(self._ranges) if any(self._ranges) else -1
        self._layers = Layers(f"{folder}/layers", userns)
        self._hierarchies = hierarchies
        self._session = cgroups.Session(os.urandom(6).hex(), self._hierarchies)
        self._guests = Guests(loop, uplink, self._ranges, self._layers, self._session)

    def serve(self) -> None:
        """Serve until the client closes its socket."""
        self._loop.watch(self._control.fileno(), self._on_request)
        self._loop.watch(self._parent, self._on_parents_death)
        try:
            wire.send(self._control, ("hello", self._session.name))
            while self._running:
                if self._loop.step(self._timeout()):
                    continue
                # A container that was sent its order is on its own for 3 ms: time to make the next one.
                if self._guests.wants_spare:
                    self._guests.make_spare()
                else:
                    self._tidy()
        finally:
            self._guests.shut_down(_SHUTDOWN_TIMEOUT_S)
            self._tidy()
            self._session.close()

    def _timeout(self) -> float | None:
        if self._guests.wants_spare:
            return 0.0
        return _QUIET_S if self._session.unfinished or not self._reclaimed else None

    def _tidy(self) -> None:
        """Remove control groups of what has ended: containers of ours, and once, launchers that were killed."""
        self._session.sweep()
        if not self._reclaimed:
            self._reclaimed = True
            cgroups.abandoned(self._hierarchies)

    def _on_request(self) -> None:
        if self._reserve >= 0:  # so that at least the client's socket comes through, who then learns why no other did
            os.close(self._reserve)
        received = wire.receive_what_fits(self._control)
        if received is None:
            self._running = False
            return
        kind, fds, whole = received
        if kind == "warm":
            self._guests.warm()
        elif whole:
            self._serve(kind, fds)
        elif fds:
            client = wire.from_fd(fds[0])
            told = ContainerError("cannot take a request: too many open files", hint=how_to_allow_more())
            reply(client, error_message(told))
            client.close()
            for fd in fds[1:]:
                os.close(fd)
        try:
            self._reserve = os.dup(self._control.fileno())
        except OSError:
            self._reserve = -1  # all are in use

    def _serve(self, kind: str, fds: list[int]) -> None:
        """Do what a client asks for.

        fds: the client's socket, the memfd of what is asked for, and others.
        """
        client, body = wire.from_fd(fds[0]), fds[1]
        request: Any = wire.from_memfd(body)
        if kind == "start":
            self._guests.start(client, request, fds[1:])
            return
        os.close(body)
        if kind == "segment":
            self._segment(client)
        else:
            self._view(client, request)
        client.close()

    def _on_parents_death(self) -> None:
        """The death signal does the same, but for the moments in which it is off (``idmap.clone_as``)."""
        self._loop.unwatch(self._parent)
        self._running = False

    def _view(self, client: _socket.socket, layers: list[tuple[str, ...]]) -> None:
        try:
            fd = self._layers.view(layers)
        except ContainerError as error:
            reply(client, error_message(error))
        except OSError as error:
            reply(client, error_message(MountError(f"cannot make a view of {len(layers)} layers: {error}")))
        else:
            reply(client, ("view",), [fd])
            os.close(fd)

    def _segment(self, client: _socket.socket) -> None:
        from containers import segment  # its import takes time, which only jobs with services are to spend

        try:
            fd = segment.make()
        except ContainerError as error:
            reply(client, error_message(error))
        except OSError as error:
            reply(client, error_message(NetworkError(f"cannot make a network for containers: {error}")))
        else:
            reply(client, ("segment",), [fd])
            os.close(fd)


def main(control_fd: int, folder: str, denied: str, way: str, connected: str, group: str) -> NoReturn:
    """Serve the client at the other end of ``control_fd``: the whole life of the launcher's two processes.

    folder: an existing directory; only the launcher sees what it mounts there.
    denied: networks that containers are not to reach, with commas between.
    way: how they reach others: ``kernel``, ``pasta`` or ``auto``.
    connected: not empty when the first one is expected to have a network.
    group: the name of the enclosure that the containers are to be in; empty for none.
    """
    code = 1
    try:
        control = wire.from_fd(control_fd)
        try:
            _seal_program()
            parent = os.pidfd_open(os.getpid())
            hierarchies = own_hierarchies(group)
            make_room(hierarchies)
            syscalls.unshare(syscalls.CLONE_NEWPID)
            pid = _forked()
            if pid:
                control.close()
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            else:
                syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
                server = _prepared(control, parent, folder, (denied, way), connected, hierarchies)
                server.serve()
                code = 0
        except ContainerError as error:
            wire.send(control, error_message(error))
        except PermissionError as error:
            refusal = NamespaceError(
                f"this process may not make namespaces and mounts: {error}",
                hint="run as root, outside of containers without privileges; `shiplap doctor` tells what is missing",
            )
            wire.send(control, error_message(refusal))
    except BrokenPipeError:
        pass  # the client is gone
    except Exception:
        # The outermost layer of this process: what the client finds in its log.
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code & 0xFF)


def _forked() -> int:
    try:
        return os.fork()
    except OSError as error:
        raise ContainerError(f"cannot start the launcher's second process: {error.strerror}") from error


def _prepared(
    control: _socket.socket,
    parent: int,
    folder: str,
    network: tuple[str, str],
    connected: str,
    hierarchies: list[Hierarchy],
) -> Server:
    """Everything up to the first request. Raises PermissionError, and ContainerError for what else is refused."""
    try:
        _isolate(folder)
        loop = Loop()
        denied, way = network
        uplink = Uplink(loop, folder, tuple(filter(None, denied.split(","))), way)
        if connected:
            _begin(uplink)  # before all else: this is what a first container waits for
        return Server(control, parent, folder, loop, uplink, hierarchies)
    except PermissionError:
        raise
    except OSError as error:
        raise ContainerError(f"cannot prepare for containers: {error}") from error


def _seal_program() -> None:
    """Start again from a read-only mount of this program, if containers' root could write to the program.

    A step can run it by the name of /proc/self/exe, and then open it to write (CVE-2019-5736). As a rule the host's
    root owns the program, who is no user of a container. Without root, it may belong to the user, who is every
    container's root.
    """
    if namespaces.is_initial() or not os.access("/proc/self/exe", os.W_OK):
        return
    program = os.readlink("/proc/self/exe")
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount(program, program, None, syscalls.MS_BIND)
    syscalls.mount_setattr(syscalls.AT_FDCWD, program, 0, attributes=syscalls.MOUNT_ATTR_RDONLY)
    os.execv(sys.orig_argv[0], sys.orig_argv)  # noqa: S606 - without a shell is the point


def _isolate(folder: str) -> None:
    """Enter a mount namespace that follows the host's mounts and shows the host none; /proc is this pid namespace's."""
    gc.disable()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("tmpfs", folder, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    os.umask(0o022)
    os.mkdir(f"{folder}/{STAGING}")
    os.chdir(f"{folder}/{STAGING}")
    gc.freeze()


def _begin(uplink: Uplink) -> None:
    """Start the network; if that fails, the first container that needs it gets the error."""
    try:
        uplink.start()
    except (NetworkError, OSError):
        return
