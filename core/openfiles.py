"""The limit of open files: which errors say that it is reached, and how it is raised. (The launcher imports this.)"""

from __future__ import annotations

import errno

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_ENOUGH = 1024  # a build takes some 120; pasta has 80 of them


def hint_if_out_of_files(error: OSError) -> str | None:
    """``how_to_allow_more`` if ``error`` is about that limit, else None."""
    return how_to_allow_more() if error.errno in OUT_OF_FILES else None


def how_to_allow_more() -> str:
    """What to do when this process, or what it starts, may open too few files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bounded = hard != resource.RLIM_INFINITY
    if bounded and hard < max(_ENOUGH, soft + 1):
        return (
            f"allow more open files than {hard}: LimitNOFILE= of the unit, nofile in /etc/security/limits.conf,"
            " or --ulimit nofile= of the container"
        )
    wanted = max(4 * _ENOUGH, 2 * soft)
    return f"allow more open files than {soft}: ulimit -n {min(wanted, hard) if bounded else wanted}"
