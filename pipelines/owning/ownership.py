"""Which project owns an image repository or a bare repository. The name alone decides, so that no list can be wrong.

In the service's registry, ``PROJECT``, ``PROJECT/…``, ``cache/PROJECT`` and ``runs/PROJECT`` are that project's. A name
that is no project's is ``default``'s, but for those below ``runs/``. Below ROOT/git, ``PROJECT.git`` and ``PROJECT/…``
are that project's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from core.trust import Domain
from registry.server.names import is_name

COMMONS: Final = "default"
"""The project of runs that name none; it owns whatever has no project's name."""

CACHE: Final = "cache"
"""The first part of the names of the projects' build caches in the registry."""


def is_cache(repository: str) -> bool:
    """Whether workers keep a project's build cache there: whoever writes one decides what others build."""
    first, _, rest = repository.partition("/")
    return first == CACHE and bool(rest)


OUTPUTS: Final = "runs"
"""The first part of the names of the repositories in which workers keep what the jobs of projects' runs output."""

_FORK_DIGITS: Final = 32  # others choose the names of forks' domains, and must not find two with one repository


def is_outputs(repository: str) -> bool:
    """Whether workers keep there what jobs output: whoever writes it decides what later jobs get."""
    first, _, rest = repository.partition("/")
    return first == OUTPUTS and bool(rest)


def outputs_of(domain: Domain) -> str:
    """The repository for what the jobs of this domain output; a fork's pull request has one alone.

    Empty for a project whose name no repository can have.
    """
    own = f"/{hashlib.sha256(domain.label.encode('utf-8', 'surrogateescape')).hexdigest()[:_FORK_DIGITS]}"
    name = f"{OUTPUTS}/{domain.project}{own if domain.is_fork else ''}"
    return name if is_name(name) else ""


def owner_of(repository: str, is_project: Callable[[str], bool]) -> str:
    """The project of a repository of the service's registry. repository: without registry and tag.

    What a project's jobs output is never the commons': when the project is gone, it is of one that is not there.
    """
    first, _, rest = repository.partition("/")
    if is_outputs(repository):
        return rest.partition("/")[0]
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
