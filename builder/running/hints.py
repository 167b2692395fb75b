"""The hint for a failed step: what to do about it, found from how it ended and what it printed last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.graph.mounts import CacheMount
from builder.graph.vertices import RunOp
from core.platforms import Platform

if TYPE_CHECKING:
    from containers.spec import ExitStatus

_LAST_BYTES: Final = 4096  # a command that fails says why at its end
_CHOWN_REFUSED: Final = re.compile(rb"(?:chown|chgrp|ownership|set[ug]id).{0,400}invalid argument", re.IGNORECASE)
_DENIED: Final = re.compile(rb"permission denied", re.IGNORECASE)
_ROOT_USERS: Final = ("", "0", "root")


def hint_for(op: RunOp, status: ExitStatus, output: bytes) -> str | None:
    """What the user can do; None where nothing is known. output: the end of what the step printed."""
    if status.exceeded:
        return "give it more, or have it do less at a time"
    if status.signal == 9:
        return "signal 9 is what the kernel sends when memory runs out"
    if op.foreign and status.message:
        return (
            f"the image is for {op.foreign}, this machine is {Platform.host()}: the kernel needs an emulator registered"
            " (binfmt_misc, flag F; on Debian: apt install qemu-user-binfmt). Cross-compiling needs none: "
            "FROM --platform=$BUILDPLATFORM"
        )
    if status.code == 127 and len(op.args) == 3 and op.args[1] == "-c":
        return "127: the shell did not find the command; is it installed in the image, and on its PATH?"
    return _about_owners(op, output[-_LAST_BYTES:])


def _about_owners(op: RunOp, output: bytes) -> str | None:
    """The hint about owners: containers without the host's root treat them differently."""
    if _CHOWN_REFUSED.search(output):
        return (
            "a step has the user and group IDs 0 to 65535 and no others: choose a smaller ID"
            " (useradd --uid, chown; tar: --no-same-owner)"
        )
    user, _, group = op.user.partition(":")
    if user not in _ROOT_USERS and _DENIED.search(output):
        for mount in op.mounts:
            if isinstance(mount, CacheMount) and not _is_for(mount, user, group):
                wanted = f"uid={user}" if user.isdecimal() else f"uid= and gid= of {user}"
                return (
                    f"the cache at {mount.target} belongs to {mount.uid}:{mount.gid} with mode {mount.mode:04o}, and"
                    f" the step runs as user {user}: write --mount=type=cache,target={mount.target},… with {wanted}"
                )
    return None


def _is_for(mount: CacheMount, user: str, group: str) -> bool:
    """Whether the mount's owner and mode let the step's user write, as far as numbers tell."""
    return str(mount.uid) == user or bool(mount.mode & 0o002) or (str(mount.gid) == group and bool(mount.mode & 0o020))
