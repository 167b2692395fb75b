"""The launcher process: one thread, few imports, forks containers for its client.

Two processes, so that the kernel does the clean-up however one of them dies: the outer one waits; the inner one is the
first process of a pid namespace, in which every container, pasta and all they start live. Its death kills them all;
it dies with the outer one (PR_SET_PDEATHSIG) and when the client's socket closes. All mounts are in its own mount
namespace.

The client sends a request on the control socket together with a socket for the answers and, for a container, its life:
closing that socket kills the container.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import gc
import os
import select
import time

from containers import cgroups, idmap, network, setup, syscalls, wire
from containers.errors import ContainerError, NamespaceError, NetworkError
from containers.rootfs import Layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_BASE_NAMESPACES = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS
_BIND_ATTRIBUTES = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_SHUTDOWN_TIMEOUT_S = 5.0


class Guest:
    """A container's process, from before its spec is known until it has been reaped.

    channel: to its set-up code, None after execve. client: to whom asked for it, None for a spare one.
    """

    __slots__ = ("channel", "client", "message", "name", "network", "pid", "pidfd", "request", "started")

    def __init__(self, name: str, pid: int, channel: _socket.socket, network_kind: str) -> None:
        self.name = name
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel: _socket.socket | None = channel
        self.network = network_kind
        self.client: _socket.socket | None = None
        self.request: tuple[Any, list[int]] | None = None
        self.started = False
        self.message = ""


class Server:
    """State and event loop. folder: a directory to mount the private tmpfs on."""

    def __init__(self, control: _socket.socket, folder: str) -> None:
        self._control = control
        self._folder = folder
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._ranges = idmap.host_ranges()
        self._userns = idmap.user_namespace(self._ranges)
        self._layers = Layers(f"{folder}/layers", self._userns)
        found = cgroups.hierarchies(_read("/proc/self/mountinfo"))
        self._session = cgroups.Session(os.urandom(6).hex(), found)
        self._found = found
        self._count = 0
        self._guests: dict[str, Guest] = {}
        self._spare: Guest | None = None
        self._hub: network.Hub | None = None
        self._waiting: list[Guest] = []
        self._running = True

    def serve(self) -> None:
        """Until the client closes its socket."""
        self._watch(self._control.fileno(), self._on_request)
        wire.send(self._control, ("hello", self._session.name, self._ranges))
        cgroups.abandoned(self._found)
        try:
            while self._running:
                for fd, _events in self._poll.poll(None if self._session.sweep() else 0.05, 1):
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler()
        finally:
            self._shut_down()

    # Requests

    def _on_request(self) -> None:
        received = wire.receive(self._control)
        if received is None:
            self._running = False
            return
        (kind,), fds = received  # type: ignore[misc]  # the client sends one-tuples
        if kind == "warm":
            self._warm()
            return
        client = wire.from_fd(fds[0])
        try:
            request: Any = wire.from_memfd(fds[1])
            if kind == "view":
                self._view(client, request)
            else:
                self._start(client, request, fds[1:])
                fds = fds[:1]
        except ContainerError as error:
            _reply(client, ("error", type(error).__name__, error.message, error.hint))
            client.close()
        except OSError as error:
            _reply(client, ("error", "ContainerError", f"the launcher failed: {error}", None))
            client.close()
        finally:
            for fd in fds[1:]:
                os.close(fd)

    def _warm(self) -> None:
        """Get ready for a container with a network. Failures are told to the first one that needs it."""
        try:
            self._ensure_hub()
        except (NetworkError, OSError):
            return
        if self._spare is None:
            self._spare = self._new_guest("default")

    def _view(self, client: _socket.socket, layers: list[tuple[str, ...]]) -> None:
        fd = self._layers.view(layers)
        _reply(client, ("view",), [fd])
        os.close(fd)
        client.close()

    def _start(self, client: _socket.socket, spec: Any, fds: list[int]) -> None:
        kind = spec["network"]
        if kind == "default":
            self._ensure_hub()
        guest = self._spare if kind == "default" and self._spare is not None else None
        if guest is not None:
            self._spare = None
        else:
            guest = self._new_guest(kind)
        guest.client = client
        guest.request = (spec, fds)
        self._watch(client.fileno(), lambda: self._on_client(guest))
        if kind == "default" and not (self._hub is not None and self._hub.ready):
            self._waiting.append(guest)
        else:
            self._dispatch(guest)

    def _dispatch(self, guest: Guest) -> None:
        """Send a guest what it needs to go on."""
        assert guest.request is not None
        assert guest.channel is not None
        spec, fds = guest.request
        guest.request = None
        trees: list[int] = []
        try:
            order = self._order(guest, spec, trees)
            for fd in fds[1:]:
                _give_pipe(fd, self._ranges[0])
            batch = wire.MAX_FDS - len(fds)
            while len(trees) > batch:
                pass_on, trees = trees[: wire.MAX_FDS], trees[wire.MAX_FDS :]
                wire.send(guest.channel, ("trees", None), pass_on)
                _close_all(pass_on)
            wire.send(guest.channel, ("start", order), [*fds, *trees])
        except ContainerError as error:
            self._fail(guest, ("error", type(error).__name__, error.message, error.hint))
        except OSError as error:
            self._fail(guest, ("error", "ContainerError", f"cannot start the container: {error}", None))
        finally:
            _close_all(fds)
            _close_all(trees)

    def _order(self, guest: Guest, spec: Any, trees: list[int]) -> dict[str, Any]:
        """What set-up is to do with the trees, which are appended to ``trees``."""
        index: dict[str, int] = {}

        def tree_of(path: str) -> tuple[int, str]:
            place, relative = self._layers.idmapped(path)
            if place not in index:
                index[place] = len(trees)
                trees.append(syscalls.open_tree(syscalls.AT_FDCWD, place, syscalls.OPEN_TREE_CLONE))
            return index[place], relative

        layers = [tree_of(self._layers.plain(layer)) for layer in spec["layers"]]
        upper = None if spec["upper"] is None else tree_of(spec["upper"])
        layer_trees = len(trees)
        binds: dict[int, int] = {}
        file_targets = []
        for number, (kind, target, *details) in enumerate(spec["mounts"]):
            if kind != "bind":
                continue
            source, readonly, mapped = details
            tree = self._layers.clone(
                source, recursive=True, idmapped=mapped, readonly=readonly, attributes=_BIND_ATTRIBUTES
            )
            if not os.path.isdir(source):
                file_targets.append(target)
            binds[number] = len(trees)
            trees.append(tree)
        connected = None
        resolv_conf = network.host_resolv_conf()
        if guest.network == "default":
            assert self._hub is not None
            connected = self._connect(guest)
            resolv_conf = self._hub.resolv_conf()
        return {
            "layers": layers,
            "upper": upper,
            "layer_trees": layer_trees,
            "binds": binds,
            "file_targets": file_targets,
            "network": connected,
            "resolv_conf": resolv_conf,
        }

    def _connect(self, guest: Guest) -> tuple[int, int, int]:
        assert self._hub is not None
        netns = os.open(f"/proc/{guest.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._hub.connect(netns)
        finally:
            os.close(netns)

    # Guests

    def _new_guest(self, kind: str) -> Guest:
        """Fork a process that prepares a container up to where it needs to know which."""
        self._count += 1
        name = str(self._count)
        ours, theirs = wire.socket_pair()
        joins = self._session.create(name)
        try:
            flags = _BASE_NAMESPACES | (0 if kind == "host" else syscalls.CLONE_NEWNET)
            pid = syscalls.clone3(flags)
            if pid == 0:
                setup.run(theirs, joins, self._folder, network=kind)
            guest = Guest(name, pid, ours, kind)
            self._guests[name] = guest
            self._watch(guest.pidfd, lambda: self._on_exit(guest))
            self._watch(ours.fileno(), lambda: self._on_channel(guest))
            idmap.write_maps(pid, self._ranges)
            wire.send(ours, "mapped")
        except OSError as error:
            self._session.remove(name)
            if error.errno in (errno.EPERM, errno.ENOSPC, errno.EINVAL):
                raise NamespaceError(
                    f"cannot make the namespaces of a container: {error.strerror}",
                    hint="sysctl user.max_user_namespaces and the like limit them; `shiplap doctor` tells which",
                ) from error
            raise
        finally:
            theirs.close()
            _close_all(joins)
        return guest

    def _on_client(self, guest: Guest) -> None:
        assert guest.client is not None
        received = wire.receive(guest.client)
        if received is None:
            self._forget_client(guest)
            self._kill(guest)
            return
        (kind, argument), _fds = received  # type: ignore[misc]  # the client sends pairs
        if kind == "kill":
            self._kill(guest)
        else:
            _signal_process(guest.pidfd, argument)

    def _on_channel(self, guest: Guest) -> None:
        """What set-up has to say; the end of the channel means that the command is being executed."""
        assert guest.channel is not None
        received = wire.receive(guest.channel)
        if received is None:
            self._close_channel(guest)
            if guest.client is not None and not guest.started:
                guest.started = True
                _reply(guest.client, ("started",))
                if self._spare is None and guest.network == "default":
                    self._spare = self._new_guest("default")
            return
        message: Any = received[0]
        if message[0] == "terminal":
            if guest.client is not None:
                _reply(guest.client, message, received[1])
            _close_all(received[1])
        elif message[0] == "exit":
            guest.message = message[2]
        else:
            self._fail(guest, message)

    def _fail(self, guest: Guest, message: tuple[Any, ...]) -> None:
        """The container cannot be had: tell the client, unless it is a spare one, and end the process."""
        if guest.client is not None:
            _reply(guest.client, message)
            self._forget_client(guest)
        self._kill(guest)

    def _on_exit(self, guest: Guest) -> None:
        while guest.channel is not None:
            self._on_channel(guest)
        _pid, status = os.waitpid(guest.pid, 0)
        self._unwatch(guest.pidfd)
        os.close(guest.pidfd)
        self._session.remove(guest.name)
        del self._guests[guest.name]
        if guest in self._waiting:
            self._waiting.remove(guest)
        if guest.request is not None:
            _close_all(guest.request[1])
        if self._spare is guest:
            self._spare = None
        if guest.client is not None:
            _reply(guest.client, ("exit", status, guest.message))
            self._forget_client(guest)

    def _close_channel(self, guest: Guest) -> None:
        if guest.channel is not None:
            self._unwatch(guest.channel.fileno())
            guest.channel.close()
            guest.channel = None

    def _forget_client(self, guest: Guest) -> None:
        if guest.client is not None:
            self._unwatch(guest.client.fileno())
            guest.client.close()
            guest.client = None

    def _kill(self, guest: Guest) -> None:
        _signal_process(guest.pidfd, _signal.SIGKILL)
        if guest.channel is None:
            self._session.kill(guest.name)

    # The hub

    def _ensure_hub(self) -> None:
        if self._hub is not None:
            return
        folder = f"{self._folder}/hub{self._count}"
        os.mkdir(folder)
        self._hub = network.Hub(folder)
        self._watch(self._hub.host.fileno(), self._on_addresses)
        self._watch_hub_processes()

    def _watch_hub_processes(self) -> None:
        assert self._hub is not None
        for pid in self._hub.starting:
            self._watch_process(pid)

    def _watch_process(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        self._watch(pidfd, lambda: self._on_hub_process(pid, pidfd))

    def _on_addresses(self) -> None:
        assert self._hub is not None
        before = set(self._hub.starting)
        self._hub.addresses_changed()
        for pid in set(self._hub.starting) - before:
            self._watch_process(pid)

    def _on_hub_process(self, pid: int, pidfd: int) -> None:
        """nft or pasta ended: while starting that is a step forward or a failure, later the hub is lost."""
        _pid, status = os.waitpid(pid, 0)
        self._unwatch(pidfd)
        os.close(pidfd)
        hub = self._hub
        if hub is None:
            return
        was_ready = hub.ready
        try:
            if pid == hub.daemon:
                raise NetworkError("pasta, which connects containers to the network, has ended")
            hub.ended(pid, status)
        except NetworkError as error:
            self._lose_hub(error)
            return
        if hub.ready and not was_ready:
            self._watch_process(hub.daemon)
            waiting, self._waiting = self._waiting, []
            for guest in waiting:
                self._dispatch(guest)

    def _lose_hub(self, error: NetworkError) -> None:
        assert self._hub is not None
        self._unwatch(self._hub.host.fileno())
        for pid in (*self._hub.starting, self._hub.daemon):
            if pid:
                _kill_process(pid)
        self._hub.close()
        self._hub = None
        waiting, self._waiting = self._waiting, []
        for guest in waiting:
            self._fail(guest, ("error", type(error).__name__, error.message, error.hint))

    # Everything

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _shut_down(self) -> None:
        for guest in list(self._guests.values()):
            self._forget_client(guest)
            self._kill(guest)
        deadline = time.monotonic() + _SHUTDOWN_TIMEOUT_S
        for guest in list(self._guests.values()):
            left = max(0.0, deadline - time.monotonic())
            if select.select([guest.pidfd], [], [], left)[0]:
                self._close_channel(guest)
                self._on_exit(guest)
        self._session.close()


def main(control_fd: int, folder: str) -> NoReturn:
    """Serve the client at the other end of ``control_fd``: the whole life of the launcher's two processes.

    folder: an existing directory; only the launcher sees what it mounts there.
    """
    code = 1
    try:
        control = wire.from_fd(control_fd)
        try:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            pid = os.fork()
            if pid:
                control.close()
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            else:
                syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _signal.SIGKILL)
                _isolate(folder)
                server = Server(control, folder)
                server.serve()
                code = 0
        except ContainerError as error:
            wire.send(control, ("error", type(error).__name__, error.message, error.hint))
        except PermissionError as error:
            message = f"this process may not make namespaces: {error}"
            wire.send(
                control, ("error", "NamespaceError", message, "run as root; `shiplap doctor` tells what is missing")
            )
    except BrokenPipeError:
        pass  # the client is gone
    except Exception:  # noqa: BLE001 - the process's outermost layer: the log is where the client looks
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code & 0xFF)


def _isolate(folder: str) -> None:
    """A mount namespace that follows the host's mounts and shows it none, with this pid namespace's /proc."""
    gc.disable()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("tmpfs", folder, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    os.chdir("/")
    os.umask(0o022)
    gc.freeze()


def _reply(client: _socket.socket, value: object, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Answer a client, who may be gone; its container then ends by the end of its socket."""
    try:
        wire.send(client, value, fds)
    except (BrokenPipeError, ConnectionResetError):
        return


def _give_pipe(fd: int, uid: int) -> None:
    """Let the container's root own an anonymous pipe, so that it can reopen it as /dev/stdout."""
    if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
        os.fchown(fd, uid, -1)


def _signal_process(pidfd: int, number: int) -> None:
    try:
        syscalls.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _kill_process(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGKILL)
    except ProcessLookupError:
        return


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
