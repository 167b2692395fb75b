"""Places to mount on that only the container's upper layer can provide, and their removal afterwards.

Usually the stub layer below all layers has them (``mounts.plan_stubs``). A stub does not help where a layer's whiteout
or opaque directory hides it, or where a parent is a symbolic link. Then the place is made in the merged root, hence in
the upper. The launcher takes it out again when the container has ended, so that the layer does not show it. A place
into which the container has put something stays. The parent's modification time is put back unless somebody else
changed it.
"""

from __future__ import annotations

import os

from containers import syscalls
from containers.mounts import RESOLVE_IN_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Stub: TypeAlias = tuple[str, bool, int, int]
    """(path in the root, is a directory, parent's modification time in ns before and after)."""

_BENEATH = 0x08 | 0x04  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY


def create(root: int, path: str, *, directory: bool) -> list[Stub]:
    """Make ``path`` and its missing parents below the descriptor ``root``, confined to it; what was made, in order.

    Raises OSError; FileExistsError when a dangling link is in the way.
    """
    made: list[Stub] = []
    names = [name for name in path.split("/") if name]
    root_path = os.readlink(f"/proc/self/fd/{root}")
    parent = os.dup(root)
    try:
        for depth, name in enumerate(names, 1):
            is_directory = directory or depth < len(names)
            flags = _FOLDER if is_directory else os.O_PATH | os.O_NOFOLLOW
            try:
                child = syscalls.openat2(root, "/".join(names[:depth]), flags, resolve=RESOLVE_IN_ROOT)
            except FileNotFoundError:
                made.append(_make(parent, root_path, name, directory=is_directory))
                child = syscalls.openat2(root, "/".join(names[:depth]), flags, resolve=RESOLVE_IN_ROOT)
            os.close(parent)
            parent = child
    finally:
        os.close(parent)
    return made


def _make(parent: int, root_path: str, name: str, *, directory: bool) -> Stub:
    before = os.fstat(parent).st_mtime_ns
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
    where = os.readlink(f"/proc/self/fd/{parent}").removeprefix(root_path)
    return (f"{where}/{name}", directory, before, os.fstat(parent).st_mtime_ns)


def remove(upper: str, made: list[Stub]) -> None:
    """Take out of the upper layer at ``upper`` what ``create`` made there and nobody has used since."""
    top = os.open(upper, _FOLDER | os.O_CLOEXEC)
    try:
        for path, directory, before, after in reversed(made):
            folder, _, name = path.strip("/").rpartition("/")
            try:
                parent = syscalls.openat2(top, folder or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)
            except OSError:
                continue  # the container has moved or removed it
            try:
                _remove_one(parent, name, directory, before, after)
            finally:
                os.close(parent)
    finally:
        os.close(top)


def _remove_one(parent: int, name: str, directory: bool, before: int, after: int) -> None:
    untouched = os.fstat(parent).st_mtime_ns == after
    try:
        if directory:
            os.rmdir(name, dir_fd=parent)
        elif os.stat(name, dir_fd=parent, follow_symlinks=False).st_size == 0:
            os.unlink(name, dir_fd=parent)
        else:
            return
    except OSError:
        return  # not empty, not there, or something else by now
    if untouched:
        os.utime(parent, ns=(os.fstat(parent).st_atime_ns, before))
