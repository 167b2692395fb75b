"""Users: who a container's process is. docker's ``USER`` is looked up in the root filesystem's own files.

A user without a group keeps the supplementary groups of /etc/group; ``user:group`` drops them. A number is
always an ID, never an account's name; one that /etc/passwd does not know is taken as it is, with group 0. Source:
moby/sys user.GetExecUser, which docker, containerd and runc share.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from containers.errors import UserError

MAX_ID = 65535
_MOST_BYTES = 4 << 20  # of /etc/passwd, of /etc/group


class User:
    """IDs as the container sees them. home: from /etc/passwd, else ``/``. groups: supplementary ones."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(text: str, passwd: Iterable[str], group: Iterable[str], more: Iterable[str] = ()) -> User:
    """The user that ``text`` (``[user|uid][:[group|gid]]``, empty for root) names.

    passwd, group: lines of those files; broken lines are passed over. more: further groups, by name or number.
    Raises UserError.
    """
    user_text, _, group_text = text.partition(":")
    account = _find_account(user_text or "0", passwd)
    if account is not None:
        name, uid, gid, home = account
    elif not user_text or user_text.isdecimal():
        name, uid, gid, home = user_text, int(user_text or "0"), 0, "/"
    else:
        raise UserError(
            f"unable to find user {user_text}: no matching entries in passwd file",
            hint=f"create it in an earlier step (RUN useradd {user_text}), or use a number",
        )
    groups: tuple[int, ...] = ()
    if group_text:
        gid = _find_group(group_text, group)
    elif account is not None:
        groups = tuple(number for number, members in _groups(group) if name in members[1:])
    groups += tuple(_find_group(each, group) for each in more)
    for number in (uid, gid, *groups):
        if number > MAX_ID:
            raise UserError(
                f"ID {number} of user {text!r} is not mapped in containers", hint=f"IDs go from 0 to {MAX_ID}"
            )
    return User(uid, gid, groups, home)


def lines_of(fd: int) -> list[str]:
    """The lines of an opened file, which is closed; none where it is no plain file: it might never end, or begin."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return []
    with open(fd, "rb") as file:
        return file.read(_MOST_BYTES).decode("utf-8", "surrogateescape").split("\n")


def _find_account(wanted: str, passwd: Iterable[str]) -> tuple[str, int, int, str] | None:
    for line in passwd:
        fields = line.rstrip("\n").split(":")
        if len(fields) < 4 or not fields[2].isdecimal() or not fields[3].isdecimal():
            continue
        if (int(wanted) == int(fields[2])) if wanted.isdecimal() else (fields[0] == wanted):
            return fields[0], int(fields[2]), int(fields[3]), (fields[5] if len(fields) > 5 else "") or "/"
    return None


def _find_group(wanted: str, group: Iterable[str]) -> int:
    if wanted.isdecimal():
        return int(wanted)
    for gid, names in _groups(group):
        if names[0] == wanted:
            return gid
    raise UserError(
        f"unable to find group {wanted}: no matching entries in group file",
        hint=f"create it in an earlier step (RUN groupadd {wanted}), or use a number",
    )


def _groups(lines: Iterable[str]) -> Iterable[tuple[int, list[str]]]:
    """(gid, [name, *members]) of each line."""
    for line in lines:
        fields = line.rstrip("\n").split(":")
        if len(fields) > 2 and fields[0] and fields[2].isdecimal():
            yield int(fields[2]), [fields[0], *(fields[3].split(",") if len(fields) > 3 else [])]
