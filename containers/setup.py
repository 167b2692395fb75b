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
import fcntl
import gc
import os
import resource
import stat
import struct
import sys
import termios

from containers import capabilities, init, mounts, netlink, stubs, syscalls, users, wire
from containers.errors import ContainerError, LimitError, MountError, NamespaceError, PlaceError
from containers.limits import DEFAULT_SHM_BYTES
from core.filesystems import GOOD_KINDS
from core.openfiles import hint_if_out_of_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAGING = "staging"
GUEST_INTERFACE = 2  # index of eth0; 1 is lo

_OF_THE_FILES = (
    errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
)  # fmt: skip
_OF_THE_MACHINE = (errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the machine: for these a program is not executed although it could be."""

_NOT_FOUND, _NOT_EXECUTABLE, _FAILED = 127, 126, 125
_MOST_ACCOUNT_BYTES = 4 << 20  # of /etc/passwd, of /etc/group
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_SYSTEM_DIRECTORIES = ["/dev", "/proc", "/sys", "/etc"]
_ETC_FILES = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"]


class CommandError(Exception):
    """The command cannot be executed. code: docker's exit code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def run(channel: _socket.socket, cgroup_fds: list[int], *, network: str) -> NoReturn:
    """Become the container's command, or report on ``channel`` why not. Never returns.

    The working directory is one called STAGING, which a tmpfs of this container may cover. network: as in the spec.
    """
    try:
        try:
            _prepare(channel, cgroup_fds, network)
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


def _prepare(channel: _socket.socket, cgroup_fds: list[int], network: str) -> None:
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
    syscalls.unshare(syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWIPC)
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
    if spec["shm_bytes"] != DEFAULT_SHM_BYTES:
        mounts.resize_shm(spec["shm_bytes"])
    places = _write_etc(spec, order, hostname, address)
    _mount_layers(trees[: order["layer_trees"]])
    places.update(_extra_mounts(spec, order, trees))
    root = _mount_root(order, places)
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
    _execute(channel, spec, stdio, order["filter"])


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
            address, prefix, gateway = what[1]
            configure_network(address, prefix, gateway)
        elif what[0] == "trees":
            trees += message[1]
        else:
            return what[1], [*message[1][:4], *trees, *message[1][4:]], address


def _expect(channel: _socket.socket, wanted: str) -> None:
    message = wire.receive(channel)
    if message is None or message[0] != wanted:
        raise EOFError


def configure_network(address: int, prefix: int, gateway: int) -> None:
    """Give the interface that the hub has put into this network namespace its address and its way out."""
    link = netlink.Netlink()
    link.change(
        netlink.new_address(GUEST_INTERFACE, address, prefix),
        netlink.link_up(GUEST_INTERFACE),
        netlink.new_default_route(gateway),
    )
    link.close()


def _write_etc(spec: Any, order: Any, hostname: str, address: int | None) -> dict[str, int]:
    """The files that tell the container its place in the network, which it may write to, as mounts: path to tree."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{host_address}\t{name}" for name, host_address in spec["extra_hosts"]]
    if address is not None:
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
        if kind == "bind":
            found[target] = trees[order["binds"][number]]
        elif kind == "file":
            found[target] = _file(place, target, *details)
        elif kind == "tree":
            os.mkdir(place, 0o755)
            found[target] = _tree(place, order["stacks"][number], details[1], target)
        else:
            size, mode = details
            mounts.Directory(place).execute()
            options = f"mode={mode:o}" + (f",size={size}" if size else "")
            syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
            found[target] = syscalls.open_tree(syscalls.AT_FDCWD, place, 0)
    return found


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
        raise _refusal(error, f"cannot make the file {target}: {error.strerror}", hint) from error
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
        raise _refusal(
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


def _mount_root(order: Any, places: dict[str, int]) -> int:
    """Mount the root filesystem; a descriptor of it. places: what will be mounted in it, where."""
    files = [path for path, tree in places.items() if not stat.S_ISDIR(os.fstat(tree).st_mode)]
    directories = [path for path in places if path not in files]
    mounts.execute(mounts.plan_stubs([*_SYSTEM_DIRECTORIES, *directories], files))
    layers, upper = order["root"]
    _overlay(layers, upper, "root", ["../stubs"])
    return os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _overlay(layers: list[tuple[int, str]], upper: tuple[int, str] | None, target: str, below: list[str]) -> None:
    """Mount an overlay. layers: (tree, path in it), base first. below: more lower directories."""
    lowers = [f"../m{tree}/{path}" for tree, path in reversed(layers)] + below
    for number in range(len(lowers), 2):
        os.mkdir(f"{target}-{number}")
        lowers.append(f"../{target}-{number}")
    links = f"l-{target}"
    os.mkdir(links)
    try:
        mounts.overlay(lowers, f"../m{upper[0]}/{upper[1]}" if upper else None, f"../{target}", links)
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
        raise _refusal(error, f"cannot mount on {path} in the root filesystem: {error.strerror}") from error
    return []


def _open_terminal(channel: _socket.socket, size: tuple[int, int]) -> int:
    """Open a pseudo-terminal of the container's own devpts: the client gets its master; returns the slave."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=HHHH", *size, 0, 0))
    mounts.File("/dev/console").execute()
    syscalls.mount(f"/proc/self/fd/{slave}", "/dev/console", None, syscalls.MS_BIND)
    wire.send(channel, ("terminal",), [master])
    os.close(master)
    return slave


def _execute(channel: _socket.socket, spec: Any, stdio: list[int], call_filter: bytes | None) -> NoReturn:
    env = dict(spec["env"])
    user = users.resolve(spec["user"], _lines("/etc/passwd"), _lines("/etc/group"))
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOME", user.home)
    for target, fd in enumerate(stdio):
        os.dup2(fd, target)
    for fd in range(3):
        _own_pipe(fd, user)
    syscalls.close_all_but({0, 1, 2, channel.fileno()})
    if spec["init"]:
        init.stay_behind(channel)
    os.setsid()
    if spec["terminal"]:
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        os.fchown(1, user.uid, -1)
        env.setdefault("TERM", "xterm")
    os.umask(0o022)
    _enter_directory(spec["cwd"])
    _set_ulimits(spec["ulimits"])
    syscalls.keyctl_join_session_keyring()
    if call_filter is not None:  # before privileges go: without no_new_privs it takes CAP_SYS_ADMIN to load one
        syscalls.set_seccomp_filter(call_filter)
    _become(user, capabilities.mask(spec["capabilities"]))
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
    for number in range(1, 32):  # Python ignores SIGPIPE and SIGXFSZ, which would last beyond execve
        if number not in (syscalls.SIGKILL, syscalls.SIGSTOP):
            syscalls.signal_default(number)
    limited = any(name == "nproc" for name, _soft, _hard in spec["ulimits"])  # then it is the one who asked for it
    wire.send(channel, ("executing",))
    _exec(list(spec["args"]), env, () if limited else _OF_THE_MACHINE)


def _lines(path: str) -> list[str]:
    """The lines of a file of the container's; none where it is no plain file, which might never end, or never begin."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return []
    with open(fd, "rb") as file:
        return file.read(_MOST_ACCOUNT_BYTES).decode("utf-8", "surrogateescape").split("\n")


def _own_pipe(fd: int, user: users.User) -> None:
    """Let the user reopen a pipe by /dev/stdout and the like; the launcher has already given it to our root."""
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            os.fchown(fd, user.uid, user.gid)
    except PermissionError:
        return  # a pipe of somebody else's: usable as it is, only not by name


def _enter_directory(path: str) -> None:
    try:
        os.makedirs(path, 0o755, exist_ok=True)
        os.chdir(path)
        os.getcwd()  # fails when the directory is not below the root (CVE-2024-21626)
    except OSError as error:
        raise _refusal(error, f"cannot use {path} as working directory: {error.strerror}") from error


def _refusal(error: OSError, message: str, hint: str | None = None) -> MountError:
    """The error for a place that cannot be had: it is the fault of the files there, or the machine's."""
    return (PlaceError if error.errno in _OF_THE_FILES else MountError)(message, hint=hint)


def _set_ulimits(wanted: list[tuple[str, int, int]]) -> None:
    for name, soft, hard in wanted:
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
        except (ValueError, OSError) as error:
            own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            raise LimitError(
                f"cannot set the limit {name} to {soft}:{hard}: {error}", hint=f"this host allows {own} at most"
            ) from error


def _become(user: users.User, allowed: int) -> None:
    """Drop to the user and the capabilities. no_new_privs stays off as in docker, so that set-user-ID programs work."""
    for number in range(64):
        if not allowed >> number & 1:
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # beyond the last one that this kernel knows
    os.setgroups(sorted({user.gid, *user.groups}))  # with its own, as containerd does
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if user.uid == 0:
        syscalls.capset(effective=allowed, permitted=allowed, inheritable=0)


def _exec(args: list[str], env: dict[str, str], unable: tuple[int, ...]) -> NoReturn:
    """Execute args[0], searched in PATH as docker does. Raises CommandError, and ContainerError (``unable``).

    unable: numbers of errors that say nothing about the command.
    """
    name = args[0]
    if "/" in name:
        candidates = [name]
    else:
        candidates = [f"{folder or '.'}/{name}" for folder in env["PATH"].split(":")] if name else []
    refused: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, args, env)  # noqa: S606 - without a shell is the point
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.lexists(path) and not os.path.isdir(path):
                refused = refused or error
        except OSError as error:
            if error.errno in unable:
                raise ContainerError(f"cannot execute {name}: {error.strerror}") from error
            refused = error
            if error.errno != errno.EACCES:
                break
    if refused is None:
        why = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        raise CommandError(_NOT_FOUND, f'exec: "{name}": {why}')
    if refused.errno == errno.ENOENT:
        raise CommandError(_NOT_FOUND, f"exec {name}: no such file or directory (its interpreter or loader is missing)")
    why = "is a directory" if os.path.isdir(refused.filename) else os.strerror(refused.errno or 0).lower()
    raise CommandError(_NOT_EXECUTABLE, f'exec: "{name}": {why}')
