"""Every error of the ci room, as a tree.

(ShiplapError)
└── CiError
    ├── PipelineFileError
    ├── JobCancelledError
    ├── JobLateError
    ├── JobFaultError
    └── RepositoryError
        ├── DamagedRepositoryError
        └── SourceFileError
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ShiplapError

if TYPE_CHECKING:
    from ci.problems import Problems


class CiError(ShiplapError):
    """Something about a pipeline that cannot be done."""


class PipelineFileError(CiError):
    """A pipeline file cannot be used. problems: all that is wrong with it, at least one error."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(problems.summary())
        self.problems = problems

    def render(self) -> str:
        """All problems with their places, as they are printed."""
        return self.problems.render()


class JobCancelledError(CiError):
    """The caller asked for the job to stop, and it has."""


class JobLateError(CiError):
    """The time-out of a job is over."""


class JobFaultError(CiError):
    """A job failed by what its author, its script or its image did: it would fail again. The message says so."""


class RepositoryError(CiError):
    """A repository, or a commit or file of it, cannot be had."""


class DamagedRepositoryError(RepositoryError):
    """Objects of a repository are missing, or are not what they are named for. A mirror is then fetched anew.

    directory: that the repository is in.
    """

    def __init__(self, message: str, directory: Path) -> None:
        super().__init__(message)
        self.directory = directory


class SourceFileError(RepositoryError):
    """A commit or a working tree has a file that no layer can hold."""
