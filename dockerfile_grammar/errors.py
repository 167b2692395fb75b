"""What can be wrong with a Dockerfile, an ignore file, a word or a pattern.

(ShiplapError)
└── DockerfileError
    ├── DockerfileEncodingError
    ├── EmptyDockerfileError
    ├── DirectiveError
    ├── DockerfileSyntaxError
    │   ├── ArgumentsError
    │   ├── UnknownInstructionError
    │   ├── JsonFormError
    │   ├── HeredocError
    │   └── FlagError
    │       └── MountError
    ├── StageError
    ├── ExpansionError
    └── PatternError
"""

from __future__ import annotations

from typing import Self

from core.errors import ShiplapError
from dockerfile_grammar.source import Source, Span


class DockerfileError(ShiplapError):
    """Something in a Dockerfile that cannot be built. ``message`` names the place; ``render()`` shows it.

    reason: what is wrong, without the place.
    source, span: where, once known (see ``at``).
    """

    def __init__(
        self, reason: str, *, hint: str | None = None, source: Source | None = None, span: Span | None = None
    ) -> None:
        super().__init__(reason, hint=hint)
        self.reason = reason
        self.source = source
        self.span = span
        self._place()

    @property
    def filename(self) -> str | None:
        return self.source.filename if self.source else None

    def at(self, source: Source, span: Span) -> Self:
        """Add the place to an error that has none yet; the innermost place wins. Returns the error itself."""
        if self.span is None:
            self.source = source
            self.span = span
            self._place()
        return self

    def _place(self) -> None:
        if self.source is not None:
            place = self.source.filename if self.span is None else f"{self.source.filename}:{self.span}"
            self.message = f"{place}: {self.reason}"
            self.args = (self.message,)

    def render(self) -> str:
        """The message, the source line with a caret below the place, and the hint; several lines, no line end."""
        lines = [self.message]
        if self.source is not None and self.span is not None:
            lines += self.source.excerpt(self.span)
        if self.hint is not None:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class DockerfileEncodingError(DockerfileError):
    """An instruction holds bytes that are no UTF-8, or a NUL."""


class EmptyDockerfileError(DockerfileError):
    """There is no instruction at all."""


class DirectiveError(DockerfileError):
    """A parser directive is repeated or has a value that it cannot have."""


class DockerfileSyntaxError(DockerfileError):
    """A line is not an instruction of the language, or has arguments of the wrong number or form."""


class ArgumentsError(DockerfileSyntaxError):
    """An instruction has too few or too many arguments, or of the wrong form."""


class UnknownInstructionError(DockerfileSyntaxError):
    """The first word of a line is no instruction."""


class JsonFormError(DockerfileSyntaxError):
    """A JSON array that should be a command or a list of paths has members that are no strings."""


class HeredocError(DockerfileSyntaxError):
    """A here-document does not end, or stands where none can."""


class FlagError(DockerfileSyntaxError):
    """A flag is unknown, repeated, or has a bad value."""


class StageError(DockerfileError):
    """An instruction outside any stage, or a stage name that cannot be one."""


class MountError(FlagError):
    """The value of RUN --mount is malformed, before or after expansion."""


class ExpansionError(DockerfileError):
    """A word cannot be expanded: bad substitution, unterminated quote, or ``${v:?message}``."""


class PatternError(DockerfileError):
    """A glob, or a line of an ignore file, is malformed."""


def shown(text: str | None) -> str:
    """A user's text for use inside a message: not too long, and nothing that a terminal would obey."""
    text = text or ""
    short = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in short)


_LONGEST_TEXT = 60
