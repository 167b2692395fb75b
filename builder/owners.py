"""``--chown``: numbers as they are, names through /etc/passwd and /etc/group of the image that is copied into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from builder.errors import OwnerError
from core.kernel import RESOLVE_IN_ROOT, openat2

_MAX_ID: Final = 2**32 - 2
_MAX_BYTES: Final = 16 * 1024 * 1024


def parse_chown(
    text: str, rootfs_fd: int | None, *, link: bool = False, written: str = "--chown="
) -> tuple[int, int] | None:
    """``user[:group]`` as (uid, gid); an empty text is None.

    rootfs_fd: the image's root, where names are looked up; None for an image with no files.
    link: ``--link`` makes a layer that knows nothing of the image below, so it takes numbers only.
    written: what stands before ``text``, for messages: WORKDIR resolves ``USER bob`` in the same way.
    A number alone is the group too; a name alone brings its group from /etc/passwd. Raises OwnerError.
    """
    if not text:
        return None
    whole = written + text
    user, colon, group = text.partition(":")
    for name in (user, group):
        if link and name and not name.isdecimal():
            raise OwnerError(
                f"{whole}: with --link, {name!r} cannot be looked up",
                hint="--link does not look at the image below: write numbers (--chown=1000:1000), or drop --link",
                word=whole,
            )
    uid, gid = _user(whole, user, rootfs_fd)
    if group:
        gid = _group(whole, group, rootfs_fd)
    elif colon:
        gid = 0
    return uid, gid


def _user(whole: str, name: str, rootfs_fd: int | None) -> tuple[int, int]:
    if not name:
        return 0, 0
    if name.isdecimal():
        return (number := _number(whole, name)), number
    for fields in _entries(rootfs_fd, "etc/passwd"):
        if fields[0] == name and len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal():
            return _number(whole, fields[2]), _number(whole, fields[3])
    raise OwnerError(
        f"{whole}: no user {name!r} in the image's /etc/passwd",
        hint="add the user before (RUN useradd …), or give its number",
        word=whole,
    )


def _group(whole: str, name: str, rootfs_fd: int | None) -> int:
    if name.isdecimal():
        return _number(whole, name)
    for fields in _entries(rootfs_fd, "etc/group"):
        if fields[0] == name and len(fields) >= 3 and fields[2].isdecimal():
            return _number(whole, fields[2])
    raise OwnerError(
        f"{whole}: no group {name!r} in the image's /etc/group",
        hint="add the group before (RUN groupadd …), or give its number",
        word=whole,
    )


def _number(whole: str, digits: str) -> int:
    if not digits.isascii() or len(digits) > 10 or int(digits) > _MAX_ID:
        raise OwnerError(
            f"{whole}: {digits[:40]} is no user or group number", hint=f"the greatest is {_MAX_ID}", word=whole
        )
    return int(digits)


def _entries(rootfs_fd: int | None, path: str) -> Iterator[list[str]]:
    if rootfs_fd is None:
        return
    try:
        fd = openat2(rootfs_fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        for line in file.read(_MAX_BYTES).splitlines():
            yield line.strip().split(":")
