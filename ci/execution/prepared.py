"""A job's commands with all that their container is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ci.execution.image import JobImage
from ci.execution.services import Beside
from ci.execution.variables import JobSecrets, Variables
from ci.failedfiles import CachePlace, GitPlace
from ci.model import Job
from ci.workspace.workspace import Workspace
from containers.spec import Mount


class Commands(NamedTuple):
    """A job's commands, and all that their container is made of.

    variables: but for those of the image and of secrets.
    beside: its services.
    git: mounts that show ``.git`` in the workspace.
    caches: mounts of what is kept.
    may_see_secrets: as ``reusing.may_see_secrets``.
    git_place, cache_places: what ``git`` and ``caches`` are made of.
    """

    job: Job
    image: JobImage
    variables: Variables
    secrets: JobSecrets
    workspace: Workspace
    git: Sequence[Mount] = ()
    caches: Sequence[Mount] = ()
    beside: Sequence[Beside] = ()
    may_see_secrets: bool = False
    git_place: GitPlace | None = None
    cache_places: tuple[CachePlace, ...] = ()
