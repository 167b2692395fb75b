"""What can be wrong with the files of a job.

(JobFaultError)
└── WorkspaceError
    ├── InputsError
    ├── ConflictError
    └── OutputsError
"""

from __future__ import annotations

from ci.errors import JobFaultError


class WorkspaceError(JobFaultError):
    """A job cannot have the files that its pipeline wants it to have."""


class InputsError(WorkspaceError):
    """A pattern of ``inputs`` matches nothing."""


class ConflictError(WorkspaceError):
    """Two jobs that do not need each other left different things in one place, and a job sees both."""


class OutputsError(WorkspaceError):
    """What a job left cannot be its outputs, or an output is missing."""
