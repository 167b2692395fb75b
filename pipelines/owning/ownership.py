"""Which project owns an image repository or a bare repository. The name alone decides, so that no list can be wrong.

In the service's registry, ``PROJECT``, ``PROJECT/…`` and ``cache/PROJECT`` are that project's. A name that is no
project's is ``default``'s. Below ROOT/git, ``PROJECT.git`` and ``PROJECT/…`` are that project's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

COMMONS: Final = "default"
"""The project of runs that name none; it owns whatever has no project's name."""

CACHE: Final = "cache"
"""The first part of the names of the projects' build caches in the registry."""


def is_cache(repository: str) -> bool:
    """Whether workers keep a project's build cache there: whoever writes one decides what others build."""
    first, _, rest = repository.partition("/")
    return first == CACHE and bool(rest)


def owner_of(repository: str, is_project: Callable[[str], bool]) -> str:
    """The project of a repository of the service's registry. repository: without registry and tag."""
    first, _, rest = repository.partition("/")
    if is_cache(repository):
        first = rest.partition("/")[0]
    return first if is_project(first) else COMMONS


def bare_owner(url: str, local: Path | None) -> str:
    """The project of a file URL's repository; empty where it is no file URL, or not below ``local``."""
    parts = urlsplit(url)
    if parts.scheme != "file" or local is None:
        return ""
    path = PurePosixPath(parts.path)
    if not path.is_relative_to(local) or path == PurePosixPath(local):
        return ""
    return bare_owner_below(str(path.relative_to(local)))


def bare_owner_below(path: str) -> str:
    """The project of the repository at this path below ROOT/git."""
    return path.partition("/")[0].removesuffix(".git")
