"""The outline of a Dockerfile: its targets, and what each takes. Read from the text; nothing is resolved or built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from builder.frontend.target import target_index
from builder.request.arguments import platform_args
from core.gobool import parse_bool
from core.platforms import Platform
from dockerfile_grammar import Dockerfile, Instruction, Stage, Word, ast, expand
from dockerfile_grammar.comments import description_above
from dockerfile_grammar.errors import ExpansionError
from dockerfile_grammar.expansion import expand_with_names


class Target(msgspec.Struct, frozen=True):
    """A stage.

    name: empty when the stage has none.
    base, platform: as written.
    line: of its FROM.
    """

    name: str
    index: int
    default: bool
    description: str
    base: str
    platform: str
    line: int


class Argument(msgspec.Struct, frozen=True):
    """An ARG. value: its value in this build; None when it has none."""

    name: str
    value: str | None
    description: str
    line: int


class Needed(msgspec.Struct, frozen=True):
    """A secret or an SSH agent that some RUN mounts."""

    name: str
    required: bool
    line: int


class Outline(msgspec.Struct, frozen=True):
    """What a target and the stages that it needs take."""

    target: Target
    arguments: tuple[Argument, ...]
    secrets: tuple[Needed, ...]
    ssh: tuple[Needed, ...]


def targets(dockerfile: Dockerfile) -> list[Target]:
    """The stages, in the order of the file."""
    last = len(dockerfile.stages) - 1
    return [
        Target(
            stage.from_.name.text if stage.from_.name else "",
            stage.index,
            stage.index == last,
            _description(stage.from_, stage.name or ""),
            stage.base.text,
            stage.platform.text if stage.platform else "",
            stage.from_.start_line,
        )
        for stage in dockerfile.stages
    ]


def outline(dockerfile: Dockerfile, target: str, build_args: Mapping[str, str], platform: Platform) -> Outline:
    """What ``target`` (the last stage when empty) takes. Raises DockerfileError when there is no such stage."""
    return _Outliner(dockerfile, build_args, platform).outline(target)


class _Outliner:
    """Walks the stages that a target needs. The arguments of the target count before those of the stages below it."""

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str], platform: Platform) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._globals = platform_args(Platform.host(), platform)
        self._global_arguments: dict[str, Argument] = {}
        self._global_uses: dict[str, frozenset[str]] = {}
        self._needed: dict[str, dict[str, Needed]] = {"secret": {}, "ssh": {}}
        for instruction in dockerfile.meta_args:
            self._declare(instruction, self._globals, inherited={}, into=self._global_arguments)
            for declaration in instruction.declarations:
                if declaration.default is not None:
                    self._global_uses[declaration.name.text] = self._used(declaration.default)

    def outline(self, target: str) -> Outline:
        wanted = target_index(self._dockerfile, target)
        arguments: dict[str, Argument] = {}
        used: set[str] = set()
        for index in self._reachable(wanted):
            stage = self._dockerfile.stages[index]
            arguments = {**self._visit(stage), **arguments}
            used |= self._used(stage.base) | (self._used(stage.platform) if stage.platform else frozenset())
        arguments = {**{name: self._global_arguments[name] for name in self._used_globals(used)}, **arguments}
        in_order = sorted(arguments.values(), key=lambda argument: argument.line)
        secrets, ssh = (tuple(kind.values()) for kind in self._needed.values())
        return Outline(targets(self._dockerfile)[wanted], tuple(in_order), secrets, ssh)

    def _used_globals(self, names: set[str]) -> set[str]:
        """Of the arguments before the first FROM: those with these names, and those that their defaults use."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self._global_arguments and name not in found:
                found.add(name)
                pending += self._global_uses.get(name, ())
        return found

    def _used(self, word: Word) -> frozenset[str]:
        try:
            return expand_with_names(word.text, self._globals, escape=self._dockerfile.escape).used
        except ExpansionError:
            return frozenset()

    def _reachable(self, wanted: int) -> list[int]:
        """Numbers of the stages that a stage needs, itself first."""
        found: dict[int, None] = {}
        pending: list[int] = [wanted]
        while pending:
            index = pending.pop(0)
            if index not in found:
                found[index] = None
                pending += self._needs(self._dockerfile.stages[index])
        return list(found)

    def _needs(self, stage: Stage) -> Iterator[int]:
        names = [self._expand(stage.base, self._globals)]
        for instruction in stage.instructions:
            if isinstance(instruction, ast.Copy) and instruction.from_ is not None:
                names.append(instruction.from_.text)
            elif isinstance(instruction, ast.Run):
                names += [mount["from"] for _, mount in _mounts(instruction) if "from" in mount]
        for name in names:
            earlier = [other.index for other in self._dockerfile.stages[: stage.index] if other.name == name.lower()]
            if earlier:
                yield earlier[-1]
            elif name.isdecimal() and int(name) < stage.index:
                yield int(name)

    def _visit(self, stage: Stage) -> dict[str, Argument]:
        """Note what the stage's commands need. Returns its arguments; the last declaration of a name counts."""
        env: dict[str, str] = {}
        arguments: dict[str, Argument] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, ast.Arg):
                self._declare(instruction, env, inherited=self._globals, into=arguments)
            elif isinstance(instruction, ast.Env):
                env |= {self._expand(it.name, env): self._expand(it.value, env) for it in instruction.assignments}
            elif isinstance(instruction, ast.Run):
                for kind, mount in _mounts(instruction):
                    self._need(kind, mount, instruction.start_line)
        return arguments

    def _declare(
        self, instruction: ast.Arg, env: dict[str, str], *, inherited: Mapping[str, str], into: dict[str, Argument]
    ) -> None:
        for declaration in instruction.declarations:
            name = self._expand(declaration.name, env)
            default = inherited.get(name)
            if declaration.default is not None:
                default = self._expand(declaration.default, env)
            value = self._build_args.get(name, default)
            if value is not None:
                env[name] = value
            known = self._global_arguments.get(name)
            described = _description(instruction, name) or (known.description if known else "")
            into[name] = Argument(name, value, described, instruction.start_line)

    def _need(self, kind: str, mount: Mapping[str, str], line: int) -> None:
        if kind not in self._needed:
            return
        target = mount.get("target") or mount.get("dst") or mount.get("destination") or ""
        fallback = {"secret": target.rpartition("/")[2], "ssh": "default"}[kind]
        name = mount.get("id") or mount.get("source") or mount.get("src") or fallback
        said = mount.get("required", "false")
        required = not said or parse_bool(said) is True
        known = self._needed[kind].get(name)
        self._needed[kind][name] = Needed(name, required or (known is not None and known.required), line)

    def _expand(self, word: Word, env: Mapping[str, str]) -> str:
        try:
            return expand(word.text, env, escape=self._dockerfile.escape)
        except ExpansionError:
            return word.text


def _mounts(run: ast.Run) -> Iterator[tuple[str, dict[str, str]]]:
    """Type and fields of each mount, as written."""
    import csv

    for flag in run.mounts:
        fields = (field.partition("=") for field in next(csv.reader([flag.value or ""]), []))
        mount = {key.strip().lower(): value for key, _, value in fields}
        yield mount.get("type", "bind"), mount


def _description(instruction: Instruction, name: str) -> str:
    """The comment right above, when it begins with the name.  Source: BuildKit, InvalidDefinitionDescription."""
    comment = description_above(instruction) if name else None
    if comment is None:
        return ""
    first, _, rest = comment.strip().partition(" ")
    return rest.strip() if first.lower() == name.lower() else ""
