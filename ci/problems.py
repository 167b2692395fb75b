"""What is wrong with a pipeline file: all of it at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from core.suggestions import aside
from dockerfile_grammar.source import Source, Span

Severity: TypeAlias = Literal["error", "warning"]

_MOST: Final = 100
"""Problems that are kept. Whoever has more, begins with these."""


class Problem(NamedTuple):
    """One thing that is wrong, or looks wrong.

    message: what, in one line, without the place.
    span: where; None: the file as a whole.
    hint: what to do about it; it is printed behind the message.
    """

    severity: Severity
    message: str
    span: Span | None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}{aside(self.hint)}"


class Problems:
    """The problems of one file, in the order of its lines once they are asked for, and of those it uses. Of one thread.

    Iterating gives the file's own.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[tuple[str, Span | None], Problem] = {}
        self._left_out = 0
        self._has_errors = False
        self._of_others: list[Problems] = []

    @property
    def has_errors(self) -> bool:
        """Whether something is wrong with the file, or with one that it uses."""
        return self._has_errors or any(other.has_errors for other in self._of_others)

    def add(self, other: Problems) -> None:
        """Count what is wrong with a file that this one uses, too, also what is found later."""
        self._of_others.append(other)

    def error(self, span: Span | None, message: str, *, hint: str | None = None) -> None:
        self._add(Problem("error", message, span, hint))

    def warning(self, span: Span | None, message: str, *, hint: str | None = None) -> None:
        self._add(Problem("warning", message, span, hint))

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._found.values(), key=_place))

    def __len__(self) -> int:
        return len(self._found) + self._left_out + sum(map(len, self._of_others))

    def summary(self) -> str:
        """The first error, and how many more there are; one line."""
        errors = [problem for problem in self if problem.severity == "error"]
        if not errors:
            for other in self._of_others:
                if other.has_errors:
                    return other.summary()
            return f"{self.source.filename}: nothing is wrong"
        others = len(errors) - 1 + self._left_out
        more = f" (and {others} more)" if others else ""
        return f"{self._line_of(errors[0])}{more}"

    def render(self) -> str:
        """Each problem, with its line and a caret below the place; no line end behind the last."""
        lines: list[str] = []
        for problem in self:
            lines.append(self._line_of(problem))
            if problem.span is not None:
                lines += _excerpt(self.source, problem.span)
        if self._left_out:
            lines.append(f"{self.source.filename}: error: {self._left_out} more problems are not shown")
        lines += [other.render() for other in self._of_others if len(other)]
        return "\n".join(lines)

    def _line_of(self, problem: Problem) -> str:
        place = f":{problem.span}" if problem.span is not None else ""
        return f"{self.source.filename}{place}: {problem}"

    def _add(self, problem: Problem) -> None:
        key = (problem.message, problem.span)
        self._has_errors = self._has_errors or problem.severity == "error"
        if key in self._found:  # a node that has an alias is looked at once more
            return
        if len(self._found) >= _MOST:
            self._left_out += problem.severity == "error"
            return
        self._found[key] = problem


def _place(problem: Problem) -> tuple[int, int, str]:
    return (0, 0, "") if problem.span is None else (problem.span.start.line, problem.span.start.column, problem.message)


def _excerpt(source: Source, span: Span) -> list[str]:
    lines = source.excerpt(span)
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines[:1]), default=0)
    cut = min(2, margin)  # a Dockerfile's excerpt has room for lines of five digits
    return [line[cut:] for line in lines]
