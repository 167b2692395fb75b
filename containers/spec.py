"""What to run, as data: a frozen description of one container, made by the client and sent to the launcher."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from containers.capabilities import DEFAULT_CAPABILITIES
from containers.limits import DEFAULT_SHM_BYTES
from containers.resources import Limits, ResourceLimit
from core.rootfs import DirectoryLayer, RootLayer

Network: TypeAlias = Literal["default", "none", "host"]


class Bind(NamedTuple):
    """A file or directory of the host, with what is mounted below it, seen at ``target``.

    source: an absolute path. idmapped: owners appear as they are on disk (0 is the container's root); without it, the
    host's IDs are unknown inside (65534). Set-user-ID bits and devices never work through a bind.
    """

    source: str
    target: str
    readonly: bool = False
    idmapped: bool = True


class Tmpfs(NamedTuple):
    """An empty directory in memory. size_bytes: 0 is the kernel's default, half of memory. mode: of its root."""

    target: str
    size_bytes: int = 0
    mode: int = 0o1777


class File(NamedTuple):
    """A read-only file in memory, which never reaches a disk: for secrets, and for what exists for one command only."""

    target: str
    content: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


class Tree(NamedTuple):
    """A file or directory of another root filesystem.

    layers: as in ContainerSpec.
    source: what of it is mounted, links resolved inside it.
    upper: as in ContainerSpec; it takes what is written there. None makes the tree read-only.
    owner: a user and a group of the container to whom belongs what is root's on disk, and root has what is theirs
        there. So what they write is root's on disk. Without root (``containers.rootless``) nothing is changed.
    """

    layers: tuple[RootLayer, ...]
    target: str
    source: str = "/"
    upper: str | None = None
    owner: tuple[int, int] = (0, 0)


class Device(NamedTuple):
    """A device of the host's, as a node of the container's root, who cannot change the node itself."""

    source: str
    target: str


class OthersRoot(NamedTuple):
    """The root filesystem of the container that this one accompanies, with all that is mounted there."""

    target: str


Mount: TypeAlias = Bind | Tmpfs | File | Tree | Device | OthersRoot


class SegmentPlace(NamedTuple):
    """A container's place in a segment.

    segment: its descriptor, as ``Launcher.segment`` gave it.
    address: as ``segment.address_of`` has it.
    """

    segment: int
    address: str


class LimitGroup(NamedTuple):
    """Limits that several containers of a launcher have together, beside those that each has of its own.

    name: none of its other containers' groups has it; of letters and digits.
    limits: the same for each container of the group.
    """

    name: str
    limits: Limits


class ContainerSpec(NamedTuple):
    """One container.

    layers: the root filesystem, base first; may be empty.
    upper: a directory that holds ``fs`` and ``work``, both empty at first, which takes what the container changes;
        None makes the root read-only.
    args: the command, at least one; ``args[0]`` without a slash is searched in PATH of ``env``.
    env: in order; the last of equal names counts. HOME and PATH get docker's defaults when absent.
    cwd: absolute; created (0755, root) when missing and the root is writable.
    user: ``[user|uid][:[group|gid]]``, looked up in the root filesystem; empty is root.
    mounts: in this order; one may lie in another before it.
    hostname: empty gives a random one of 12 hexadecimal digits, as docker does.
    network: how it reaches the outside.
    segment: its place in a segment, beside what ``network`` gives it.
    extra_hosts: (name, address) lines for /etc/hosts.
    terminal: a pseudo-terminal is the process's stdin, stdout, stderr and controlling terminal; ``Container.terminal``
        is its other end.
    terminal_size: rows and columns at the start.
    terminal_input: with a terminal, whether that is stdin, too; else stdin is what ``start`` was given.
    capabilities: the bounding, permitted and effective set of root. Other users start with no effective ones.
    filtered: whether system calls are restricted to those of ``containers.seccomp``.
    limits: for the container as a whole.
    group: whose limits hold for it and for others together.
    ulimits: for each process, where they differ from the launcher's own.
    shm_bytes: the size of /dev/shm.
    init: the command is not the first process, but the child of one of ours, which reaps, and passes on to all what
        ``Container.signal`` sends. After a SIGTERM the container ends when the last process has. Without it,
        the container ends with the command.
    reaper: as ``init``, but as docker's ``--init``: it ends with the command, which alone gets the signals.
    durable: the upper outlives the container, and may be mounted again.
    no_new_privileges: set-user-ID programs and file capabilities give nothing.
    marks: empty files that are there unless the root has them, and that no upper directory shows.
    privileged: nothing of /proc and /sys is hidden, and what is its own there can be written.
    """

    layers: tuple[RootLayer, ...]
    upper: str | None
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: Network = "default"
    segment: SegmentPlace | None = None
    mounts: tuple[Mount, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    terminal: bool = False
    terminal_size: tuple[int, int] = (24, 80)
    terminal_input: bool = True
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    filtered: bool = True
    limits: Limits = Limits()
    group: LimitGroup | None = None
    ulimits: tuple[ResourceLimit, ...] = ()
    shm_bytes: int = DEFAULT_SHM_BYTES
    init: bool = False
    reaper: bool = False
    durable: bool = False
    no_new_privileges: bool = False
    marks: tuple[str, ...] = ()
    privileged: bool = False


class ExitStatus(NamedTuple):
    """How a container ended.

    code: as a shell reports it: 128+n for signal n, 127 when the command was not found, 126 when it cannot be executed.
    signal: the signal that ended it, else None.
    message: why it never started, for 126 and 127, else empty.
    exceeded: the limits that it ran into: ``memory`` when the kernel killed one of its processes, ``pids`` when it
        refused to make one; ``limits.MEMORY_TOGETHER`` when one was killed, and the limit was its group's;
        ``limits.MEMORY_ABOVE`` when it was neither's.
    """

    code: int
    signal: int | None = None
    message: str = ""
    exceeded: tuple[str, ...] = ()


def layers_to_wire(layers: tuple[RootLayer, ...]) -> list[tuple[str, ...]]:
    """Layers as plain values: (path,) is a directory, (image, device) EROFS."""
    return [(layer.path,) if isinstance(layer, DirectoryLayer) else (layer.image, layer.device) for layer in layers]


def to_wire(spec: ContainerSpec) -> dict[str, object]:
    """The spec as plain values. Raises ValueError for what no kernel could do."""
    if not spec.args:
        raise ValueError("a container needs a command")
    for path in (spec.cwd, *(mount.target for mount in spec.mounts)):
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path!r}")
    return {
        "layers": layers_to_wire(spec.layers),
        "upper": spec.upper,
        "args": spec.args,
        "env": spec.env,
        "cwd": spec.cwd,
        "user": spec.user,
        "hostname": spec.hostname,
        "network": spec.network,
        "segment": "" if spec.segment is None else spec.segment.address,
        "mounts": [_mount_to_wire(mount) for mount in spec.mounts],
        "extra_hosts": spec.extra_hosts,
        "terminal": spec.terminal,
        "terminal_size": spec.terminal_size,
        "terminal_input": spec.terminal_input,
        "capabilities": sorted(spec.capabilities),
        "filtered": spec.filtered,
        "limits": _limits(spec)._asdict(),
        "limited": spec.limits != Limits(),
        "group": None if spec.group is None else (spec.group.name, spec.group.limits._asdict()),
        "shm_bytes": spec.shm_bytes,
        "ulimits": [(limit.name, limit.soft, limit.hard) for limit in spec.ulimits],
        "init": spec.init,
        "reaper": spec.reaper,
        "durable": spec.durable,
        "no_new_privileges": spec.no_new_privileges,
        "extras": _extras(spec),
    }


def _extras(spec: ContainerSpec) -> dict[str, object]:
    found: dict[str, object] = {"marks": spec.marks} if spec.marks else {}
    return {**found, "privileged": True} if spec.privileged else found


def _limits(spec: ContainerSpec) -> Limits:
    """Its limits; a process of ours is none of the command's."""
    limits = spec.limits
    return limits._replace(pids=limits.pids + 1) if (spec.init or spec.reaper) and limits.pids else limits


def _mount_to_wire(mount: Mount) -> tuple[object, ...]:
    if isinstance(mount, Bind):
        return ("bind", mount.target, mount.source, mount.readonly, mount.idmapped, {})
    if isinstance(mount, File):
        return ("file", mount.target, mount.content, mount.mode, mount.uid, mount.gid)
    if isinstance(mount, Tree):
        return ("tree", mount.target, layers_to_wire(mount.layers), mount.source, mount.upper, mount.owner)
    if isinstance(mount, Device):
        return ("node", mount.target, mount.source)
    if isinstance(mount, OthersRoot):
        return ("root", mount.target)
    return ("tmpfs", mount.target, mount.size_bytes, mount.mode, None, ())
