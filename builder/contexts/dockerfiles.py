"""Finds the Dockerfile and the ignore file of a context, and other Dockerfiles when the expected one is missing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from builder.errors import ContextError, DockerfileNotFoundError
from core.cancellation import check

if TYPE_CHECKING:
    from builder.contexts.context import Context
    from builder.contexts.filetree import SourceTree
    from dockerfile_grammar import IgnorePatterns

DEFAULT_NAME: Final = "Dockerfile"
"""Accepted in lower case too."""

_IGNORE_FILE: Final = ".dockerignore"
_NAMES: Final = ("dockerfile", "containerfile")
_MOST: Final = 8
_MOST_LOOKED_AT: Final = 5000
_DEEPEST: Final = 4
_OTHERS: Final = ("node_modules", "vendor")
"""Directories of other people's code, with Dockerfiles that are not the user's."""


def read_dockerfile(context: Context, file: str | None) -> tuple[str, bytes] | None:
    """Name and text of ``file``, or of the default; None when there is none. Never a file outside of the context.

    Raises ContextError when the file cannot be read.
    """
    for name in (file,) if file else (DEFAULT_NAME, DEFAULT_NAME.lower()):
        text = context.read(name)
        if text is not None:
            return name, text
    return None


def require_dockerfile(context: Context, file: str | None, place: str = "the build context") -> tuple[str, bytes]:
    """As ``read_dockerfile``. Raises DockerfileNotFoundError, with the name that was meant or the names that there are.

    place: where it was looked for, for the message.
    """
    found = read_dockerfile(context, file)
    if found is not None:
        return found
    from core.suggestions import aside, suggestion

    others = dockerfiles_in(context)
    there = aside(suggestion(file, others)) if file else ""
    if not there and others:
        there = f" (there is {', '.join(others)})"
    raise DockerfileNotFoundError(f"there is no {file or DEFAULT_NAME} in {place}{there}", found=others)


def read_ignore_patterns(context: Context, dockerfile: str | None = None) -> IgnorePatterns | None:
    """The patterns of the ignore file beside the Dockerfile of this name, else of the context's own.

    None: there is neither, or it is empty.
    """
    if dockerfile is not None:
        name = f"{dockerfile}.dockerignore"
        text = context.read(name)
        if text is not None:
            return parse_ignore_patterns(text, name)
    text = context.read(_IGNORE_FILE)
    return None if text is None else parse_ignore_patterns(text, _IGNORE_FILE)


def parse_ignore_patterns(text: bytes, name: str) -> IgnorePatterns | None:
    """Parse an ignore file; None when it has no patterns. name: of the file, for messages."""
    if not text.strip():
        return None
    from dockerfile_grammar import IgnorePatterns

    return IgnorePatterns.parse(text.decode("utf-8", "surrogateescape"), filename=name)


def dockerfiles_in(context: Context) -> tuple[str, ...]:
    """Paths of Dockerfiles in the context, nearest to its root first. Looks at a bounded part of it, returns a few."""
    found: list[str] = []
    for path in _files(context.tree()):
        if _is_dockerfile(path.rpartition("/")[2]):
            found.append(path)
        if len(found) == _MOST:
            break
    return tuple(found)


def _files(tree: SourceTree) -> Iterator[str]:
    """Regular files, level by level, each sorted."""
    level, left = [""], _MOST_LOOKED_AT
    for _ in range(_DEEPEST):
        below: list[str] = []
        for directory in level:
            for name in _names(tree, directory):
                check()
                left -= 1
                if left < 0:
                    return
                path = f"{directory}/{name}" if directory else name
                mode = tree.mode(path) or 0
                if stat.S_ISREG(mode):
                    yield path
                elif stat.S_ISDIR(mode) and not name.startswith(".") and name not in _OTHERS:
                    below.append(path)
        level = below


def _names(tree: SourceTree, directory: str) -> list[str]:
    try:
        return [name for name in tree.names(directory) if name.isprintable()]
    except ContextError:  # not to be read, or gone by now
        return []


def _is_dockerfile(name: str) -> bool:
    lower = name.lower()
    if lower.endswith(".dockerignore"):
        return False
    return lower in _NAMES or lower.partition(".")[0] in _NAMES or lower.rpartition(".")[2] in _NAMES
