"""JSON arrays that are no exec form: an array whose members are not all strings is an error, other text is not JSON.

Source: moby/buildkit, frontend/dockerfile/parser/line_parsers.go (parseJSON).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from dockerfile_grammar import tables
from dockerfile_grammar.errors import JsonFormError
from dockerfile_grammar.lines import LogicalLine
from dockerfile_grammar.source import Source
from dockerfile_grammar.syntax import Piece

if TYPE_CHECKING:
    from lark import Lark, Token, Tree


def require_strings(piece: Piece, line: LogicalLine, source: Source, instruction: str) -> None:
    """Refuse text that is a JSON array: the grammar of instructions did not take it, so its members are not strings."""
    from lark import Tree
    from lark.exceptions import UnexpectedInput

    if not (piece.text.startswith("[") and piece.text.endswith("]")):
        return
    try:
        array = _parser().parse(piece.text)
    except UnexpectedInput:
        return
    start, end = piece.start, piece.end
    for member in array.children[1:-1]:
        if not (isinstance(member, Tree) and member.data == "string"):
            first, last = _edge(member, 0), _edge(member, -1)
            start, end = piece.start + (first.start_pos or 0), piece.start + (last.end_pos or 0)
            break
    raise JsonFormError(
        f"{instruction}: a command in JSON form is an array of strings only",
        hint='put it in double quotes: ["…", "8080"]',
        source=source,
        span=line.span(start, end),
    )


def _edge(node: Tree[Token] | Token, index: int) -> Token:
    """The first (0) or last (-1) token of a subtree."""
    while not isinstance(node, str):
        node = node.children[index]
    return node


@functools.cache
def _parser() -> Lark:
    return tables.parser("json")
