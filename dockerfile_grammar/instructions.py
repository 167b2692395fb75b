"""From parts to typed instructions: numbers of arguments, flags and their values, names.

Messages and what is accepted follow moby/buildkit, frontend/dockerfile/instructions/parse.go. There is one difference:
BuildKit accepts some nonsense only to fail in a later build (unknown flags of ARG, ONBUILD of what cannot be parsed);
this refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from msgspec import Struct

from core.suggestions import suggestion
from dockerfile_grammar.ast import (
    Add,
    AnyInstruction,
    Arg,
    Assignment,
    Cmd,
    Command,
    Copy,
    Declaration,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Flag,
    From,
    Healthcheck,
    Heredoc,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    StopSignal,
    User,
    Volume,
    Word,
    Workdir,
)
from dockerfile_grammar.errors import (
    ArgumentsError,
    DockerfileSyntaxError,
    FlagError,
    HeredocError,
    StageError,
    shown,
)
from dockerfile_grammar.expansion import HeredocOpener, heredoc_opener
from dockerfile_grammar.flags import NETWORK_MODES, SECURITY_MODES, FlagSet, make_flag
from dockerfile_grammar.jsonform import require_strings
from dockerfile_grammar.lines import GO_SPACE, Comment, LogicalLine
from dockerfile_grammar.mounts import check_unexpanded_mount, parse_device
from dockerfile_grammar.source import Source, Span
from dockerfile_grammar.syntax import (
    AssignmentsParts,
    ExecParts,
    HealthParts,
    InstructionParts,
    Piece,
    StageParts,
    WordsParts,
)

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_VARIABLE = re.compile(r"\$.")
_ONBUILD_PREFIX = re.compile(r"(?i)[\t\n\f\r ]*ONBUILD[\t\n\f\r ]*")


class _Common(TypedDict):
    """The fields that all instructions have."""

    keyword: Word
    original: str
    span: Span
    flags: tuple[Flag, ...]
    heredocs: tuple[Heredoc, ...]
    comments: tuple[Comment, ...]
    empty_continuations: tuple[int, ...]


class Context(Struct, frozen=True):
    """An instruction on the way from parts to meaning: its parts, its line, its here-documents."""

    parts: InstructionParts
    line: LogicalLine
    source: Source
    heredocs: tuple[Heredoc, ...]
    span: Span

    @property
    def name(self) -> str:
        return self.parts.keyword.text.upper()

    def word(self, piece: Piece) -> Word:
        return Word(piece.text, self.line.span(piece.start, piece.end))

    def words(self, pieces: tuple[Piece, ...]) -> tuple[Word, ...]:
        return tuple(map(self.word, pieces))

    def error(self, reason: str, *, hint: str | None = None, span: Span | None = None) -> ArgumentsError:
        return ArgumentsError(reason, hint=hint, source=self.source, span=span or self.word(self.parts.keyword).span)


if TYPE_CHECKING:
    _Maker: TypeAlias = Callable[[Context, _Common, FlagSet], AnyInstruction]


def make_instruction(context: Context) -> AnyInstruction:
    """The typed instruction. Raises DockerfileError, with the place."""
    line, parts = context.line, context.parts
    flags = tuple(make_flag(flag, line) for flag in parts.flags)
    common: _Common = {
        "keyword": context.word(parts.keyword),
        "original": line.text[parts.keyword.start :].strip(GO_SPACE),
        "span": context.span,
        "flags": flags,
        "heredocs": context.heredocs,
        "comments": line.comments,
        "empty_continuations": line.empty_continuations,
    }
    known = FlagSet.check(context.name, context.source, () if _ignores_flags(parts) else flags)
    return _MAKERS[context.name](context, common, known)


def _ignores_flags(parts: InstructionParts) -> bool:
    """HEALTHCHECK NONE takes flags without reading them."""
    return isinstance(parts.body, HealthParts) and parts.body.kind.text.upper() == "NONE"


def can_have_heredocs(parts: InstructionParts) -> bool:
    """RUN, COPY and ADD that are not in JSON form, and ONBUILD of these."""
    while isinstance(parts.body, InstructionParts):
        parts = parts.body
    return parts.keyword.text.upper() in {"RUN", "COPY", "ADD"} and not isinstance(parts.body, ExecParts)


def _from(context: Context, common: _Common, flags: FlagSet) -> From:
    body = context.parts.body
    if not isinstance(body, StageParts):
        raise context.error("FROM requires either one or three arguments", hint="FROM image, or FROM image AS name")
    name = context.word(body.name) if body.name else None
    if name is not None and not _STAGE_NAME.fullmatch(name.text.lower()):
        raise StageError(
            f"invalid name for build stage: {shown(name.text)!r}",
            hint="a name starts with a letter, and has letters, digits, '-', '_' and '.'",
            source=context.source,
            span=name.span,
        )
    return From(
        **common,
        base=context.word(body.base),
        name=name,
        as_keyword=context.word(body.as_keyword) if body.as_keyword else None,
        platform=flags.word("platform"),
    )


def _run(context: Context, common: _Common, flags: FlagSet) -> Run:
    for flag in flags.all("mount"):
        check_unexpanded_mount(flag, context.source)
    for flag in flags.all("device"):
        parse_device(flag, context.source)
    return Run(
        **common,
        command=_command(context, context.parts.body),
        mounts=flags.all("mount"),
        network=flags.choice("network", NETWORK_MODES),
        security=flags.choice("security", SECURITY_MODES),
        devices=flags.all("device"),
    )


def _cmd(context: Context, common: _Common, flags: FlagSet) -> Cmd:
    del flags
    return Cmd(**common, command=_command(context, context.parts.body))


def _entrypoint(context: Context, common: _Common, flags: FlagSet) -> Entrypoint:
    del flags
    return Entrypoint(**common, command=_command(context, context.parts.body))


def _shell(context: Context, common: _Common, flags: FlagSet) -> Shell:
    del flags
    command = _command(context, context.parts.body)
    if isinstance(command, ExecForm) and command.arguments:
        return Shell(**common, arguments=command.arguments)
    if isinstance(command, ShellForm) and command.text:
        raise context.error(
            "SHELL requires the arguments to be in JSON form", hint='SHELL ["/bin/bash", "-c"]', span=command.span
        )
    raise context.error("SHELL requires at least one argument", hint='SHELL ["/bin/bash", "-c"]')


def _command(context: Context, body: object) -> Command:
    """The command of RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK CMD; empty when there is none."""
    if isinstance(body, ExecParts):
        words = context.words(body.strings)
        return ExecForm(words, _body_span(context))
    if isinstance(body, Piece):
        require_strings(body, context.line, context.source, context.name)
        word = context.word(body)
        return ShellForm(word.text, context.heredocs, word.span)
    end = context.line.span(context.parts.keyword.end, context.parts.keyword.end)
    return ShellForm("", context.heredocs, end)


def _body_span(context: Context) -> Span:
    """The arguments' span: what comes after keyword and flags."""
    start = max([context.parts.keyword.end, *(flag.end for flag in context.parts.flags)])
    text = context.line.text
    start += len(text[start:]) - len(text[start:].lstrip(GO_SPACE))
    return context.line.span(start, len(text.rstrip(GO_SPACE)))


def _paths(context: Context) -> tuple[tuple[Word, ...], bool]:
    """Words or strings, and whether it was an array."""
    body = context.parts.body
    if isinstance(body, ExecParts):
        return context.words(body.strings), True
    if isinstance(body, WordsParts):
        first = body.words[0]
        if first.text.startswith("["):
            text = context.line.text[first.start :].rstrip(GO_SPACE)
            require_strings(
                Piece(text, first.start, first.start + len(text)), context.line, context.source, context.name
            )
        return context.words(body.words), False
    return (), False


class _SourcesAndDestination(Struct, frozen=True):
    arguments: tuple[Word, ...]
    sources: tuple[Word, ...]
    contents: tuple[Heredoc, ...]
    destination: Word
    json: bool


def _sources_and_destination(context: Context) -> _SourcesAndDestination:
    words, json = _paths(context)
    if len(words) < 2:
        hint = f"{context.name} source… destination"
        if len(words) == 1:
            raise context.error(
                f"{context.name} requires at least two arguments, but only one was provided",
                hint=hint,
                span=words[0].span,
            )
        raise context.error(f"{context.name} requires at least two arguments", hint=hint)
    *before, destination = words
    if heredoc_opener(destination.text) is not None:
        raise HeredocError(
            f"{context.name}: the destination cannot be a here-document",
            hint=f"{context.name} <<NAME /path",
            source=context.source,
            span=destination.span,
        )
    by_name = {heredoc.name: heredoc for heredoc in context.heredocs}
    sources, contents = [], []
    for word in before:
        opener = heredoc_opener(word.text)
        if opener is None:
            sources.append(word)
        else:
            contents.append(by_name.get(opener.name) or _unread(opener, word.span))
    return _SourcesAndDestination(words, tuple(sources), tuple(contents), destination, json)


def _unread(opener: HeredocOpener, span: Span) -> Heredoc:
    """An opener that had no body because the line's quotes do not match up, or in JSON: empty, as in BuildKit."""
    return Heredoc(opener.name, "", opener.expand, opener.chomp, opener.file_descriptor, span, Span(span.end, span.end))


def _copy(context: Context, common: _Common, flags: FlagSet) -> Copy:
    paths = _sources_and_destination(context)
    from_ = flags.word("from")
    if from_ is not None and _VARIABLE.search(from_.text):
        raise FlagError(
            f"COPY --from={shown(from_.text)}: variables are not expanded here",
            hint="FROM the image AS a stage, with the variable in FROM, and copy from that stage",
            source=context.source,
            span=from_.span,
        )
    return Copy(
        **common,
        arguments=paths.arguments,
        sources=paths.sources,
        contents=paths.contents,
        destination=paths.destination,
        json=paths.json,
        from_=from_,
        chown=flags.word("chown"),
        chmod=flags.word("chmod"),
        link=flags.boolean("link") or False,
        parents=flags.boolean("parents") or False,
        exclude=flags.words("exclude"),
    )


def _add(context: Context, common: _Common, flags: FlagSet) -> Add:
    paths = _sources_and_destination(context)
    return Add(
        **common,
        arguments=paths.arguments,
        sources=paths.sources,
        contents=paths.contents,
        destination=paths.destination,
        json=paths.json,
        chown=flags.word("chown"),
        chmod=flags.word("chmod"),
        link=flags.boolean("link") or False,
        keep_git_dir=flags.boolean("keep-git-dir"),
        checksum=flags.word("checksum"),
        unpack=flags.boolean("unpack"),
        exclude=flags.words("exclude"),
    )


def _assignments(context: Context) -> tuple[tuple[Assignment, ...], bool]:
    body = context.parts.body
    if not isinstance(body, AssignmentsParts):
        raise context.error(f"{context.name} requires at least one argument", hint=f"{context.name} name=value")
    assignments = []
    for name, value in body.pairs:
        word = context.word(name)
        if value is None:
            raise context.error(
                f"{context.name} must have two arguments",
                hint=f"{context.name} {shown(name.text)}=value",
                span=word.span,
            )
        if not name.text:
            raise context.error(
                f"{context.name} names can not be blank", span=context.line.span(name.start, name.start + 1)
            )
        assignments.append(Assignment(word, context.word(value)))
    return tuple(assignments), body.legacy


def _env(context: Context, common: _Common, flags: FlagSet) -> Env:
    del flags
    assignments, legacy = _assignments(context)
    return Env(**common, assignments=assignments, legacy=legacy)


def _label(context: Context, common: _Common, flags: FlagSet) -> Label:
    del flags
    assignments, legacy = _assignments(context)
    return Label(**common, assignments=assignments, legacy=legacy)


def _arg(context: Context, common: _Common, flags: FlagSet) -> Arg:
    del flags
    body = context.parts.body
    if not isinstance(body, AssignmentsParts):
        raise context.error("ARG requires at least one argument", hint="ARG name, or ARG name=default")
    declarations = []
    for name, value in body.pairs:
        if not name.text:
            raise context.error("ARG names can not be blank", span=context.line.span(name.start, name.start + 1))
        declarations.append(Declaration(context.word(name), None if value is None else context.word(value)))
    return Arg(**common, declarations=tuple(declarations))


def _expose(context: Context, common: _Common, flags: FlagSet) -> Expose:
    del flags
    words, _ = _paths(context)
    if not words:
        raise context.error("EXPOSE requires at least one argument", hint="EXPOSE 80, or EXPOSE 53/udp")
    return Expose(**common, ports=words)


def _volume(context: Context, common: _Common, flags: FlagSet) -> Volume:
    del flags
    words, json = _paths(context)
    if not words:
        raise context.error("VOLUME requires at least one argument", hint="VOLUME /data")
    for word in words:
        if not word.text.strip(GO_SPACE):
            raise context.error("VOLUME specified can not be an empty string", span=word.span)
    return Volume(**common, paths=tuple(Word(word.text.strip(GO_SPACE), word.span) for word in words), json=json)


def _one_argument(context: Context) -> Word:
    body = context.parts.body
    if not isinstance(body, Piece):
        raise context.error(f"{context.name} requires exactly one argument")
    return context.word(body)


def _user(context: Context, common: _Common, flags: FlagSet) -> User:
    del flags
    return User(**common, user=_one_argument(context))


def _workdir(context: Context, common: _Common, flags: FlagSet) -> Workdir:
    del flags
    return Workdir(**common, path=_one_argument(context))


def _stop_signal(context: Context, common: _Common, flags: FlagSet) -> StopSignal:
    del flags
    return StopSignal(**common, signal=_one_argument(context))


def _maintainer(context: Context, common: _Common, flags: FlagSet) -> Maintainer:
    del flags
    return Maintainer(**common, maintainer=_one_argument(context))


def _healthcheck(context: Context, common: _Common, flags: FlagSet) -> Healthcheck:
    body = context.parts.body
    if not isinstance(body, HealthParts):
        raise _health_error(context, "HEALTHCHECK requires at least one argument")
    kind = context.word(body.kind)
    if kind.text.upper() not in {"CMD", "NONE"}:
        hint = suggestion(kind.text, ("CMD", "NONE"))
        raise _health_error(context, f"HEALTHCHECK: unknown type {shown(kind.text)!r}", kind.span, hint)
    command = _command(context, body.command)
    if isinstance(command, ExecForm):
        command = ExecForm(command.arguments, _command_span(context, body))
    if kind.text.upper() == "NONE" and body.command is not None:
        raise _health_error(context, "HEALTHCHECK NONE takes no arguments", command.span)
    if kind.text.upper() == "CMD" and not (command.argv if isinstance(command, ExecForm) else command.text):
        raise _health_error(context, "missing command after HEALTHCHECK CMD", kind.span)
    return Healthcheck(
        **common,
        kind=kind,
        command=command if body.command is not None else None,
        interval_ns=flags.duration_ns("interval"),
        timeout_ns=flags.duration_ns("timeout"),
        start_period_ns=flags.duration_ns("start-period"),
        start_interval_ns=flags.duration_ns("start-interval"),
        retries=flags.count("retries"),
    )


def _health_error(
    context: Context, reason: str, span: Span | None = None, hint: str | None = None
) -> DockerfileSyntaxError:
    return DockerfileSyntaxError(
        reason,
        hint=hint or "HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE",
        source=context.source,
        span=span or context.word(context.parts.keyword).span,
    )


def _command_span(context: Context, body: HealthParts) -> Span:
    text = context.line.text
    rest = text[body.kind.end :]
    return context.line.span(body.kind.end + len(rest) - len(rest.lstrip(GO_SPACE)), len(text.rstrip(GO_SPACE)))


def _onbuild(context: Context, common: _Common, flags: FlagSet) -> Onbuild:
    del flags
    inner = context.parts.body
    if not isinstance(inner, InstructionParts):
        raise context.error("ONBUILD requires at least one argument", hint="ONBUILD RUN command")
    keyword = context.word(inner.keyword)
    name = keyword.text.upper()
    if name == "ONBUILD":
        raise context.error("ONBUILD ONBUILD is not allowed", span=keyword.span)
    if name in {"FROM", "MAINTAINER"}:
        raise context.error(f"{name} isn't allowed as an ONBUILD trigger", span=keyword.span)
    span = Span(keyword.span.start, context.span.end)
    instruction = make_instruction(Context(inner, context.line, context.source, context.heredocs, span))
    trigger = _ONBUILD_PREFIX.sub("", context.line.text, count=1)
    trigger += "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in context.heredocs)
    return Onbuild(**common, trigger=trigger, instruction=instruction)


_MAKERS: dict[str, _Maker] = {
    "FROM": _from,
    "RUN": _run,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "SHELL": _shell,
    "COPY": _copy,
    "ADD": _add,
    "ENV": _env,
    "LABEL": _label,
    "ARG": _arg,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "USER": _user,
    "WORKDIR": _workdir,
    "STOPSIGNAL": _stop_signal,
    "MAINTAINER": _maintainer,
    "HEALTHCHECK": _healthcheck,
    "ONBUILD": _onbuild,
}
