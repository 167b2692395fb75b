"""``python -m containers.confined TOP DIRECTORY PROGRAMS COMMAND…``: runs a command on one directory, never as root.

A web process that is root starts it, because git serves strangers. The command runs as the directory's owner. When that
is root, the command runs as nobody, and an idmapped mount shows it root's files as nobody's: what it makes there is
root's on disk, like what was there before. In a mount namespace of its own there are

    /mnt/repository.git    DIRECTORY, from which nothing is executed
    /mnt/hooks             PROGRAMS, read-only
    TOP                    nothing: other directories below it cannot be reached, by whatever links
"""

from __future__ import annotations

import os
import sys

from containers import idmap, syscalls
from containers.errors import NamespaceError

_NOBODY = 65534
_PLACE = "/mnt"
_FAILED = 125
_NO_SPECIAL = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_EMPTY = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def main(top: str, directory: str, programs: str, *command: str) -> None:
    """Does not return. Raises OSError, NamespaceError."""
    owner = os.stat(directory)
    user = owner.st_uid or _NOBODY
    group = _NOBODY if owner.st_uid == 0 else owner.st_gid or _NOBODY
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    repository = _clone(directory, _NO_SPECIAL | syscalls.MOUNT_ATTR_NOEXEC, of_root=owner.st_uid == 0)
    hooks = _clone(programs, _NO_SPECIAL | syscalls.MOUNT_ATTR_RDONLY)
    syscalls.mount("shiplap", _PLACE, "tmpfs", _EMPTY, "mode=0755,size=64k")
    for name, tree in (("repository.git", repository), ("hooks", hooks)):
        os.mkdir(f"{_PLACE}/{name}")
        syscalls.move_mount(tree, "", syscalls.AT_FDCWD, f"{_PLACE}/{name}", syscalls.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)
    syscalls.mount("shiplap", top, "tmpfs", _EMPTY | syscalls.MS_RDONLY, "mode=0755,size=4k")
    os.chdir("/")
    os.umask(0o022)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    os.environ.pop("PYTHONPATH", None)
    os.execvp(command[0], command)  # noqa: S606 - that is what it is for


def _clone(directory: str, attributes: int, *, of_root: bool = False) -> int:
    """A descriptor of a new mount of the directory. of_root: root's files are nobody's there."""
    tree = syscalls.open_tree(syscalls.AT_FDCWD, directory, syscalls.OPEN_TREE_CLONE)
    if not of_root:
        syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attributes=attributes)
        return tree
    users = idmap.user_namespace((_NOBODY, _NOBODY))
    attributes |= syscalls.MOUNT_ATTR_IDMAP
    try:
        syscalls.mount_setattr(tree, "", syscalls.AT_EMPTY_PATH, attributes=attributes, userns=users)
    except OSError as error:
        raise NamespaceError(
            f"{directory} belongs to root, and its file system does not support idmapped mounts: {error.strerror}",
            hint="give it to another user: chown -R; or run the web process as one",
        ) from error
    finally:
        os.close(users)
    return tree


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except NamespaceError as error:
        sys.stderr.write(f"{error.message} ({error.hint})\n")
        sys.exit(_FAILED)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_FAILED)
