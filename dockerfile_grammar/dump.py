"""A Dockerfile as plain data: what ``python -m dockerfile_grammar`` prints.

Arguments are those of BuildKit's parser (frontend/dockerfile/parser), with two choices of form:

- ENV, LABEL and ARG are name, value, name, value, …, without BuildKit's separators; an ARG without default is its name
  alone.
- ONBUILD has no arguments, but a member ``onbuild``: the instruction in this form. In BuildKit it is the argument.

As in BuildKit, only the form has been checked by then: unknown flags, a missing FROM or an unknown kind of
HEALTHCHECK are no errors here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dockerfile_grammar.ast import Heredoc
from dockerfile_grammar.instructions import Context
from dockerfile_grammar.syntax import (
    AssignmentsParts,
    Body,
    ExecParts,
    HealthParts,
    InstructionParts,
    Piece,
    StageParts,
    WordsParts,
)


def dump(contexts: Sequence[Context]) -> dict[str, Any]:
    """``{"instructions": […]}`` in the order of the file."""
    return {"instructions": [_instruction(context, context.parts) for context in contexts]}


def _instruction(context: Context, parts: InstructionParts) -> dict[str, Any]:
    """Name in upper case, flags with their quotes resolved, arguments, lines; of ONBUILD also its instruction."""
    inner = parts.body if isinstance(parts.body, InstructionParts) else None
    arguments, json = ([], False) if inner else _arguments(parts.body)
    dumped: dict[str, Any] = {
        "instruction": parts.keyword.text.upper(),
        "flags": [flag.text for flag in parts.flags],
        "arguments": arguments,
        "json": json,
        "heredocs": [_heredoc(heredoc) for heredoc in context.heredocs],
        "start_line": context.span.start.line,
        "end_line": context.span.end.line,
    }
    if inner:
        dumped["onbuild"] = _instruction(context, inner)
    return dumped


def _heredoc(heredoc: Heredoc) -> dict[str, Any]:
    return {"name": heredoc.name, "content": heredoc.content, "expand": heredoc.expand, "chomp": heredoc.chomp}


def _arguments(body: Body | None) -> tuple[list[str], bool]:
    """The arguments, and whether they were a JSON array."""
    match body:
        case Piece(text=text):
            return [text], False
        case WordsParts(words=words):
            return [word.text for word in words], False
        case ExecParts(strings=strings):
            return [string.text for string in strings], True
        case StageParts():
            pieces = (body.base, body.as_keyword, body.name)
            return [piece.text for piece in pieces if piece is not None], False
        case AssignmentsParts(pairs=pairs):
            return [piece.text for pair in pairs for piece in pair if piece is not None], False
        case HealthParts(kind=kind, command=command):
            arguments, json = _arguments(command)
            return [kind.text, *arguments], json
        case _:
            return [], False
