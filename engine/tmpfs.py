"""Options of a tmpfs, as docker takes them in ``--tmpfs`` and in ``TmpfsOptions``: moby's mount.MergeTmpfsOptions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from core.quantities import parse_size
from engine.errors import InvalidRequestError, NotDoneError

_MODE: Final = 0o1777
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _SYNC = 1, 2, 4, 8, 16
_DIRSYNC, _NOATIME, _NODIRATIME, _RELATIME, _STRICTATIME = 128, 1024, 2048, 1 << 21, 1 << 24
_FLAGS: Final[Mapping[str, tuple[int, int]]] = {
    "defaults": (0, 0), "ro": (_RDONLY, 0), "rw": (0, _RDONLY), "nosuid": (_NOSUID, 0), "suid": (0, _NOSUID),
    "nodev": (_NODEV, 0), "noexec": (_NOEXEC, 0), "exec": (0, _NOEXEC), "sync": (_SYNC, 0), "async": (0, _SYNC),
    "dirsync": (_DIRSYNC, 0), "noatime": (_NOATIME, 0), "atime": (0, _NOATIME), "nodiratime": (_NODIRATIME, 0),
    "diratime": (0, _NODIRATIME), "relatime": (_RELATIME, 0), "norelatime": (0, _RELATIME),
    "strictatime": (_STRICTATIME, 0), "nostrictatime": (0, _STRICTATIME),
}  # fmt: skip
"""A word, with the flags of mount(2) that it sets and clears."""

_NUMBERS: Final = ("uid", "gid", "nr_inodes", "nr_blocks")
_NUMBER: Final = re.compile(r"[0-9]{1,18}[kmg]?", re.ASCII | re.IGNORECASE)


def mount(target: str, options: Iterable[str], size_bytes: int = 0, mode: int = 0) -> dict[str, Any]:
    """The mount for ``spec.json``. Nothing is executed in it, set-user-ID or a device, unless that is asked for.

    size_bytes: 0 is half of memory; mode: 0 is 1777. Raises InvalidRequestError, NotDoneError.
    """
    flags, more = _NOSUID | _NODEV | _NOEXEC, []
    mode = mode or _MODE
    for option in options:
        name, equals, value = option.partition("=")
        try:
            if not equals and name in _FLAGS:
                sets, clears = _FLAGS[name]
                flags = (flags | sets) & ~clears
            elif name == "size" and value.endswith("%") and value[:-1].isdecimal():
                more.append(option)
            elif name == "size":
                size_bytes = parse_size(value)
            elif name == "mode":
                mode = int(value, 8)
            elif name in _NUMBERS and _NUMBER.fullmatch(value):
                more.append(option)
            elif name in ("dev", "mpol"):
                raise NotDoneError(f"tmpfs option '{option}' is refused: nobody makes devices, or chooses memory nodes")
            else:
                raise ValueError
        except ValueError as error:
            raise InvalidRequestError(f"invalid tmpfs option {option!r}") from error
    if not 0 <= mode <= 0o7777 or size_bytes < 0:
        raise InvalidRequestError(f"invalid tmpfs option: mode {mode:o}, size {size_bytes}")
    found = {"kind": "tmpfs", "target": target, "size_bytes": size_bytes, "mode": mode, "flags": flags}
    return {**found, "options": more} if more else found
