"""From a logical line to its parts: the instruction grammar's parser and what it builds.

The parts are still tokens with offsets in the line; ``instructions`` gives them meaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from core.suggestions import suggestion
from dockerfile_grammar import tables
from dockerfile_grammar.errors import DockerfileSyntaxError, UnknownInstructionError, shown
from dockerfile_grammar.lines import GO_SPACE, LogicalLine
from dockerfile_grammar.source import Source

if TYPE_CHECKING:
    from lark import Lark, Token

INSTRUCTIONS = frozenset(
    {"FROM", "RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME", "EXPOSE"}
    | {"ENV", "LABEL", "ARG", "WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER", "HEALTHCHECK", "ONBUILD"}
)


class Piece(Struct, frozen=True):
    """A stretch of a logical line with a meaning. text: may differ from what stands there (quotes resolved)."""

    text: str
    start: int
    end: int


class FlagParts(Struct, frozen=True):
    """A flag, taken apart.

    text: the whole flag, quotes resolved. exact: whether it stands in the line just so.
    """

    text: str
    start: int
    end: int
    exact: bool


class StageParts(Struct, frozen=True):
    base: Piece
    as_keyword: Piece | None
    name: Piece | None


class WordsParts(Struct, frozen=True):
    words: tuple[Piece, ...]


class ExecParts(Struct, frozen=True):
    """An array of strings; the pieces' texts are the strings' values."""

    strings: tuple[Piece, ...]


class HealthParts(Struct, frozen=True):
    """The arguments of HEALTHCHECK, taken apart.

    kind: NONE or CMD, or a mistake. command: a shell command line or an array.
    """

    kind: Piece
    command: Piece | ExecParts | None


class AssignmentsParts(Struct, frozen=True):
    """Pairs of name and value; a value is None for an ARG without one, and in the legacy form when it is missing."""

    pairs: tuple[tuple[Piece, Piece | None], ...]
    legacy: bool


Body: TypeAlias = "Piece | StageParts | WordsParts | ExecParts | HealthParts | AssignmentsParts | InstructionParts"


class InstructionParts(Struct, frozen=True):
    keyword: Piece
    flags: tuple[FlagParts, ...]
    body: Body | None


def parse_line(line: LogicalLine, source: Source, escape: str) -> InstructionParts:
    """Parse a logical line. Raises DockerfileSyntaxError, with the place."""
    from lark.exceptions import UnexpectedInput

    text = line.text.rstrip(GO_SPACE)
    try:
        parts: InstructionParts = _parser(escape).parse(text)  # type: ignore[assignment]  # made by _Builder
    except UnexpectedInput as error:
        raise _explain(text, tables.error_position(error, text), line, source) from None
    return parts


@functools.cache
def _parser(escape: str) -> Lark:
    return tables.parser("instruction", escape=escape, transformer=_Builder())


def _piece(token: Token) -> Piece:
    return Piece(str(token), token.start_pos or 0, token.end_pos or 0)


_QUOTED_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


class _Builder:
    """Methods for the rules of instruction.lark."""

    def start(self, children: list[InstructionParts]) -> InstructionParts:
        return children[0]

    trigger = start

    def instruction(self, children: list[object]) -> InstructionParts:
        keyword, flags, *body = children
        return InstructionParts(_piece(keyword), tuple(flags), body[0] if body else None)  # type: ignore[arg-type]  # by the grammar

    def flags(self, children: Sequence[object]) -> list[FlagParts]:
        if not children:
            return []
        flags, flag = children
        flags.append(flag)  # type: ignore[attr-defined]  # by the grammar
        return flags  # type: ignore[return-value]

    def flag(self, tokens: list[Token]) -> FlagParts:
        start, end = tokens[0].start_pos or 0, tokens[-1].end_pos or 0
        exact = True
        texts = []
        for token in tokens:
            text = str(token)
            if token.type == "FLAG_ESCAPE":
                exact, text = False, text[1:]
            elif token.type in {"FLAG_DOUBLE_QUOTED", "FLAG_SINGLE_QUOTED"}:
                closed = len(text) > 1 and _QUOTED_ESCAPE.sub("", text).endswith(text[0], 1)
                exact, text = False, _QUOTED_ESCAPE.sub(r"\1", text[1:-1] if closed else text[1:])
            texts.append(text)
        return FlagParts("".join(texts), start, end, exact)

    def stage(self, tokens: list[Token]) -> StageParts:
        if len(tokens) == 1:
            return StageParts(_piece(tokens[0]), None, None)
        return StageParts(*map(_piece, tokens))

    def text(self, tokens: list[Token]) -> Piece:
        return _piece(tokens[0])

    def words(self, tokens: list[Token]) -> WordsParts:
        return WordsParts(tuple(map(_piece, tokens)))

    def paths(self, children: list[WordsParts | ExecParts]) -> WordsParts | ExecParts:
        return children[0]

    def command(self, children: list[Token | ExecParts]) -> Piece | ExecParts:
        child = children[0]
        return child if isinstance(child, ExecParts) else _piece(child)

    def healthcheck(self, children: list[object]) -> HealthParts:
        kind, *command = children
        return HealthParts(_piece(kind), command[0] if command else None)  # type: ignore[arg-type]  # by the grammar

    def exec_form(self, tokens: list[Token]) -> ExecParts:
        return ExecParts(tuple(Piece(json_string(token), token.start_pos or 0, token.end_pos or 0) for token in tokens))

    def assignments(self, pairs: list[tuple[Piece, Piece | None]]) -> AssignmentsParts:
        return AssignmentsParts(tuple(pairs), legacy=False)

    declarations = assignments

    def legacy_assignment(self, tokens: list[Token]) -> AssignmentsParts:
        value = _piece(tokens[1]) if len(tokens) == 2 else None
        return AssignmentsParts(((_piece(tokens[0]), value),), legacy=True)

    def assignment(self, tokens: list[Token]) -> tuple[Piece, Piece | None]:
        index = 0 if tokens[0].type == "EQUALS" else 1
        equals = tokens[index]
        before, after = equals.start_pos or 0, equals.end_pos or 0
        name = _piece(tokens[0]) if index else Piece("", before, before)
        value = _piece(tokens[index + 1]) if len(tokens) > index + 1 else Piece("", after, after)
        return name, value

    def lone_name(self, tokens: list[Token]) -> tuple[Piece, None]:
        return _piece(tokens[0]), None


def json_string(literal: str) -> str:
    """The value of a JSON string; as Go does it, half a surrogate pair becomes U+FFFD."""
    import json

    value: str = json.loads(literal)
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\u" in literal else value


# ---------------------------------------------------------------------------------------------------------------------
# What to say of a line that is no instruction

_FIRST_WORD = re.compile(r"[^\t\v\f\r ]*")


def _explain(text: str, position: int, line: LogicalLine, source: Source) -> DockerfileSyntaxError:
    """The error for a line in which the parser stopped at ``position``."""
    words = _keywords_before(text, position)
    if not words or position <= words[-1].start or words[-1].text.upper() == "ONBUILD":
        return _unknown_instruction(text, position, line, source)
    keyword = words[-1].text.upper()
    end = _word_end(text, position)
    rest = text[position:end]
    message, hint = f"{keyword}: unexpected {shown(rest) or 'end of the line'!r}", None
    if keyword == "FROM":
        message = "FROM requires either one or three arguments"
        hint = "FROM image, or FROM image AS name"
        if rest.lower() != "as":
            hint = suggestion(rest, ["AS"]) or hint
    elif keyword in {"ENV", "LABEL"}:
        message = f"{keyword}: no '=' in {shown(rest)!r}"
        hint = 'write name=value; quote a value that has spaces: name="a value"'
    return DockerfileSyntaxError(message, hint=hint, source=source, span=line.span(position, end))


def _keywords_before(text: str, position: int) -> list[Piece]:
    """The instruction's keyword, and after ONBUILD the trigger's, as far as they are known ones."""
    found: list[Piece] = []
    for match in re.finditer(r"[^\t\v\f\r ]+", text):
        if match.start() > position or match[0].upper() not in INSTRUCTIONS:
            if found and match[0].startswith("--") and match.start() <= position:
                continue
            break
        found.append(Piece(match[0], match.start(), match.end()))
        if match[0].upper() != "ONBUILD":
            break
    return found


def _word_end(text: str, position: int) -> int:
    match = _FIRST_WORD.match(text, position)
    return match.end() if match else position


def _unknown_instruction(text: str, position: int, line: LogicalLine, source: Source) -> UnknownInstructionError:
    end = _word_end(text, position)
    word = text[position:end]
    hint = suggestion(word, INSTRUCTIONS)
    if not word:
        message, hint = "an instruction is missing: the line continues with nothing", "remove the line"
    else:
        message = f"unknown instruction: {shown(word)}"
    if word and hint is None:
        hint = "if it belongs to the line before, end that line with a continuation character"
    return UnknownInstructionError(message, hint=hint, source=source, span=line.span(position, max(end, position)))
