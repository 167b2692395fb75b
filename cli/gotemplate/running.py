"""Walks a template's tree with data, and makes the text.

Data is what JSON has: maps, lists, texts, numbers, booleans, nil. A map's value may also be a function: then it is a
method, which a template calls with arguments, as docker's ``{{.Label "name"}}``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cli.gotemplate.errors import TemplateRunError
from cli.gotemplate.functions import FUNCTIONS, is_true
from cli.gotemplate.nodes import (
    Action,
    Chain,
    Command,
    Constant,
    Fields,
    Function,
    If,
    Jump,
    Node,
    Operand,
    Pipeline,
    Range,
    Text,
    Variable,
    With,
)
from cli.gotemplate.parsing import parse
from cli.gotemplate.printing import text_of

_MOST_STEPS: Final = 2_000_000
_MOST_OUTPUT: Final = 64 << 20  # characters
_NO_VALUE: Final = "<no value>"
_ABSENT: Final = object()

Missing = Callable[[Mapping[str, Any], str, str], Any]
"""What a map has for a name that it lacks: takes the map, the name, and the place in the template; may raise."""


class _Jumped(Exception):
    """Control flow: ``break`` or ``continue``, to the innermost range."""

    def __init__(self, word: str) -> None:
        self.word = word


class Template:
    """A parsed template. ``run`` may be called again and again.

    functions: what it may call.
    missing: gives the value of a member that is not there, or raises; None: Go's error for it.
    """

    def __init__(
        self, text: str, functions: Mapping[str, Callable[..., Any]] = FUNCTIONS, missing: Missing | None = None
    ) -> None:
        self._nodes = parse(text, functions)
        self._functions = functions
        self._missing = missing or _no_entry

    def run(self, data: Any) -> str:
        """The text for this data. Raises TemplateRunError."""
        run = _Run(data, self._functions, self._missing)
        run.nodes(self._nodes, data)
        return "".join(run.output)


def _no_entry(data: Mapping[str, Any], name: str, place: str) -> Any:
    del data
    raise TemplateRunError(f'template: :{place}: map has no entry for key "{name}"')


class _Run:
    """One execution. ``output`` is what was written so far."""

    def __init__(self, data: Any, functions: Mapping[str, Callable[..., Any]], missing: Missing) -> None:
        self.output: list[str] = []
        self._written = 0
        self._steps = 0
        self._functions = functions
        self._missing = missing
        self._variables: list[tuple[str, Any]] = [("$", data)]

    def nodes(self, nodes: Sequence[Node], dot: Any) -> None:
        for node in nodes:
            self._step()
            match node:
                case Text(text):
                    self._write(text)
                case Action(pipeline):
                    value = self._pipeline(pipeline, dot)
                    if not pipeline.variables:
                        self._write(_NO_VALUE if value is _ABSENT else text_of(value))
                case If() | With():
                    self._branch(node, dot)
                case Range():
                    self._range(node, dot)
                case Jump(word):
                    raise _Jumped(word)

    def _branch(self, node: If | With, dot: Any) -> None:
        known = len(self._variables)
        value = self._pipeline(node.pipeline, dot)
        if value is not _ABSENT and is_true(value):
            self.nodes(node.then, value if isinstance(node, With) else dot)
        else:
            self.nodes(node.otherwise, dot)
        del self._variables[known:]

    def _range(self, node: Range, dot: Any) -> None:
        known = len(self._variables)
        names = node.pipeline.variables
        value = self._value(node.pipeline.commands, dot)
        is_empty = True
        for key, item in _pairs(value):
            self._step()
            is_empty = False
            if len(names) == 1:
                self._declare(names[0], item, assigns=node.pipeline.assigns)
            elif names:
                self._declare(names[0], key, assigns=node.pipeline.assigns)
                self._declare(names[1], item, assigns=node.pipeline.assigns)
            try:
                self.nodes(node.then, item)
            except _Jumped as jump:
                if jump.word == "break":
                    break
            finally:
                del self._variables[known:]
        if is_empty:
            self.nodes(node.otherwise, dot)
        del self._variables[known:]

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value = self._value(pipeline.commands, dot)
        for name in pipeline.variables:
            self._declare(name, value, assigns=pipeline.assigns)
        return value

    def _declare(self, name: str, value: Any, *, assigns: bool) -> None:
        if not assigns:
            self._variables.append((name, value))
            return
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                self._variables[position] = (name, value)
                return

    def _value(self, commands: Sequence[Command], dot: Any) -> Any:
        value: Any = _ABSENT
        for position, command in enumerate(commands):
            self._step()
            value = self._command(command, dot, () if position == 0 else (value,))
        return value

    def _command(self, command: Command, dot: Any, last: tuple[Any, ...]) -> Any:
        first, *rest = command.operands
        if isinstance(first, Function):
            return self._call(first, rest, dot, last)
        if isinstance(first, Fields | Variable | Chain) and (rest or last):
            method = self._operand(first, dot, called=True)
            if not callable(method):
                raise TemplateRunError(
                    f"template: :{_place(first)}: {first.names[-1] if first.names else first.text}"
                    " has arguments but cannot be invoked as function"
                )
            return _called(method, [*(self._operand(one, dot) for one in rest), *last], _place(first))
        return self._operand(first, dot)

    def _call(self, function: Function, rest: Sequence[Operand], dot: Any, last: tuple[Any, ...]) -> Any:
        if function.name in ("and", "or"):
            return self._and_or(function, rest, dot, last)
        values = [*(self._argument(self._operand(one, dot)) for one in rest), *map(self._argument, last)]
        return _called(self._functions[function.name], values, _place(function))

    def _and_or(self, function: Function, rest: Sequence[Operand], dot: Any, last: tuple[Any, ...]) -> Any:
        """The first value that decides; those after it are not looked at."""
        value: Any = _ABSENT
        for one in rest:
            value = self._argument(self._operand(one, dot))
            if is_true(value) == (function.name == "or"):
                return value
        if value is _ABSENT and not last:
            raise TemplateRunError(f"template: :{_place(function)}: wrong number of args for {function.name}")
        return self._argument(last[0]) if last else value

    @staticmethod
    def _argument(value: Any) -> Any:
        return None if value is _ABSENT else value

    def _operand(self, operand: Operand, dot: Any, *, called: bool = False) -> Any:
        self._step()
        match operand:
            case Constant(value):
                return value
            case Function():
                return self._call(operand, (), dot, ())
            case Fields():
                return self._fields(dot, operand.names, operand, called=called)
            case Variable():
                value = next(value for name, value in reversed(self._variables) if name == operand.name)
                return self._fields(value, operand.names, operand, called=called)
            case Chain():
                return self._fields(self._pipeline(operand.inner, dot), operand.names, operand, called=called)

    def _fields(self, value: Any, names: Sequence[str], operand: Fields | Variable | Chain, *, called: bool) -> Any:
        for position, name in enumerate(names):
            place = _place(operand)
            if value is None or value is _ABSENT:
                raise TemplateRunError(f"template: :{place}: nil data; no entry for key {name!r}".replace("'", '"'))
            if not isinstance(value, Mapping):
                kind = "string" if isinstance(value, str) else type(value).__name__
                raise TemplateRunError(f"template: :{place}: can't evaluate field {name} in type {kind}")
            value = value[name] if name in value else self._missing(value, name, place)
            if value is NO_VALUE:
                value = _ABSENT
            if callable(value) and not (called and position == len(names) - 1):
                value = _called(value, [], place)
        return value

    def _write(self, text: str) -> None:
        self._written += len(text)
        if self._written > _MOST_OUTPUT:
            raise TemplateRunError("the template writes too much", hint=f"at most {_MOST_OUTPUT >> 20} MiB")
        self.output.append(text)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TemplateRunError(f"the template takes more than {_MOST_STEPS} steps")


NO_VALUE: Final = object()
"""What ``Missing`` returns for a member that is nothing: it is shown as ``<no value>``, and false in an ``if``."""


def _pairs(value: Any) -> Any:
    if value is None or value is _ABSENT:
        return ()
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return enumerate(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return enumerate(range(value))
    raise TemplateRunError(f"range can't iterate over {text_of(value)}")


def _place(node: Fields | Variable | Chain | Function) -> str:
    text = node.name if isinstance(node, Function) else node.text
    return f'{node.line}:{node.column - 1}: executing "" at <{text}>'


def _called(function: Callable[..., Any], values: Sequence[Any], place: str) -> Any:
    try:
        inspect.signature(function).bind(*values)
    except TypeError as error:
        raise TemplateRunError(f"template: :{place}: wrong number of args: {error}") from error
    try:
        return function(*values)
    except TemplateRunError as error:
        raise TemplateRunError(f"template: :{place}: {error.message}", hint=error.hint) from error
