"""Layers made mountable, in the launcher's private mount namespace: EROFS mounted once, host directories idmapped once.

A directory layer is not idmapped by itself but two levels up: the layers ROOT/snapshots/<key>/fs of a store are paths
in one idmapped mount of ROOT/snapshots. So one mount serves all such layers of a container and its upper, however many
steps a build has.
"""

from __future__ import annotations

import errno
import os
import stat

from containers import ascaller, mounts, syscalls
from containers.errors import MountError
from containers.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    OPEN_TREE_CLONE,
)
from core.filesystems import GOOD_KINDS

_RESOLVE_BENEATH, _RESOLVE_NO_MAGICLINKS = 0x08, 0x02
_IDMAP_HINT = f"put Shiplap's root (SHIPLAP_ROOT or --root) on {GOOD_KINDS}; `shiplap doctor` tries it"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Layers:
    """The layers of a root filesystem, mounted one by one.

    folder: a private directory on a tmpfs.

    userns: descriptor of the user namespace to map owners by; -1 when containers have the IDs that are on disk.
    """

    def __init__(self, folder: str, userns: int) -> None:
        self._folder = folder
        self._userns = userns
        self._places: dict[str, tuple[str, str]] = {}
        self._idmapped: dict[str, str] = {}
        self._erofs: dict[tuple[str, str], str] = {}
        self._indexes = 0
        self._mapped = 0
        self._views = 0

    def close(self) -> None:
        """Mount nothing any more, and let go of what was; containers that have it keep it."""
        for place in (*self._idmapped.values(), *self._erofs.values()):
            syscalls.umount2(place, syscalls.MNT_DETACH)
        self._places, self._idmapped, self._erofs = {}, {}, {}
        if self._userns >= 0:
            os.close(self._userns)
            self._userns = -1

    def plain(self, layer: tuple[str, ...]) -> str:
        """A directory with the layer's files under their true owners."""
        if len(layer) == 1:
            return layer[0]
        image, device = layer
        place = self._erofs.get((image, device))
        if place is None:
            self._drop_removed()
            self._indexes += 1
            place = self._new_directory(f"e{self._indexes}")
            try:
                mount_erofs(image, device, place)
            except OSError as error:
                os.rmdir(place)
                raise MountError(
                    f"cannot mount the EROFS image {image}: {error.strerror}",
                    hint="Linux 6.12 mounts EROFS from files; `shiplap doctor` tries it",
                ) from error
            self._erofs[image, device] = place
        return place

    def _drop_removed(self) -> None:
        """Unmount the indexes whose files are gone: nothing mounts them any more, and they would take their disk still.

        Containers that see one keep it until they end.
        """
        for (image, device), place in [*self._erofs.items()]:
            if os.path.exists(image):
                continue
            del self._erofs[image, device]
            self._places.pop(place, None)
            mapped = self._idmapped.pop(os.path.realpath(place), None)
            for directory in filter(None, (mapped, place)):
                syscalls.umount2(directory, syscalls.MNT_DETACH)
                os.rmdir(directory)

    def idmapped(self, path: str) -> tuple[str, str]:
        """(mount, relative path): an idmapped mount of a directory above ``path``, and where ``path`` is in it."""
        known = self._places.get(path)
        if known is not None:
            return known
        top, relative = _parted(path)
        place = self._idmapped.get(top)
        if place is None:
            self._mapped += 1
            place = self._new_directory(f"i{self._mapped}")
            tree = self.clone(top, recursive=False, idmapped=True)
            syscalls.move_mount(tree, "", AT_FDCWD, place, syscalls.MOVE_MOUNT_F_EMPTY_PATH)
            os.close(tree)
            self._idmapped[top] = place
        found = (place, relative)
        self._places[path] = found
        return found

    def owned(self, path: str, userns: int, trees: dict[str, int]) -> tuple[int, str]:
        """As ``idmapped``, with the owners of another user namespace: the mount as a descriptor, which nobody else has.

        trees: the descriptors that were made so far, by the directory that each shows; the caller closes them.
        """
        top, relative = _parted(path)
        if top not in trees:
            trees[top] = self.clone(top, recursive=False, idmapped=True, userns=userns)
        return trees[top], relative

    def clone(
        self,
        path: str,
        *,
        recursive: bool,
        idmapped: bool,
        readonly: bool = False,
        attributes: int = 0,
        userns: int | None = None,
        shown: str = "",
    ) -> int:
        """A descriptor of a detached copy of the mount at ``path``. Raises MountError.

        userns: by which owners are mapped; None: as they are for all containers. shown: what messages call the path.
        """
        userns = self._userns if userns is None else userns
        deep = AT_RECURSIVE if recursive else 0
        tree = -1
        try:
            tree = syscalls.open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | deep)
            wanted = attributes | (syscalls.MOUNT_ATTR_RDONLY if readonly else 0)
            if idmapped and userns >= 0:
                syscalls.mount_setattr(
                    tree, "", AT_EMPTY_PATH | deep, attributes=wanted | syscalls.MOUNT_ATTR_IDMAP, userns=userns
                )
            elif wanted:
                syscalls.mount_setattr(tree, "", AT_EMPTY_PATH | deep, attributes=wanted)
        except OSError as error:
            if tree >= 0:
                os.close(tree)
            hint = _IDMAP_HINT if idmapped and error.errno in (errno.EINVAL, errno.EPERM) and tree >= 0 else None
            what = "its file system does not support idmapped mounts" if hint else error.strerror
            raise MountError(f"cannot mount {shown or path} in a container: {what}", hint=hint) from error
        return tree

    def bind(self, source: str, *, readonly: bool, idmapped: bool, how: dict[str, Any], ranges: tuple[int, int]) -> int:
        """A descriptor of a detached copy of a bind: set-user-ID bits and devices do not work there. Raises MountError.

        how: may be empty.
            within: what is meant, as who has ``source`` for a root finds it.
            subpath: what of ``source`` is meant. Whatever is in there, this leads to nothing outside of it.
            flat: what is mounted below it is not there.
            shallow: read-only is what is of the mount itself, not what is mounted below it.
            propagation: ``private`` and ``rprivate`` make what is mounted on the host later not appear, ``slave`` and
                ``rslave`` make it appear; empty is whatever holds for this process.
            caller: whose bind it is, where that is not root; see ``ascaller``.
        ranges: the container's first host user and group ID.
        """
        deep, shallow = not how.get("flat"), bool(how.get("shallow"))
        caller = how.get("caller")
        shown = how.get("within") or source
        tree = fd = userns = -1
        try:
            if caller:
                fd = ascaller.opened(source, how.get("subpath", ""), caller)
                userns = ascaller.owners(ranges, caller)
            elif how.get("within"):
                fd = rooted(source, how["within"], how.get("subpath", ""))
            elif how.get("subpath"):
                fd = beneath(source, how["subpath"])
            tree = self.clone(
                f"/proc/self/fd/{fd}" if fd >= 0 else source,
                recursive=deep,
                idmapped=idmapped,
                readonly=readonly and not shallow,
                attributes=syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV,
                userns=userns if caller else None,
                shown=shown,
            )
            if readonly and shallow:
                syscalls.mount_setattr(tree, "", AT_EMPTY_PATH, attributes=syscalls.MOUNT_ATTR_RDONLY)
            propagation = how.get("propagation") or ""
            if propagation.endswith("private"):
                below = AT_RECURSIVE if propagation.startswith("r") else 0
                syscalls.mount_setattr(tree, "", AT_EMPTY_PATH | below, attributes=0, propagation=syscalls.MS_PRIVATE)
            return tree
        except OSError as error:
            if tree >= 0:
                os.close(tree)
            what = f"{shown}/{how['subpath']}" if how.get("subpath") else shown
            raise MountError(f"cannot mount {what} in a container: {error.strerror}") from error
        finally:
            for opened in (fd, userns):
                if opened >= 0:
                    os.close(opened)

    def device(self, source: str, owner: tuple[int, int]) -> int:
        """A descriptor of a mount of a device node: as the host's ``source``, but of ``owner``. Raises MountError.

        The node of the host itself belongs to a user whom containers do not know. Where containers have the IDs of
        this process (owner is (0, 0)), nobody may make nodes, and the mount is of the host's.
        """
        try:
            status = os.stat(source)
            if stat.S_IFMT(status.st_mode) not in (stat.S_IFCHR, stat.S_IFBLK):
                raise MountError(f"{source} is no device")
            if not any(owner):
                return syscalls.open_tree(AT_FDCWD, os.path.realpath(source), OPEN_TREE_CLONE)
            place = self._node(status, owner)
            return syscalls.open_tree(AT_FDCWD, place, OPEN_TREE_CLONE)
        except OSError as error:
            raise MountError(f"cannot have the device {source} in a container: {error.strerror}") from error

    def shared_device(self, source: str, owner: tuple[int, int]) -> int:
        """As ``device``, for any number of containers at once: the node is the same for all, and none can change it.

        Devices are written to on a read-only mount, too.
        """
        try:
            if not any(owner):
                tree = syscalls.open_tree(AT_FDCWD, os.path.realpath(source), OPEN_TREE_CLONE)
            else:
                status = os.stat(source)
                if stat.S_IFMT(status.st_mode) != stat.S_IFCHR:
                    raise MountError(f"{source} is no character device")
                folder = self._tmpfs_of_nodes("nodes")
                place = f"{folder}/{status.st_rdev}"
                if not os.path.exists(place):
                    _make_node(place, status, owner)
                tree = syscalls.open_tree(AT_FDCWD, place, OPEN_TREE_CLONE)
            syscalls.mount_setattr(tree, "", AT_EMPTY_PATH, attributes=syscalls.MOUNT_ATTR_RDONLY)
            return tree
        except OSError as error:
            raise MountError(f"cannot have the device {source} in a container: {error.strerror}") from error

    def drop_nodes(self) -> None:
        """Let go of the device nodes that were made for a container that has ended."""
        folder = f"{self._folder}/dev"
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")

    def _node(self, status: os.stat_result, owner: tuple[int, int]) -> str:
        folder = self._tmpfs_of_nodes("dev")
        place = f"{folder}/{len(os.listdir(folder))}"
        _make_node(place, status, owner)
        return place

    def _tmpfs_of_nodes(self, name: str) -> str:
        folder = f"{self._folder}/{name}"
        if not os.path.isdir(folder):
            self._new_directory(name)
            syscalls.mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=700")
        return folder

    def view(self, layers: list[tuple[str, ...]]) -> int:
        """A descriptor of a read-only merged directory; the mount behind it lives as long as the descriptor."""
        if not layers:
            return _open_directory(self._new_directory("empty"))
        paths = [self.plain(layer) for layer in reversed(layers)]
        if len(paths) == 1:
            return _open_directory(paths[0])
        self._views += 1
        links = self._new_directory(f"l{self._views}")
        target = self._new_directory(f"v{self._views}")
        try:
            mounts.overlay(paths, None, target, links, flags=MS_RDONLY | MS_NODEV | MS_NOSUID)
        except OSError as error:
            raise MountError(f"cannot mount a view of {len(paths)} layers: {error.strerror}") from error
        finally:
            for name in os.listdir(links):
                os.unlink(f"{links}/{name}")
            os.rmdir(links)
        try:
            return _open_directory(target)
        finally:
            syscalls.umount2(target, syscalls.MNT_DETACH)
            os.rmdir(target)

    def _new_directory(self, name: str) -> str:
        path = f"{self._folder}/{name}"
        os.makedirs(path, 0o755, exist_ok=True)
        return path


def _make_node(place: str, status: os.stat_result, owner: tuple[int, int]) -> None:
    os.mknod(place, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
    os.chown(place, *owner)
    os.chmod(place, stat.S_IMODE(status.st_mode))


def beneath(folder: str, path: str) -> int:
    """A descriptor of what is at ``path`` below ``folder``; links that lead out of it are refused. Raises OSError."""
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.openat2(top, path, os.O_PATH, resolve=_RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(top)


def rooted(root: str, path: str, below: str) -> int:
    """A descriptor of what is at ``path`` for who has ``root`` for a root, or of what is ``below`` that.

    Raises OSError.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = syscalls.openat2(top, path, os.O_PATH, resolve=mounts.RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(top)
    if not below:
        return found
    try:
        return syscalls.openat2(found, below, os.O_PATH, resolve=_RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(found)


def _parted(path: str) -> tuple[str, str]:
    """The directory above ``path`` that is mounted, and where ``path`` is in it. Raises MountError."""
    try:
        real = os.path.realpath(path, strict=True)
        top = _ancestor(real)
    except OSError as error:
        raise MountError(f"cannot mount the layer {path}: {error.strerror}") from error
    return top, os.path.relpath(real, top)


def _ancestor(path: str) -> str:
    """The directory two levels above ``path`` (absolute, without links), or as far up as the same mount reaches."""
    identity = syscalls.mount_id(path)
    for _ in range(2):
        parent = os.path.dirname(path)
        if parent == "/" or syscalls.mount_id(parent) != identity:
            break
        path = parent
    return path


def mount_erofs(image: str, device: str, place: str) -> None:
    """Mount the index ``image`` over the tar ``device``, both files. Raises OSError."""
    index = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # By their descriptors: a path may have commas, which part options, or be too long for an option.
            options = f"device=/proc/self/fd/{data}"
            syscalls.mount(f"/proc/self/fd/{index}", place, "erofs", MS_RDONLY | MS_NODEV, options)
        finally:
            os.close(data)
    finally:
        os.close(index)


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"cannot open the layer {path}: {error.strerror}") from error
