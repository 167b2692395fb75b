"""The content of a here-document of COPY and ADD, variables expanded; errors name their place in the body."""

from __future__ import annotations

from collections.abc import Mapping

from dockerfile_grammar import Dockerfile, Span, expand_body
from dockerfile_grammar.ast import Heredoc
from dockerfile_grammar.errors import ExpansionError
from dockerfile_grammar.source import Position


def heredoc_content(dockerfile: Dockerfile, heredoc: Heredoc, variables: Mapping[str, str]) -> bytes:
    """The content, expanded as in BuildKit, which ignores escape= here. Raises ExpansionError."""
    if not heredoc.expand:
        return heredoc.text.encode()
    try:
        return expand_body(heredoc.text, variables).text.encode()
    except ExpansionError as error:
        raise error.at(dockerfile.source, _span_of_error(heredoc, variables)) from None


def _span_of_error(heredoc: Heredoc, variables: Mapping[str, str]) -> Span:
    """The line that cannot be expanded; the whole body when no single line is to blame."""
    for number, line in enumerate(heredoc.content.splitlines(), heredoc.body_span.start.line):
        try:
            expand_body(line, variables)
        except ExpansionError:
            return Span(Position(number, 1), Position(number, len(line) + 1))
    return heredoc.body_span
