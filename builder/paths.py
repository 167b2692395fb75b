"""Paths inside a root, as text: no leading slash, no ``.``, no ``..``, no empty parts; the root itself is ``""``.

Dockerfile paths are cleaned lexically first, as BuildKit does it (``/a/link/../b`` is ``/a/b`` whatever ``link`` is),
and ``..`` stops at the root. Only then symbolic links are followed, as they would be after chroot.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final, Protocol

from builder.errors import CopyError
from core.cancellation import check

MAX_LINKS: Final = 255
PATH_MAX: Final = 4096  # bytes, with the NUL that ends it: linux/limits.h
NAME_MAX: Final = 255
_LONG_NAME: Final = re.compile(rb"[^/]{%d}" % (NAME_MAX + 1))


class Lookup(Protocol):
    """Something with names in it: a source tree, or a destination with what has been planned for it so far."""

    def mode(self, path: str) -> int | None:
        """``st_mode`` of what ``path`` itself is, links not followed; None when there is nothing."""

    def link_target(self, path: str) -> str:
        """The target of the symbolic link ``path``, as written in it."""


def clean(path: str) -> str:
    """``../a/./b//c/`` is ``a/b/c``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/".join(parts)


def join(parent: str, name: str) -> str:
    """``name`` below ``parent``; either may be the root."""
    return f"{parent}/{name}" if parent and name else parent or name


def split(path: str) -> tuple[str, str]:
    """Parent and last part: ``a/b/c`` is ``a/b``, ``c``."""
    parent, _, name = path.rpartition("/")
    return parent, name


def resolve(lookup: Lookup, path: str) -> str:
    """Where ``path`` (already clean) really is, every symbolic link followed, the last one too.

    A path that does not exist is taken literally, so that a dangling link gives its target. Raises CopyError when links
    go in circles.
    """
    done = ""
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = split(done)[0]
            continue
        if not part or part == ".":
            continue
        candidate = join(done, part)
        mode = lookup.mode(candidate)
        if mode is None or not stat.S_ISLNK(mode):
            done = candidate
            continue
        check()
        links += 1
        if links > MAX_LINKS:
            raise CopyError(f"/{path}: too many levels of symbolic links", hint=f"/{candidate} leads back to itself")
        target = lookup.link_target(candidate)
        if target.startswith("/"):
            done = ""
        todo += target.split("/")[::-1]
    return done


def check_length(path: str, what: str) -> None:
    """Raises CopyError for a path in the image that the kernel would not take. what: the instruction, for messages."""
    name = os.fsencode(path)
    if len(name) >= PATH_MAX - 1:  # with the slash that it begins with
        raise CopyError(f"{what}: a path of {len(name) + 1} bytes, and Linux takes {PATH_MAX - 1}: /{path[:60]}…")
    if _LONG_NAME.search(name):
        raise CopyError(f"{what}: a name of more than {NAME_MAX} bytes: /{path[:60]}…")
