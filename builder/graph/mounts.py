"""RUN --mount as data: what the frontend makes of a flag, its share in the cache key, the order of mounting."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from builder.graph.copyspec import CopySpec

if TYPE_CHECKING:
    from dockerfile_grammar.mounts import Mount

CONTEXT_TARGET = "/mount"
"""A mount from the build context is a layer; this is the path of the mounted files in it."""

EMPTY_DIRECTORY = "/empty"
"""The path of the mounted directory in the layer that stands for scratch."""

_DEFAULT_DIRECTORY_MODE = 0o755
_DEFAULT_SECRET_MODE = 0o400
_DEFAULT_SOCKET_MODE = 0o600


class BindMount(msgspec.Struct, frozen=True):
    """Files of the vertex' source number ``source``. ``path`` is absolute in it. Whatever is written is thrown away."""

    target: str
    source: int
    path: str
    readonly: bool

    def identity(self) -> tuple[object, ...]:
        return ("bind", self.target, self.readonly)  # mounted files count by their content, wherever they are


class CacheMount(msgspec.Struct, frozen=True):
    """A directory that outlives the build.

    source: number of the source that gives the first content, as in BindMount; None: it starts empty.
    is_copy: the directory itself gets owner and mode from its source, whatever the mount asks for.
    """

    target: str
    id: str
    sharing: Literal["shared", "private", "locked"]
    readonly: bool
    mode: int = _DEFAULT_DIRECTORY_MODE
    uid: int = 0
    gid: int = 0
    source: int | None = None
    path: str = "/"
    is_copy: bool = False

    def identity(self) -> tuple[object, ...]:
        return ("cache", self.target, self.id, self.readonly, self.mode, self.uid, self.gid)


class TmpfsMount(msgspec.Struct, frozen=True):
    """An empty directory in memory. size_bytes: 0 is the kernel's default."""

    target: str
    size_bytes: int

    def identity(self) -> tuple[object, ...]:
        return ("tmpfs", self.target, self.size_bytes)


class SecretMount(msgspec.Struct, frozen=True):
    """A secret of the build as a file at ``target`` (None: no file) and in the variable ``env`` (None: in none)."""

    id: str
    target: str | None
    env: str | None
    required: bool
    mode: int = _DEFAULT_SECRET_MODE
    uid: int = 0
    gid: int = 0

    def identity(self) -> tuple[object, ...]:
        return ("secret", self.id, self.target, self.env, self.mode, self.uid, self.gid)


class SshMount(msgspec.Struct, frozen=True):
    """The socket of an SSH agent of the build."""

    id: str
    target: str
    required: bool
    mode: int = _DEFAULT_SOCKET_MODE
    uid: int = 0
    gid: int = 0

    def identity(self) -> tuple[object, ...]:
        return ("ssh", self.id, self.target, self.mode, self.uid, self.gid)


RunMount: TypeAlias = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class MountSpec(CopySpec):
    """The files of a mount from the build context, as a copy into an empty filesystem."""

    __slots__ = ()

    @property
    def verb(self) -> str:
        return "RUN --mount source"


def context_spec(path: str) -> MountSpec:
    """The copy that puts ``path`` of the context (absolute, as in the mount) at CONTEXT_TARGET."""
    return MountSpec((path,), CONTEXT_TARGET, link=True)


def selection_spec(path: str) -> MountSpec:
    """The copy that selects ``path`` of another filesystem, with its owners."""
    return MountSpec((path,), CONTEXT_TARGET, link=True, from_context=False)


def source_path(mount: Mount) -> str:
    """``source``, absolute and clean."""
    return absolute("/", mount.source)


def absolute(directory: str, path: str) -> str:
    """``path`` seen from ``directory``, clean; it cannot leave the root."""
    return "/" + posixpath.normpath(posixpath.join("/", directory, path)).lstrip("/")


def cache_mount(mount: Mount, target: str, source: int | None, path: str, namespace: str = "") -> CacheMount:
    """The cache mount. namespace: the value of BUILDKIT_CACHE_MOUNT_NS, a part of the ID."""
    own = mount.id or posixpath.normpath(mount.target)
    return CacheMount(
        target,
        f"{namespace}/{own}" if namespace else own,
        mount.sharing or "shared",
        mount.readonly,
        _DEFAULT_DIRECTORY_MODE if mount.mode is None else mount.mode,
        mount.uid or 0,
        mount.gid or 0,
        source,
        path,
        source is not None and source_path(mount) != "/",
    )


def secret_mount(mount: Mount, workdir: str) -> SecretMount:
    """The mount by BuildKit's rules: target and ID default to each other; a variable has no file unless asked for."""
    name = mount.id or mount.source or posixpath.basename(mount.target) or mount.env or ""
    target = absolute(workdir, mount.target) if mount.target else None
    if target is None and not mount.env:
        target = f"/run/secrets/{posixpath.basename(name)}"
    mode = _DEFAULT_SECRET_MODE if mount.mode is None else mount.mode
    return SecretMount(name, target, mount.env or None, mount.required, mode, mount.uid or 0, mount.gid or 0)


def ssh_mount(mount: Mount, workdir: str, number: int) -> SshMount:
    """The SSH mount. number: how many such mounts the instruction has before this one."""
    target = absolute(workdir, mount.target) if mount.target else f"/run/buildkit/ssh_agent.{number}"
    mode = _DEFAULT_SOCKET_MODE if mount.mode is None else mount.mode
    return SshMount(mount.id or mount.source or "default", target, mount.required, mode, mount.uid or 0, mount.gid or 0)


def mounting_order(mounts: list[RunMount]) -> tuple[RunMount, ...]:
    """The mounts, outer before inner; those of equal depth in the order written."""
    return tuple(sorted(mounts, key=lambda mount: len((mount.target or "").rstrip("/").split("/"))))
