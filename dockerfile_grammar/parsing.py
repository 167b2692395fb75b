"""From text to Dockerfile: the line pass, the grammar and the instructions put together, and stages made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from core.gobool import parse_bool
from dockerfile_grammar.ast import (
    AnyInstruction,
    Arg,
    CheckOptions,
    Directives,
    Dockerfile,
    From,
    Heredoc,
    Maintainer,
    Onbuild,
    Stage,
    Word,
)
from dockerfile_grammar.errors import (
    ArgumentsError,
    DirectiveError,
    DockerfileError,
    DockerfileSyntaxError,
    EmptyDockerfileError,
    HeredocError,
    JsonFormError,
    StageError,
)
from dockerfile_grammar.expansion import heredoc_opener, split_raw
from dockerfile_grammar.instructions import Context, can_have_heredocs, make_instruction
from dockerfile_grammar.lines import LineReader, LogicalLine, RawDirective, decode
from dockerfile_grammar.source import Position, Source, Span
from dockerfile_grammar.syntax import parse_line

_BROKEN_BASE: Final = "the base image is broken; rebuild it"


def parse(text: str | bytes, filename: str = "Dockerfile") -> Dockerfile:
    """Parse a whole Dockerfile. filename: as errors show it. Raises DockerfileError, and nothing else."""
    reader = LineReader(decode(text), filename)
    instructions = list(_instructions(reader))
    if not instructions:
        raise _empty(reader.source)
    meta_args, stages = _stages(instructions, reader.source)
    return Dockerfile(reader.source, _directives(reader), meta_args, stages)


def parse_onbuild(trigger: str, *, filename: str = "ONBUILD trigger") -> AnyInstruction:
    """Parse a trigger from a base image's config. Spans and errors are relative to the trigger's text.

    Raises DockerfileError also for what cannot be a trigger: several instructions, FROM, MAINTAINER, ONBUILD.
    """
    reader = LineReader(trigger, filename)
    instruction = _one(reader, "an ONBUILD trigger", _BROKEN_BASE)
    if isinstance(instruction, From | Maintainer | Onbuild):
        raise DockerfileSyntaxError(
            f"{instruction.NAME} isn't allowed as an ONBUILD trigger",
            hint=_BROKEN_BASE,
            source=reader.source,
            span=instruction.keyword.span,
        )
    return instruction


def parse_change(text: str, *, filename: str = "--change") -> AnyInstruction:
    """Parse one instruction that stands by itself. Raises DockerfileError, also for none and for several."""
    return _one(LineReader(text, filename), "a change", f"give {filename} once for each instruction")


def _one(reader: LineReader, what: str, hint: str) -> AnyInstruction:
    instructions = list(_instructions(reader))
    if len(instructions) != 1:
        raise DockerfileSyntaxError(
            f"{what} is one instruction, not {len(instructions)}",
            hint=hint,
            source=reader.source,
            span=instructions[1].span if instructions else Span(Position(1, 1), Position(1, 1)),
        )
    return instructions[0]


def parse_parts(text: str | bytes, filename: str = "Dockerfile") -> list[Context]:
    """Parse only as far as BuildKit's parser does: words, flags and heredocs, whether or not they make sense.

    For tools. Raises DockerfileError for what is not in the language: unknown instructions, too few arguments, JSON
    arrays of other than strings, ….
    """
    reader = LineReader(decode(text), filename)
    contexts = list(_contexts(reader))
    for context in contexts:
        try:
            make_instruction(context)
        except (ArgumentsError, HeredocError, JsonFormError):
            raise
        except DockerfileError:
            continue
    if not contexts:
        raise _empty(reader.source)
    return contexts


def _empty(source: Source) -> EmptyDockerfileError:
    return EmptyDockerfileError(
        "the Dockerfile is empty", hint="a Dockerfile begins with FROM image, or FROM scratch", source=source
    )


def _instructions(reader: LineReader) -> Iterator[AnyInstruction]:
    return map(make_instruction, _contexts(reader))


def _contexts(reader: LineReader) -> Iterator[Context]:
    for line in reader:
        parts = parse_line(line, reader.source, reader.escape)
        heredocs = _heredocs(line, reader) if "<<" in line.text and can_have_heredocs(parts) else ()
        end = heredocs[-1].body_span.end if heredocs else line.end
        yield Context(parts, line, reader.source, heredocs, Span(line.start, end))


def _heredocs(line: LogicalLine, reader: LineReader) -> tuple[Heredoc, ...]:
    """Read the bodies that the line opens, in order."""
    heredocs = []
    for word, offset in split_raw(line.text):
        opener = heredoc_opener(word)
        if opener is not None:
            span = line.span(offset, offset + len(word))
            body = reader.heredoc(opener.name, chomp=opener.chomp, opener=span)
            heredocs.append(
                Heredoc(opener.name, body.content, opener.expand, opener.chomp, opener.file_descriptor, span, body.span)
            )
    return tuple(heredocs)


def _stages(instructions: list[AnyInstruction], source: Source) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    meta_args: list[Arg] = []
    starts = [index for index, instruction in enumerate(instructions) if isinstance(instruction, From)]
    for instruction in instructions[: starts[0] if starts else None]:
        if not isinstance(instruction, Arg):
            raise StageError(
                f"no build stage: {instruction.NAME} comes before any FROM",
                hint="begin with FROM image (only ARG can stand before it)",
                source=source,
                span=instruction.keyword.span,
            )
        meta_args.append(instruction)
    if not starts:
        raise StageError(
            "no build stage: there is no FROM", hint="add FROM image", source=source, span=instructions[-1].keyword.span
        )
    stages = []
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(instructions)], strict=True)):
        from_ = instructions[start]
        assert isinstance(from_, From)
        name = from_.name.text.lower() if from_.name else None
        stages.append(Stage(index, name, from_, tuple(instructions[start + 1 : end])))
    return tuple(meta_args), tuple(stages)


def _directives(reader: LineReader) -> Directives:
    by_name = {directive.name: directive for directive in reader.directives}
    syntax, check = by_name.get("syntax"), by_name.get("check")
    return Directives(
        syntax=Word(syntax.value.partition(" ")[0], syntax.span) if syntax else None,
        escape=reader.escape,
        check=_check_options(check, reader.source) if check else CheckOptions(),
    )


def _check_options(directive: RawDirective, source: Source) -> CheckOptions:
    try:
        return parse_check_options(directive.value)
    except ValueError as error:
        raise DirectiveError(
            str(error), hint="# check=skip=RuleName,…;error=true", source=source, span=directive.span
        ) from None


def parse_check_options(text: str) -> CheckOptions:
    """``skip=A,B;error=true``, or ``skip=all``. Raises ValueError.  Source: BuildKit, frontend/dockerfile/linter."""
    values = {"skip": "", "error": "", "experimental": ""}
    for part in text.split(";"):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in values:
            raise ValueError(f"invalid check option {part.strip()!r}")
        values[key] = value.strip()
    is_error = parse_bool(values["error"]) if values["error"] else False
    if is_error is None:
        raise ValueError(f"check: error is true or false, not {values['error']!r}")
    return CheckOptions(
        skip=_names(values["skip"]),
        skip_all=values["skip"] == "all",
        error=is_error,
        experimental=_names(values["experimental"]),
        experimental_all=values["experimental"] == "all",
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in re.split(r"[,\s]+", text) if name and name != "all")
