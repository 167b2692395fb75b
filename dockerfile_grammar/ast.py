"""What a Dockerfile says, typed. Everything here is immutable and knows where it was written.

Texts are as written, unexpanded: variables, and the quotes of ENV, LABEL and ARG, are resolved by ``expansion``.
Arguments are ``Word``: a text and its span. ``None`` means that a thing was not written at all. (Annotations are no
texts here: msgspec would take milliseconds to evaluate them, whenever a remembered parse is read.)
"""

from collections.abc import Iterator
from typing import ClassVar, TypeAlias

from msgspec import Struct

from dockerfile_grammar.errors import DockerfileError
from dockerfile_grammar.lines import Comment
from dockerfile_grammar.source import Position, Source, Span

__all__ = ["Comment", "Position", "Source", "Span"]  # also exported, though defined elsewhere


class Word(Struct, frozen=True):
    """A piece of text and where it stands."""

    text: str
    span: Span

    def __str__(self) -> str:
        return self.text


class Flag(Struct, frozen=True):
    """``--name`` or ``--name=value`` before the arguments.

    name: without the dashes.
    value: quotes resolved; None when there was no ``=``.
    text: the whole flag, quotes resolved (what BuildKit's parser reports).
    value_span: of the value as written, or of the flag when it has none.
    exact: whether ``value`` stands in the file exactly so; then offsets in it are offsets in the line.
    """

    name: str
    value: str | None
    text: str
    span: Span
    value_span: Span
    exact: bool

    @property
    def value_word(self) -> Word:
        return Word(self.value or "", self.value_span)


class Heredoc(Struct, frozen=True):
    """A here-document.

    name: the terminator, which also names the file that COPY writes.
    content: as written, with tabs (see ``text``).
    expand: variables are expanded, because the name has no quotes.
    chomp: opened by ``<<-``.
    file_descriptor: the number before ``<<``, 0 without one.
    span: of the opener.
    body_span: of the lines, the terminator's included.
    """

    name: str
    content: str
    expand: bool
    chomp: bool
    file_descriptor: int
    span: Span
    body_span: Span

    @property
    def text(self) -> str:
        """The content with the leading tabs of every line gone if opened by ``<<-``."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


class Assignment(Struct, frozen=True):
    """``name=value``, or ``name value`` in legacy form. Both sides keep quotes and escapes until expanded."""

    name: Word
    value: Word

    @property
    def span(self) -> Span:
        return Span(self.name.span.start, self.value.span.end)


class Declaration(Struct, frozen=True):
    """One of ARG's: ``name`` or ``name=default``."""

    name: Word
    default: Word | None

    @property
    def span(self) -> Span:
        return Span(self.name.span.start, (self.default or self.name).span.end)


class ShellForm(Struct, frozen=True, tag=True):
    """A command line for the SHELL; ``heredocs`` follow it in the file. text is empty when nothing was written."""

    text: str
    heredocs: tuple[Heredoc, ...]
    span: Span


class ExecForm(Struct, frozen=True, tag=True):
    """A JSON array: the argument vector."""

    arguments: tuple[Word, ...]
    span: Span

    @property
    def argv(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.arguments)


Command: TypeAlias = ShellForm | ExecForm


class Instruction(Struct, frozen=True, kw_only=True, tag=True):
    """What all instructions have.

    keyword: as written (``NAME`` is its proper form).
    original: the logical line, as history and progress show it: continuations joined, comments dropped, white space
    around gone.
    span: from the keyword to the end of the last line, here-documents included.
    comments: those right above.
    empty_continuations: numbers of empty lines inside.
    heredocs: what follows the line, in order, also for ONBUILD.
    """

    NAME: ClassVar[str] = ""

    keyword: Word
    original: str
    span: Span
    flags: tuple[Flag, ...]
    heredocs: tuple[Heredoc, ...]
    comments: tuple[Comment, ...]
    empty_continuations: tuple[int, ...]

    @property
    def start_line(self) -> int:
        return self.span.start.line

    @property
    def end_line(self) -> int:
        return self.span.end.line

    def flag(self, name: str) -> Flag | None:
        """The first flag of that name."""
        return next((flag for flag in self.flags if flag.name == name), None)


class From(Instruction, frozen=True, kw_only=True):
    """FROM.

    base: image, stage or ``scratch``, unexpanded.
    name: of the stage, as written; see Stage for lower case.
    """

    NAME: ClassVar[str] = "FROM"

    base: Word
    name: Word | None
    as_keyword: Word | None
    platform: Word | None


class Run(Instruction, frozen=True, kw_only=True):
    """RUN.

    network, security: checked values.
    mounts, devices: the flags, for ``mounts.parse_mount`` after expansion.
    """

    NAME: ClassVar[str] = "RUN"

    command: Command
    mounts: tuple[Flag, ...]
    network: str
    security: str
    devices: tuple[Flag, ...]


class Cmd(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "CMD"

    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "ENTRYPOINT"

    command: Command


class Shell(Instruction, frozen=True, kw_only=True):
    """SHELL.

    arguments: at least one.
    """

    NAME: ClassVar[str] = "SHELL"

    arguments: tuple[Word, ...]

    @property
    def argv(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.arguments)


class Copy(Instruction, frozen=True, kw_only=True):
    """COPY or ADD.

    sources: paths and globs.
    contents: the here-documents among the sources. Together with ``sources`` at least one.
    from_: stage name or number, named context or image; never with variables.
    exclude: patterns, not expanded.
    json: whether written as an array.
    arguments: all of them as written, here-document openers and destination too.
    """

    NAME: ClassVar[str] = "COPY"

    arguments: tuple[Word, ...]
    sources: tuple[Word, ...]
    contents: tuple[Heredoc, ...]
    destination: Word
    json: bool
    from_: Word | None
    chown: Word | None
    chmod: Word | None
    link: bool
    parents: bool
    exclude: tuple[Word, ...]


class Add(Instruction, frozen=True, kw_only=True):
    """As COPY, whose sources may be URLs and git repositories too. unpack, keep_git_dir: None when not given."""

    NAME: ClassVar[str] = "ADD"

    arguments: tuple[Word, ...]
    sources: tuple[Word, ...]
    contents: tuple[Heredoc, ...]
    destination: Word
    json: bool
    chown: Word | None
    chmod: Word | None
    link: bool
    keep_git_dir: bool | None
    checksum: Word | None
    unpack: bool | None
    exclude: tuple[Word, ...]


class Env(Instruction, frozen=True, kw_only=True):
    """ENV.

    legacy: written ``ENV name value``.
    """

    NAME: ClassVar[str] = "ENV"

    assignments: tuple[Assignment, ...]
    legacy: bool


class Label(Instruction, frozen=True, kw_only=True):
    """LABEL.

    legacy: written ``LABEL name value``.
    """

    NAME: ClassVar[str] = "LABEL"

    assignments: tuple[Assignment, ...]
    legacy: bool


class Arg(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "ARG"

    declarations: tuple[Declaration, ...]


class Expose(Instruction, frozen=True, kw_only=True):
    """EXPOSE.

    ports: as written and in that order; each may hold several after expansion.
    """

    NAME: ClassVar[str] = "EXPOSE"

    ports: tuple[Word, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "VOLUME"

    paths: tuple[Word, ...]
    json: bool


class User(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "USER"

    user: Word


class Workdir(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "WORKDIR"

    path: Word


class StopSignal(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "STOPSIGNAL"

    signal: Word


class Maintainer(Instruction, frozen=True, kw_only=True):
    NAME: ClassVar[str] = "MAINTAINER"

    maintainer: Word


class Healthcheck(Instruction, frozen=True, kw_only=True):
    """HEALTHCHECK.

    command: None for ``HEALTHCHECK NONE``. Durations in nanoseconds; 0, as in the image config, means the default.

    kind: ``NONE`` or ``CMD``, as written.
    """

    NAME: ClassVar[str] = "HEALTHCHECK"

    kind: Word
    command: Command | None
    interval_ns: int
    timeout_ns: int
    start_period_ns: int
    start_interval_ns: int
    retries: int


class Onbuild(Instruction, frozen=True, kw_only=True):
    """ONBUILD.

    trigger: the text for the image config.
    instruction: the same, parsed; its here-documents are in it too.
    """

    NAME: ClassVar[str] = "ONBUILD"

    trigger: str
    instruction: "AnyInstruction"


AnyInstruction: TypeAlias = (
    From
    | Run
    | Cmd
    | Entrypoint
    | Shell
    | Copy
    | Add
    | Env
    | Label
    | Arg
    | Expose
    | Volume
    | User
    | Workdir
    | StopSignal
    | Maintainer
    | Healthcheck
    | Onbuild
)
"""An instruction: one of the eighteen."""


class CheckOptions(Struct, frozen=True):
    """What ``# check=`` asks for."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    error: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False

    def skips(self, rule: str) -> bool:
        """Whether findings of the rule of this name are dropped."""
        return self.skip_all or rule in self.skip


class Directives(Struct, frozen=True):
    """The parser directives at the top. syntax: the frontend's reference. escape: ``\\`` or a backquote."""

    syntax: Word | None
    escape: str
    check: CheckOptions


class Stage(Struct, frozen=True):
    """A stage: from a FROM to the next. index: from 0. name: in lower case, or None."""

    index: int
    name: str | None
    from_: From
    instructions: tuple[AnyInstruction, ...]

    @property
    def base(self) -> Word:
        return self.from_.base

    @property
    def platform(self) -> Word | None:
        return self.from_.platform

    @property
    def span(self) -> Span:
        last = self.instructions[-1] if self.instructions else self.from_
        return Span(self.from_.span.start, last.span.end)


class Dockerfile(Struct, frozen=True):
    """A whole file. meta_args: the ARGs before the first FROM. stages: at least one."""

    source: Source
    directives: Directives
    meta_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    @property
    def filename(self) -> str:
        return self.source.filename

    @property
    def escape(self) -> str:
        return self.directives.escape

    @property
    def instructions(self) -> Iterator[AnyInstruction]:
        """All instructions in the order of the file."""
        yield from self.meta_args
        for stage in self.stages:
            yield stage.from_
            yield from stage.instructions

    def stage(self, name: str) -> Stage | None:
        """The last stage of that name, ignoring case."""
        lower = name.lower()
        return next((stage for stage in reversed(self.stages) if stage.name == lower), None)

    def error(self, reason: str, span: Span, *, hint: str | None = None) -> DockerfileError:
        """An error to raise about a place in this file."""
        return DockerfileError(reason, hint=hint, source=self.source, span=span)
