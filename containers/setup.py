"""What a container's first process does between its birth in new namespaces and the execve of its command.

The launcher makes it by clone3 in new user, mount, pid, uts, ipc and network namespaces, usually before anybody asked
for a container: ``_prepare`` needs no spec and makes what does not depend on one (/dev, /proc, /sys). ``_finish`` then
has little left to do. Messages from the launcher, in order: ``mapped`` (the ID maps are written), ``network`` (an
interface was put into this namespace; not for every container), ``trees``, ``start``. Replies: an error, or a terminal
where one was asked for, and ``executing`` when all is ready; then the socket closes at execve. A socket that closes
without a word is a set-up that was killed. Where ``init`` stays behind, the socket is its own until it ends.

The container gets nothing of the host: once the root has changed, no module can be imported, and no descriptor exists
but stdio and the socket (close-on-exec). Until then no path is resolved in the container's files.
"""

from __future__ import annotations

import _socket
import errno
import gc
import os
import stat
import sys

from containers import extras, mounts, netlink, stubs, syscalls, wire
from containers.becoming import CommandError, execute, open_terminal, refusal
from containers.errors import ContainerError, MountError, NamespaceError
from containers.interfaces import bound_sending
from containers.limits import DEFAULT_SHM_BYTES
from core.filesystems import GOOD_KINDS
from core.openfiles import hint_if_out_of_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STAGING = "staging"
GUEST_INTERFACE = 2  # index of eth0; 1 is lo

_FAILED = 125
_SYSTEM_DIRECTORIES = ["/dev", "/proc", "/sys", "/etc"]
_ETC_FILES = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"]


def run(channel: _socket.socket, cgroup_fds: list[int], *, network: str, own_ipc: bool = True) -> NoReturn:
    """Become the container's command, or report on ``channel`` why not. Never returns.

    The working directory is one called STAGING, which a tmpfs of this container may cover. network: as in the spec.
    own_ipc: whether its IPC namespace is to be a new one.
    """
    try:
        try:
            _prepare(channel, cgroup_fds, network, own_ipc=own_ipc)
            _finish(channel)
        except ContainerError as error:
            wire.send(channel, ("error", type(error).__name__, error.message, error.hint))
        except CommandError as error:
            wire.send(channel, ("exit", error.code, str(error)))
            os._exit(error.code)
        except OSError as error:
            refused = error.errno in (errno.EPERM, errno.EACCES)
            kind = NamespaceError if refused else ContainerError
            hint = "`shiplap doctor` tells what this host lacks" if refused else hint_if_out_of_files(error)
            wire.send(channel, ("error", kind.__name__, f"cannot set up the container: {error}", hint))
        except EOFError:
            raise
        except Exception as error:
            # The outermost layer of this process: without a word from here its end would be taken for the command's.
            what = f"cannot set up the container: {type(error).__name__}: {error}"
            wire.send(channel, ("error", ContainerError.__name__, what, None))
    except (BrokenPipeError, EOFError):
        pass  # the launcher is gone, or wants this container no more
    finally:
        os._exit(_FAILED)


def _prepare(channel: _socket.socket, cgroup_fds: list[int], network: str, *, own_ipc: bool) -> None:
    gc.disable()
    syscalls.close_all_but({0, 1, 2, channel.fileno(), *cgroup_fds})
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
    _expect(channel, "mapped")
    for fd in cgroup_fds:
        os.write(fd, b"0")
        os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.umask(0)
    syscalls.unshare(syscalls.CLONE_NEWCGROUP | (syscalls.CLONE_NEWIPC if own_ipc else 0))
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    # No absolute path of the host: a directory above may be closed to the container's root.
    syscalls.mount("tmpfs", ".", "tmpfs", 0, "mode=755")
    os.chdir(f"../{STAGING}")
    for name in ("etc", "root"):
        os.mkdir(name, 0o755)
    mounts.execute(mounts.plan_system_trees(own_network=network != "host"))
    if network != "host":
        link = netlink.Netlink()
        link.change(netlink.link_up(1))
        link.close()


def _finish(channel: _socket.socket) -> None:
    order, fds, address = _receive_start(channel)
    spec: Any = wire.from_memfd(fds[0])
    stdio, trees = fds[1:4], fds[4:]
    hostname = spec["hostname"] or os.urandom(6).hex()
    syscalls.sethostname(hostname)
    if spec["extras"].get("no_shm"):
        mounts.remove_shm()
    elif spec["shm_bytes"] != DEFAULT_SHM_BYTES:
        mounts.resize_shm(spec["shm_bytes"])
    extras.apply(spec["extras"])
    places = _write_etc(spec, order, hostname, address)
    _mount_layers(trees[: order["layer_trees"]])
    places.update(_extra_mounts(spec, order, trees))
    root = _mount_root(order, places, spec["extras"].get("marks") or ())
    for name in ("sys", "proc", "dev"):
        places = {f"/{name}": syscalls.open_tree(syscalls.AT_FDCWD, name, 0), **places}
    made: list[stubs.Stub] = []
    for path, tree in places.items():
        made += _attach(tree, root, path)
    if made:
        wire.send(channel, ("made", made))
    sys.path.clear()  # from here on an import would run a file of the container's choosing with our privileges
    sys.meta_path.clear()
    os.fchdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")
    if spec["terminal"]:
        terminal = _open_terminal(channel, spec["terminal_size"])
        stdio = [terminal if spec["terminal_input"] else stdio[0], terminal, terminal]
    execute(channel, spec, stdio, order["filter"])


def _receive_start(channel: _socket.socket) -> tuple[Any, list[int], int | None]:
    """The launcher's order, its descriptors (spec, stdin, stdout, stderr, trees), and the container's IPv4 address."""
    trees: list[int] = []
    address = None
    while True:
        message = wire.receive(channel)
        if message is None:
            raise EOFError
        what: Any = message[0]
        if what[0] == "network":
            address = what[1][0]
            configure_network(*what[1])
        elif what[0] == "trees":
            trees += message[1]
        else:
            return what[1], [*message[1][:4], *trees, *message[1][4:]], address


def _expect(channel: _socket.socket, wanted: str) -> None:
    message = wire.receive(channel)
    if message is None or message[0] != wanted:
        raise EOFError


def configure_network(
    address: int, prefix: int, gateway: int, least_timeout_ms: int, address6: bytes, gateway6: bytes
) -> None:
    """Give the interface that the hub has put into this network namespace its addresses and its way out.

    gateway: 0 where there is no way out by IPv4. address6, gateway6: empty where there is none by IPv6.
    least_timeout_ms: as ``netlink.add_default_route``'s; 0 where pasta is not the way out.
    """
    if least_timeout_ms:
        bound_sending()
    link = netlink.Netlink()
    changes = [netlink.new_address(GUEST_INTERFACE, address, prefix), netlink.link_up(GUEST_INTERFACE)]
    if gateway:
        changes.append(netlink.new_default_route(gateway, least_timeout_ms=least_timeout_ms))
    if address6:
        changes.append(netlink.add_address(GUEST_INTERFACE, address6, 127))
        changes.append(netlink.add_neighbour(GUEST_INTERFACE, gateway6, netlink.VETH_MACS[0]))  # nobody has to ask
        changes.append(netlink.add_default_route(gateway6, least_timeout_ms=least_timeout_ms))
    link.change(*changes)
    link.close()


def _write_etc(spec: Any, order: Any, hostname: str, address: int | None) -> dict[str, int]:
    """The files that tell the container its place in the network, which it may write to, as mounts: path to tree."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{host_address}\t{name}" for name, host_address in spec["extra_hosts"]]
    if address is not None and not spec["segment"]:  # there its name is that of its place in the segment
        lines.append(".".join(map(str, address.to_bytes(4, "big"))) + f"\t{hostname}")
    contents = (order["resolv_conf"], "\n".join(lines) + "\n", hostname + "\n")
    found = {}
    for path, text in zip(_ETC_FILES, contents, strict=True):
        mounts.File(path[1:], os.fsencode(text)).execute()
        found[path] = syscalls.open_tree(syscalls.AT_FDCWD, path[1:], syscalls.OPEN_TREE_CLONE)
    return found


def _mount_layers(trees: list[int]) -> None:
    for number, tree in enumerate(trees):
        os.mkdir(f"m{number}")
        syscalls.move_mount(tree, "", syscalls.AT_FDCWD, f"m{number}", syscalls.MOVE_MOUNT_F_EMPTY_PATH)


def _extra_mounts(spec: Any, order: Any, trees: list[int]) -> dict[str, int]:
    """The mounts that the spec asks for: target to tree."""
    found = {}
    for number, (kind, target, *details) in enumerate(spec["mounts"]):
        place = f"t{number}"
        if kind in ("bind", "device", "node", "given", "root"):
            found[target] = trees[order["binds"][number]]
        elif kind == "file":
            found[target] = _file(place, target, *details)
        elif kind == "tree":
            os.mkdir(place, 0o755)
            found[target] = _tree(place, order["stacks"][number], details[1], target)
        else:
            found[target] = _tmpfs(place, target, *details)
    return found


def _tmpfs(place: str, target: str, size_bytes: int, mode: int, flags: int | None, options: tuple[str, ...]) -> int:
    """A tmpfs. flags: of the mount; None: nothing set-user-ID, no devices. options: further ones of tmpfs(5)."""
    mounts.Directory(place).execute()
    size = (f"size={size_bytes}",) if size_bytes else ()
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV if flags is None else flags
    try:
        syscalls.mount("tmpfs", place, "tmpfs", flags, ",".join((f"mode={mode:o}", *size, *options)))
    except OSError as error:
        raise MountError(f"cannot mount a tmpfs on {target}: {error.strerror}") from error
    return syscalls.open_tree(syscalls.AT_FDCWD, place, 0)


def _file(place: str, target: str, content: bytes, mode: int, uid: int, gid: int) -> int:
    """A file on this container's own tmpfs, as a tree."""
    try:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
    except OSError as error:
        hint = "IDs in a container are below 65536" if error.errno == errno.EINVAL else None
        raise refusal(error, f"cannot make the file {target}: {error.strerror}", hint) from error
    tree = syscalls.open_tree(syscalls.AT_FDCWD, place, syscalls.OPEN_TREE_CLONE)
    _restrict(tree, syscalls.MOUNT_ATTR_RDONLY)
    return tree


def _tree(place: str, stack: Any, source: str, target: str) -> int:
    """What is at ``source`` in another root filesystem, as a tree."""
    layers, upper = stack
    _overlay(layers, upper, place, [])
    root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = syscalls.openat2(root, source, os.O_PATH, resolve=mounts.RESOLVE_IN_ROOT)
    except OSError as error:
        raise refusal(
            error,
            f"cannot mount {source} on {target}: {os.strerror(error.errno or 0)}",
            f"there is no {source} in what is mounted" if error.errno == errno.ENOENT else None,
        ) from error
    finally:
        os.close(root)
    tree = syscalls.open_tree(found, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
    os.close(found)
    _restrict(tree, 0 if upper else syscalls.MOUNT_ATTR_RDONLY)
    return tree


def _restrict(tree: int, attributes: int) -> None:
    hard = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attributes=attributes | hard)


def _mount_root(order: Any, places: dict[str, int], marks: tuple[str, ...]) -> int:
    """Mount the root filesystem; a descriptor of it.

    places: what will be mounted in it, where. marks: empty files that are there, too.
    """
    files = [path for path, tree in places.items() if not stat.S_ISDIR(os.fstat(tree).st_mode)]
    directories = [path for path in places if path not in files]
    mounts.execute(mounts.plan_stubs([*_SYSTEM_DIRECTORIES, *directories], [*files, *marks]))
    layers, upper = order["root"]
    _overlay(layers, upper, "root", ["../stubs"], durable=order["durable"])
    return os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _overlay(
    layers: list[tuple[int, str]],
    upper: tuple[int, str] | None,
    target: str,
    below: list[str],
    *,
    durable: bool = False,
) -> None:
    """Mount an overlay.

    layers: (tree, path in it), base first. below: more lower directories. durable: see ``mounts.overlay``.
    """
    lowers = [f"../m{tree}/{path}" for tree, path in reversed(layers)] + below
    for number in range(len(lowers), 2):
        os.mkdir(f"{target}-{number}")
        lowers.append(f"../{target}-{number}")
    links = f"l-{target}"
    os.mkdir(links)
    try:
        mounts.overlay(lowers, f"../m{upper[0]}/{upper[1]}" if upper else None, f"../{target}", links, durable=durable)
    except OSError as error:
        hint = "see the last lines of `dmesg`; `shiplap doctor` tells whether this host can"
        if error.errno == errno.EINVAL:  # of what is mounted here, only the root's file system may be the host's choice
            hint = f"is Shiplap's root on {GOOD_KINDS}? Elsewhere, as on overlayfs: --root DIR or SHIPLAP_ROOT; {hint}"
        raise MountError(
            f"cannot mount an overlay of {len(lowers)} directories: {error.strerror}", hint=hint
        ) from error


def _attach(tree: int, root: int, path: str) -> list[stubs.Stub]:
    """Mount ``tree`` at ``path`` in the root filesystem; what had to be made in the upper layer for it."""
    try:
        try:
            mounts.attach(tree, root, path)
        except FileNotFoundError:
            directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            made = stubs.create(root, path, directory=directory)
            mounts.attach(tree, root, path)
            return made
    except OSError as error:
        raise refusal(error, f"cannot mount on {path} in the root filesystem: {error.strerror}") from error
    return []


def _open_terminal(channel: _socket.socket, size: tuple[int, int]) -> int:
    """Open the container's terminal, its console too: the client gets its master; returns the slave."""
    master, slave = open_terminal(size)
    mounts.File("/dev/console").execute()
    syscalls.mount(f"/proc/self/fd/{slave}", "/dev/console", None, syscalls.MS_BIND)
    wire.send(channel, ("terminal",), [master])
    os.close(master)
    return slave
