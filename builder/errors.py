"""Every error of the builder room: one tree below ``BuilderError``."""

from __future__ import annotations

from core.errors import ShiplapError


class BuilderError(ShiplapError):
    """The root of this room's errors."""


class BuildCancelledError(BuilderError):
    """The caller asked for the build to stop."""


class OutputError(BuilderError):
    """An ``-o`` value cannot be used."""


class UnsupportedError(BuilderError):
    """Part of the language that this version does not do."""


class ContextError(BuilderError):
    """The build context cannot be opened or read."""


class ContextChangedError(ContextError):
    """A file changed between the moment it was looked at and the moment it was copied."""


class CopyError(BuilderError):
    """COPY, ADD or WORKDIR cannot do what it says."""


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


class SecretNotFoundError(BuilderError):
    """A RUN requires a secret that the build was not given."""


class InstructionError(BuilderError):
    """An instruction has a value that it cannot have; the frontend adds the place."""


class DockerfileNotFoundError(BuilderError):
    """There is no Dockerfile where one was expected, or it cannot be read."""
