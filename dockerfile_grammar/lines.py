"""The line pass: from a file's text to logical lines, keeping where each character came from.

It knows line ends, the byte order mark, parser directives, comments, continuations and the bodies of here-documents.
The words inside a line are the grammars' business. Behaviour: moby/buildkit, frontend/dockerfile/parser.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from msgspec import Struct

from dockerfile_grammar.errors import (
    DirectiveError,
    DockerfileEncodingError,
    DockerfileSyntaxError,
    HeredocError,
    shown,
)
from dockerfile_grammar.source import Position, Source, Span

GO_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's unicode.IsSpace accepts; Python's own idea of white space differs from it."""

_MAX_LINE_BYTES = 65_535
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*", re.DOTALL)
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_CONTINUATION = {
    "\\": re.compile(r"(?<!\\)\\[ \t]*\Z"),
    "`": re.compile(r"(?<!`)`[ \t]*\Z"),
}
_UNFIT = re.compile("[\x00\ud800-\udfff]")


class RawDirective(Struct, frozen=True):
    """A parser directive: name in lower case, value as written."""

    name: str
    value: str
    span: Span


class Comment(Struct, frozen=True):
    """A comment line: its text without ``#`` and surrounding white space."""

    text: str
    span: Span


class LogicalLine(Struct, frozen=True):
    """An instruction's lines joined: continuations resolved, comments inside dropped.

    text: starts at the instruction's first character, which usually is at ``start``; but not after lines that hold
    nothing but a continuation character.
    pieces: for each stretch of text that was contiguous in the file, its offset in ``text`` and the position of its
    first character.
    """

    text: str
    pieces: tuple[tuple[int, Position], ...]
    start: Position
    end: Position
    comments: tuple[Comment, ...]
    empty_continuations: tuple[int, ...]

    def position(self, offset: int) -> Position:
        """Where the character at ``offset`` stands in the file (for ``len(text)``: right after the last one)."""
        if len(self.pieces) == 1:
            first = self.pieces[0][1]
            return Position(first.line, first.column + offset)
        start, place = self.pieces[bisect_right(self.pieces, offset, key=_offset) - 1]
        return Position(place.line, place.column + offset - start)

    def span(self, start: int, end: int) -> Span:
        """The span of ``text[start:end]``. The end stays on the line of the last character."""
        if end <= start:
            place = self.position(start)
            return Span(place, place)
        last = self.position(end - 1)
        return Span(self.position(start), Position(last.line, last.column + 1))


def _offset(piece: tuple[int, Position]) -> int:
    return piece[0]


class HeredocBody(Struct, frozen=True):
    """The lines of a here-document up to its terminator, with their line ends; span includes the terminator."""

    content: str
    span: Span


def decode(text: str | bytes) -> str:
    """Decode UTF-8 and drop a BOM. Bytes that are no UTF-8 become lone surrogates: only instructions must be clean."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return text.removeprefix("\ufeff")


class LineReader:
    """Reads logical lines, and, when asked in between, the bodies of here-documents.

    Used as an iterator of LogicalLine; ``directives`` and ``escape`` are complete once the first line came out.
    """

    def __init__(self, text: str, filename: str) -> None:
        self._physical = text.split("\n")
        self._ends_in_newline = not self._physical[-1]
        if self._ends_in_newline:
            self._physical.pop()
        self.source = Source(filename, tuple(line.rstrip("\r\n") for line in self._physical))
        self._next = 0
        self._reading_directives = True
        self._bytes_can_be_more = len(text) > _MAX_LINE_BYTES // 4
        self.escape = "\\"
        self.directives: list[RawDirective] = []

    def __iter__(self) -> Iterator[LogicalLine]:
        comments: list[Comment] = []
        while self._next < len(self.source.lines):
            number = self._take_line()
            raw = self.source.lines[number - 1]
            text = raw.lstrip(GO_SPACE)
            column = len(raw) - len(text) + 1
            if text.startswith("#"):
                if not (self._reading_directives and self._directive(text, number, column)):
                    self._comment(comments, text, number, column)
                continue
            self._reading_directives = False
            if text:
                yield self._logical_line(text, number, column, tuple(comments))
                comments.clear()

    def _take_line(self) -> int:
        """Move past a line and return its number; refuse one that is longer than BuildKit reads."""
        self._next += 1
        line = self.source.lines[self._next - 1]
        if self._bytes_can_be_more and len(line.encode("utf-8", "surrogatepass")) > _MAX_LINE_BYTES:
            raise DockerfileSyntaxError(
                f"line of over {_MAX_LINE_BYTES:,} bytes, more than a Dockerfile's line can have",
                hint="break it with a continuation, or COPY the content from a file",
                source=self.source,
                span=Span(Position(self._next, 1), Position(self._next, 2)),
            )
        return self._next

    def _comment(self, comments: list[Comment], text: str, number: int, column: int) -> None:
        words = text[1:].strip(GO_SPACE)
        if words:
            comments.append(Comment(words, self._line_span(number, column)))
        else:
            comments.clear()  # a bare "#" parts a description from what stands above it

    def _directive(self, text: str, number: int, column: int) -> bool:
        match = _DIRECTIVE.fullmatch(text[1:].lstrip(GO_SPACE))
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            self._reading_directives = False
            return False
        span = self._line_span(number, column)
        if any(seen.name == name for seen in self.directives):
            raise DirectiveError(
                f"only one {name} parser directive can be used",
                hint="remove one of the two lines",
                source=self.source,
                span=span,
            )
        if name == "escape":
            if match[2] not in _CONTINUATION:
                raise DirectiveError(
                    f"invalid escape character {shown(match[2])!r}",
                    hint="it can be \\ (as without the directive) or `",
                    source=self.source,
                    span=span,
                )
            self.escape = match[2]
        self.directives.append(RawDirective(name, match[2], span))
        return True

    def _logical_line(self, first: str, number: int, column: int, comments: tuple[Comment, ...]) -> LogicalLine:
        continuation = _CONTINUATION[self.escape]
        empty: list[int] = []
        start = Position(number, column)
        text, offset = first, 0
        chunks: list[str] = []
        pieces: list[tuple[int, Position]] = []
        while True:
            match = continuation.search(text)
            kept = text if match is None else text[: match.start()]
            if not chunks:
                column += len(kept) - len(kept.lstrip(GO_SPACE))
                kept = kept.lstrip(GO_SPACE)
            if kept:
                pieces.append((offset, Position(number, column)))
                chunks.append(kept)
                offset += len(kept)
            if match is None:
                break
            following = self._continue_line(empty)
            if following is None:
                break
            number, column, text = following, 1, self.source.lines[following - 1]
        end = Position(self._next, len(self.source.lines[self._next - 1]) + 1)
        pieces = pieces or [(0, Position(number, column))]
        line = LogicalLine("".join(chunks), tuple(pieces), start, end, comments, tuple(empty))
        self._refuse_unfit(line)
        return line

    def _continue_line(self, empty: list[int]) -> int | None:
        """The number of the line that continues the current one: not a comment, not empty; None at the end."""
        while self._next < len(self.source.lines):
            number = self._take_line()
            stripped = self.source.lines[number - 1].lstrip(GO_SPACE)
            if not stripped:
                empty.append(number)
            elif not stripped.startswith("#"):
                return number
        return None

    def _refuse_unfit(self, line: LogicalLine) -> None:
        match = _UNFIT.search(line.text)
        if match is not None:
            what = "a NUL character" if match[0] == "\0" else "bytes that are not UTF-8"
            raise DockerfileEncodingError(
                f"the instruction contains {what}",
                hint="save the Dockerfile as UTF-8 text",
                source=self.source,
                span=line.span(match.start(), match.end()),
            )

    def heredoc(self, name: str, *, chomp: bool, opener: Span) -> HeredocBody:
        """Read the body of a here-document whose opener stands at ``opener``.

        chomp: whether the terminator may be indented with tabs (``<<-``); the content keeps its tabs.
        Raises HeredocError when the terminator never comes.
        """
        start = Position(self._next + 1, 1)
        first = self._next
        while self._next < len(self.source.lines):
            number = self._take_line()
            line = self.source.lines[number - 1]
            if (line.lstrip("\t") if chomp else line) == name:
                content = "".join(f"{text}\n" for text in self._physical[first : number - 1])
                self._refuse_unfit_body(content, start)
                return HeredocBody(content, Span(start, Position(number, len(line) + 1)))
        near = next((n for n, text in enumerate(self.source.lines[first:], first + 1) if text.strip() == name), None)
        raise HeredocError(
            f"unterminated heredoc: no line with just {shown(name)!r} follows",
            hint=f"line {near} has it with white space around; only <<- allows tabs before it"
            if near
            else f"end the here-document with a line of its own: {shown(name)}",
            source=self.source,
            span=opener,
        )

    def _refuse_unfit_body(self, content: str, start: Position) -> None:
        match = _UNFIT.search(content)
        if match is not None:
            before = content[: match.start()]
            line = start.line + before.count("\n")
            column = match.start() - before.rfind("\n")
            what = "a NUL character" if match[0] == "\0" else "bytes that are not UTF-8"
            raise DockerfileEncodingError(
                f"the here-document contains {what}",
                hint="COPY binary content from a file of the build context",
                source=self.source,
                span=Span(Position(line, column), Position(line, column + 1)),
            )

    def _line_span(self, number: int, column: int) -> Span:
        return Span(Position(number, column), Position(number, len(self.source.lines[number - 1].rstrip()) + 1))
