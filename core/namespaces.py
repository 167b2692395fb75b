"""Where this process stands among user namespaces. (The launcher imports this: no ``typing``.)"""

from __future__ import annotations

_WHOLE = [(0, 0, 0xFFFFFFFF)]


def id_map(kind: str = "uid") -> list[tuple[int, int, int]]:
    """This process's map of user (``uid``) or group (``gid``) IDs: (first inside, first outside, count).

    user_namespaces(7), /proc/PID/uid_map
    """
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        found = [tuple(map(int, line.split())) for line in file]
    return [(inside, outside, count) for inside, outside, count in found]


def is_initial() -> bool:
    """Whether this process is in the host's own user namespace (or one that maps every ID to itself)."""
    return id_map() == _WHOLE
