"""``--chown``: numbers as they are, names through /etc/passwd and /etc/group of the image that is copied into.

A name that the image does not have stands for root, as in BuildKit. The caller also gets these names, to warn the user:
see ``builder.frontend.unknownowners``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from builder.errors import OwnerError
from core.suggestions import nearest

_MAX_ID: Final = 2**32 - 2
MAX_ACCOUNTS_BYTES: Final = 16 << 20
"""At most this much of /etc/passwd or /etc/group is read."""

_ROOT: Final = "root"


class UnknownName(NamedTuple):
    """A name that the image's accounts do not have.

    written: the user's word, such as ``--chown=ghost:staff``.
    near: the most similar name that is there; empty for none.
    """

    kind: Literal["user", "group"]
    name: str
    written: str
    near: str = ""


class Owner(NamedTuple):
    """The owner that files get. unknown: the names that root replaces."""

    uid: int
    gid: int
    unknown: tuple[UnknownName, ...] = ()


def parse_chown(text: str, rootfs_fd: int | None, *, link: bool = False, written: str = "--chown=") -> Owner | None:
    """``user[:group]`` as an owner; an empty text is None.

    rootfs_fd: the image's root, where names are looked up; None for an image with no files, in which ``root`` is the
    only name.
    link: whether it is ``--link``, whose layer knows nothing of the image below and so takes numbers only.
    written: what stands before ``text``, for messages; WORKDIR resolves ``USER bob`` in the same way.
    A number alone is the group too; a name alone brings its group from /etc/passwd. Raises OwnerError.
    Source: moby/buildkit, solver/llbsolver/file/user_linux.go (readUser).
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
    unknown: list[UnknownName] = []
    uid, gid = _user(whole, user, rootfs_fd, unknown)
    if group:
        gid = _group(whole, group, rootfs_fd, gid, unknown)
    elif colon:
        gid = 0
    return Owner(uid, gid, tuple(unknown))


def _user(whole: str, name: str, rootfs_fd: int | None, unknown: list[UnknownName]) -> tuple[int, int]:
    if not name or (rootfs_fd is None and name == _ROOT):
        return 0, 0
    if name.isdecimal():
        return (number := _number(whole, name)), number
    if rootfs_fd is None:
        raise _no_accounts(whole, "user", name)
    names: list[str] = []
    for fields in _entries(rootfs_fd, "etc/passwd"):
        names.append(fields[0])
        if fields[0] == name and len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal():
            return _number(whole, fields[2]), _number(whole, fields[3])
    unknown.append(UnknownName("user", name, whole, nearest_name(name, names)))
    return 0, 0


def _group(whole: str, name: str, rootfs_fd: int | None, gid: int, unknown: list[UnknownName]) -> int:
    """The group's number. gid: the user's group, which files get where the named group is missing."""
    if name.isdecimal():
        return _number(whole, name)
    if rootfs_fd is None:
        raise _no_accounts(whole, "group", name)
    names: list[str] = []
    for fields in _entries(rootfs_fd, "etc/group"):
        names.append(fields[0])
        if fields[0] == name and len(fields) >= 3 and fields[2].isdecimal():
            return _number(whole, fields[2])
    unknown.append(UnknownName("group", name, whole, nearest_name(name, names)))
    return gid


def nearest_name(name: str, names: list[str]) -> str:
    """The most similar of ``names``; empty where none is similar."""
    return next(iter(nearest(name, names)), "")


def _no_accounts(whole: str, kind: str, name: str) -> OwnerError:
    return OwnerError(
        f"{whole}: no {kind} {name!r}: there are no files yet in this stage from scratch",
        hint="write numbers, or copy a filesystem with /etc/passwd and /etc/group into the stage before",
        word=whole,
    )


def _number(whole: str, digits: str) -> int:
    if not digits.isascii() or len(digits) > 10 or int(digits) > _MAX_ID:
        raise OwnerError(
            f"{whole}: {digits[:40]} is no user or group number", hint=f"the greatest is {_MAX_ID}", word=whole
        )
    return int(digits)


def _entries(rootfs_fd: int, path: str) -> Iterator[list[str]]:
    from core.kernel import RESOLVE_IN_ROOT, openat2  # a build whose steps are all cached reads no accounts

    try:
        fd = openat2(rootfs_fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        yield from account_entries(file.read(MAX_ACCOUNTS_BYTES))


def account_entries(text: str) -> Iterator[list[str]]:
    """The fields of each line of an /etc/passwd or /etc/group."""
    for line in text.splitlines():
        if entry := line.strip():
            yield entry.split(":")
