"""The tree of a parsed template."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Constant(NamedTuple):
    """A string, number, boolean or nil."""

    value: str | int | float | bool | None


class Fields(NamedTuple):
    """``.A.B``: the dot's members. Without names: the dot. column: where it stands, from 1; text: as written."""

    names: tuple[str, ...]
    line: int
    column: int

    @property
    def text(self) -> str:
        return "." + ".".join(self.names)


class Variable(NamedTuple):
    """``$x.A.B``."""

    name: str
    names: tuple[str, ...]
    line: int
    column: int

    @property
    def text(self) -> str:
        return ".".join((self.name, *self.names))


class Chain(NamedTuple):
    """``(pipeline).A.B``."""

    inner: Pipeline
    names: tuple[str, ...]
    line: int
    column: int

    @property
    def text(self) -> str:
        return "." + ".".join(self.names)


class Function(NamedTuple):
    """The name of a function."""

    name: str
    line: int
    column: int


Operand: TypeAlias = "Constant | Fields | Variable | Chain | Function"


class Command(NamedTuple):
    """One part of a pipeline: what is called or shown, then the arguments."""

    operands: tuple[Operand, ...]


class Pipeline(NamedTuple):
    """``$a, $b := command | command``.

    variables: the names that take the value; none: the pipeline's value is used.
    assigns: ``=``, not ``:=``.
    """

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    assigns: bool = False


class Text(NamedTuple):
    """What stands outside of the braces."""

    text: str


class Action(NamedTuple):
    """``{{pipeline}}``."""

    pipeline: Pipeline


class If(NamedTuple):
    pipeline: Pipeline
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class With(NamedTuple):
    pipeline: Pipeline
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Range(NamedTuple):
    pipeline: Pipeline
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Jump(NamedTuple):
    """``break`` or ``continue``."""

    word: str


Node: TypeAlias = "Text | Action | If | With | Range | Jump"
