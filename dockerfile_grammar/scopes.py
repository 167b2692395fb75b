"""Which variables are known at each instruction, as far as the file tells: for the checks.

A model of what the builder does with ARG and ENV, without its errors: a value that cannot be expanded stays as written.
Source: moby/buildkit, frontend/dockerfile/dockerfile2llb/convert.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from dockerfile_grammar import ast
from dockerfile_grammar.errors import ExpansionError
from dockerfile_grammar.expansion import Expansion, expand_body, expand_with_names
from dockerfile_grammar.growth import Growth
from dockerfile_grammar.words import expandable_words

PLATFORM_ARGS = frozenset(
    f"{who}{what}" for who in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
"""Global arguments that are always there; a stage sees them once it declares them."""

_UNKNOWN = "unknown"  # stands for a value that only a build has; never empty, so that ${v:-w} gives no wrong results


class Use(Struct, frozen=True):
    """A word, expanded; ``known`` are the names it could have used."""

    instruction: ast.AnyInstruction
    word: ast.Word
    expansion: Expansion
    known: frozenset[str]


class Scopes:
    """Walks the stages of a file.

    build_args: as given to the build.
    base_env: the environment of an image that a stage begins with, by the expanded name of the image; {} where it is
    not known.
    """

    def __init__(
        self,
        dockerfile: ast.Dockerfile,
        build_args: Mapping[str, str],
        base_env: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._base_env = base_env
        self._growth = Growth()
        self._stage_envs: dict[str, tuple[dict[str, str], set[str]]] = {}
        self.global_env = self._global_env(build_args)
        self.default_env = self._global_env({})
        declared = (item.name for arg in dockerfile.meta_args for item in arg.declarations)
        self.global_names = PLATFORM_ARGS | {self.expand(name, self.global_env).text for name in declared}

    def expand(self, word: ast.Word, env: Mapping[str, str]) -> Expansion:
        """Expand a word; one that cannot be is taken as it is."""
        try:
            return self._counted(word, expand_with_names(word.text, env, escape=self._dockerfile.escape))
        except ExpansionError:
            return Expansion(word.text, frozenset(), frozenset())

    def _expand_body(self, body: ast.Word, env: Mapping[str, str]) -> Expansion:
        try:
            return self._counted(body, expand_body(body.text, env))
        except ExpansionError:
            return Expansion(body.text, frozenset(), frozenset())

    def _counted(self, word: ast.Word, expansion: Expansion) -> Expansion:
        self._growth.add(word.text, expansion.text)
        return expansion

    def _global_env(self, build_args: Mapping[str, str]) -> dict[str, str]:
        env = dict.fromkeys(PLATFORM_ARGS, _UNKNOWN)
        for arg in self._dockerfile.meta_args:
            for declaration in arg.declarations:
                name = self.expand(declaration.name, env).text
                if name in build_args:
                    env[name] = build_args[name]
                elif declaration.default is not None:
                    env[name] = self.expand(declaration.default, env).text
        return env

    def uses(self) -> Iterator[Use]:
        """Every word of every stage that is expanded, in order, FROM left out."""
        for stage in self._dockerfile.stages:
            yield from self._stage_uses(stage)

    def _stage_uses(self, stage: ast.Stage) -> Iterator[Use]:
        base = self.expand(stage.base, self.global_env).text
        inherited = self._stage_envs.get(base.lower())
        env, declared = (dict(inherited[0]), set(inherited[1])) if inherited else (dict(self._base_env(base)), set())
        if not inherited:
            env.setdefault("PATH", _UNKNOWN)
        for instruction in stage.instructions:
            before = dict(env)
            known = frozenset(before) | declared
            for word in expandable_words(instruction):
                expansion = self.expand(word, env if isinstance(instruction, ast.Arg) else before)
                yield Use(instruction, word, expansion, known)
            if isinstance(instruction, ast.Copy | ast.Add):
                for body in _bodies(instruction):
                    yield Use(instruction, body, self._expand_body(body, before), known)
            if isinstance(instruction, ast.Env):
                for assignment in instruction.assignments:
                    env[self.expand(assignment.name, before).text] = self.expand(assignment.value, before).text
            elif isinstance(instruction, ast.Arg):
                for declaration in instruction.declarations:
                    self._declare(declaration, env, declared)
        if stage.name is not None:
            self._stage_envs[stage.name] = (env, declared)

    def _declare(self, declaration: ast.Declaration, env: dict[str, str], declared: set[str]) -> None:
        name = self.expand(declaration.name, env).text
        declared.add(name)
        if name in self._build_args:
            env[name] = self._build_args[name]
        elif declaration.default is not None:
            env[name] = self.expand(declaration.default, env).text
        elif name in self.global_env:
            env[name] = self.global_env[name]


def _bodies(instruction: ast.Copy | ast.Add) -> Iterator[ast.Word]:
    """The contents of here-documents in which variables are expanded: those whose name has no quotes."""
    return (ast.Word(heredoc.text, heredoc.body_span) for heredoc in instruction.heredocs if heredoc.expand)
