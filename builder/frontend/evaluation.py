"""Evaluates words and ARGs of a Dockerfile, for the planner and for those who need values before there is a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from builder.frontend.heredocs import heredoc_content
from builder.request.arguments import platform_args
from core.platforms import Platform
from dockerfile_grammar import Dockerfile, Span, Word, expand, expand_words
from dockerfile_grammar.ast import Arg, Declaration, Heredoc
from dockerfile_grammar.errors import ExpansionError
from dockerfile_grammar.growth import Growth


class EvaluatedArg(NamedTuple):
    """One name of an ARG.

    declaration: as it is written.
    name: expanded.
    default: expanded; None without one.
    value: the build argument, else the default; None where neither is there.
    """

    declaration: Declaration
    name: str
    default: str | None
    value: str | None


class MetaArgs(NamedTuple):
    """The ARGs before the first FROM.

    values: what FROM sees, by name, including the variables that BuildKit defines there.
    declared: each name, in the order of the file.
    """

    values: dict[str, str]
    declared: tuple[EvaluatedArg, ...]


class Evaluator:
    """Evaluates the words of one Dockerfile. All its methods raise ExpansionError, with the place.

    The total size of all expanded words is bounded; otherwise a small file could fill any memory.
    declared: the names of the ARGs evaluated so far.
    """

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str]) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._growth = Growth()
        self.declared: set[str] = set()

    def expand(self, word: Word, env: Mapping[str, str]) -> str:
        """Expand a word."""
        with self._placed(word.span):
            text = expand(word.text, env, escape=self._dockerfile.escape)
            self._growth.add(word.text, text)
        return text

    def expand_words(self, word: Word, env: Mapping[str, str]) -> list[str]:
        """Expand to any number of words, as EXPOSE does."""
        with self._placed(word.span):
            words = expand_words(word.text, env, escape=self._dockerfile.escape)
            self._growth.add(word.text, *words)
        return words

    def content(self, heredoc: Heredoc, env: Mapping[str, str]) -> bytes:
        """The content of a here-document."""
        content = heredoc_content(self._dockerfile, heredoc, env)
        with self._placed(heredoc.span):
            self._growth.add(heredoc.content, content)
        return content

    def arg(self, instruction: Arg, visible: Mapping[str, str]) -> Iterator[EvaluatedArg]:
        """The names of an ARG instruction, one after the other: a default may use the ARGs before it.

        The caller puts each value into ``visible`` before asking for the next name.
        """
        for declaration in instruction.declarations:
            name = self.expand(declaration.name, visible)
            default = None if declaration.default is None else self.expand(declaration.default, visible)
            self.declared.add(name)
            yield EvaluatedArg(declaration, name, default, self._build_args.get(name, default))

    def meta_args(self, platform: Platform) -> MetaArgs:
        """The ARGs that FROM sees in a build for ``platform``."""
        values = platform_args(Platform.host(), platform)
        declared: list[EvaluatedArg] = []
        for instruction in self._dockerfile.meta_args:
            for evaluated in self.arg(instruction, values):
                declared.append(evaluated)
                if evaluated.value is not None:
                    values[evaluated.name] = evaluated.value
        return MetaArgs(values, tuple(declared))

    @contextlib.contextmanager
    def _placed(self, span: Span) -> Iterator[None]:
        try:
            yield
        except ExpansionError as error:
            raise error.at(self._dockerfile.source, span) from None
