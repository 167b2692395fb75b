"""What is mounted where, by the text of /proc/PID/mountinfo. (The launcher imports this: no ``typing``, no ``re``.)"""

from __future__ import annotations


class Mount:
    """A mount: one line of mountinfo.  proc_pid_mountinfo(5)

    number: the mount's own, as ``mnt_id`` in /proc/PID/fdinfo has it.
    root: what of the file system is mounted.
    place: where.
    kind: the type of the file system: ``ext4``.
    options: the file system's own.
    """

    __slots__ = ("kind", "number", "options", "place", "root")

    def __init__(self, number: str, root: str, place: str, kind: str, options: tuple[str, ...]) -> None:
        self.number = number
        self.root = root
        self.place = place
        self.kind = kind
        self.options = options


def mounts(mountinfo: str) -> list[Mount]:
    """All mounts, in their order."""
    found = []
    for line in mountinfo.split("\n"):  # other ends of lines may be part of a name
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) > 4 and len(rest) > 2:
            root, place = _unescaped(fields[3]), _unescaped(fields[4])
            found.append(Mount(fields[0], root, place, rest[0], tuple(rest[2].split(","))))
    return found


def place_below(path: str, root: str) -> str:
    """Where ``path`` of a file system is below a mount of its directory ``root``; "." if it is out of sight."""
    root = root.rstrip("/")
    if path == root or not path.startswith(f"{root}/") or ".." in path.split("/"):
        return "."
    return path[len(root) + 1 :] or "."


def _unescaped(text: str) -> str:
    """A path: spaces and the like are octal numbers there."""
    first, *others = text.split("\\")
    return first + "".join(chr(int(other[:3], 8)) + other[3:] for other in others)
