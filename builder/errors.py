"""Every error of the builder room: one tree below ``BuilderError``.

(ShiplapError)
└── BuilderError
    ├── BuildCancelledError
    ├── OutputError
    ├── CheckError
    ├── CacheOptionError
    ├── CacheFormatError
    ├── LayerLostError
    ├── CacheExportError
    ├── UnsupportedError
    ├── ContextError
    │   ├── ContextChangedError
    │   └── ContextDamagedError
    ├── CopyError
    │   ├── SourceNotFoundError
    │   ├── CopyConflictError
    │   ├── OwnerError
    │   ├── ModeError
    │   └── ArchiveError
    ├── EntitlementError
    ├── InvalidUrlError
    ├── FetchError
    │   └── FetchUnreachableError
    ├── SshKeyError
    ├── SecretNotFoundError
    ├── InstructionError
    └── DockerfileNotFoundError
"""

from __future__ import annotations

from collections.abc import Callable

from core.errors import ShiplapError


class BuilderError(ShiplapError):
    """The root of this room's errors."""


class BuildCancelledError(BuilderError):
    """The caller asked for the build to stop."""


def stop_when(stopped: Callable[[], bool]) -> Callable[[], None]:
    """A question for ``core.cancellation``: raises BuildCancelledError once ``stopped`` says so."""

    def ask() -> None:
        if stopped():
            raise BuildCancelledError("cancelled")

    return ask


class OutputError(BuilderError):
    """An ``-o`` value cannot be used."""


class CheckError(BuilderError):
    """The checks found something in a Dockerfile that asks to be refused in this case."""


class CacheOptionError(BuilderError):
    """A ``--cache-from`` or ``--cache-to`` value cannot be used."""


class CacheFormatError(BuilderError):
    """A cache from elsewhere is not what docs/cache.md says."""


class LayerLostError(BuilderError):
    """A layer that a cache elsewhere named cannot be fetched. The build asks everything again; users never see this."""


class CacheExportError(BuilderError):
    """The cache could not be written to where ``--cache-to`` says."""


class UnsupportedError(BuilderError):
    """A part of the Dockerfile language that this version does not support."""


class ContextError(BuilderError):
    """The build context cannot be opened or read."""


class ContextChangedError(ContextError):
    """A file changed between the moment it was looked at and the moment it was copied."""


class ContextDamagedError(ContextError):
    """A file of an uploaded context is not what its digest says: the disk's fault, not the user's.

    digest: the sha256 that it should have, in hexadecimal.
    """

    def __init__(self, message: str, *, digest: str) -> None:
        super().__init__(message, hint="submit the build again: the file is sent anew")
        self.digest = digest


class CopyError(BuilderError):
    """COPY, ADD or WORKDIR cannot do what it says. word: the Dockerfile's word that is to blame; may be empty."""

    def __init__(self, message: str, *, hint: str | None = None, word: str = "") -> None:
        super().__init__(message, hint=hint)
        self.word = word


class SourceNotFoundError(CopyError):
    """A file named by COPY or ADD is not there."""


class CopyConflictError(CopyError):
    """A directory would replace a file, or a file a directory."""


class OwnerError(CopyError):
    """The value of ``--chown`` is malformed, or names nobody in the image."""


class ModeError(CopyError):
    """The value of ``--chmod`` is malformed."""


class ArchiveError(CopyError):
    """An archive given to ADD is damaged, too big, or reaches out of its destination."""


class EntitlementError(BuilderError):
    """An instruction asks for more than the build was allowed."""


class InvalidUrlError(BuilderError):
    """A URL from which something is to be fetched is malformed, or of a kind that is not fetched."""


class FetchError(BuilderError):
    """A URL or a git repository cannot be fetched, or gave something other than what was asked for."""


class FetchUnreachableError(FetchError):
    """Nobody answered, or the transfer broke off: the same may work later."""


class SshKeyError(BuilderError):
    """A private SSH key cannot be read, or a RUN requires an agent that the build was not given."""


class SecretNotFoundError(BuilderError):
    """A RUN requires a secret that the build was not given."""


class InstructionError(BuilderError):
    """An instruction has a value that it cannot have; the frontend adds the place."""


class DockerfileNotFoundError(BuilderError):
    """There is no Dockerfile where one was expected, or it cannot be read.

    found: the Dockerfiles that the context has, the nearest first; None where nobody looked.
    """

    def __init__(self, message: str, *, hint: str | None = None, found: tuple[str, ...] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.found = found
