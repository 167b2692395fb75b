"""A command as data: its options are declared once, and a plain command line is read without click.

click takes 20 ms to load and 5 ms to read fifty options: a quarter of a build that changes nothing. ``Command.read``
reads the usual spellings (``-t NAME``, ``--tag NAME``, ``--tag=NAME``, ``-it``) as click does. It leaves everything
else to click: help, errors, ``-tNAME``, ``-qt NAME``, ``--``. ``Command.click`` is the same command for click.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Option(NamedTuple):
    """One option of a command.

    names: as written; the longest names the value unless ``dest`` does.
    flag: the option has no value.
    multiple: the option may be given again; the value is a tuple.
    choices: the allowed values.
    integer: the value is a number.
    between: the value is a number in this range, ends included.
    file: the value is the path of a file that is to be written.
    hidden: the help does not name it.
    """

    names: tuple[str, ...]
    help: str
    metavar: str | None = None
    default: Any = None
    dest: str = ""
    flag: bool = False
    multiple: bool = False
    choices: tuple[str, ...] = ()
    integer: bool = False
    between: tuple[int, int] | None = None
    file: bool = False
    hidden: bool = False

    @property
    def destination(self) -> str:
        """The name of the function's argument that takes the value."""
        return self.dest or self.names[-1].lstrip("-").replace("-", "_")

    @property
    def unset(self) -> Any:
        """The value when the option was not given."""
        return () if self.multiple else False if self.flag else self.default

    def __call__(self, function: _Function) -> _Function:
        """Declare it for click, as ``click.option`` does."""
        import click

        attributes: dict[str, Any] = {"help": self.help, "metavar": self.metavar}
        if self.hidden:
            attributes["hidden"] = True
        if self.flag:
            attributes["is_flag"] = True
        elif self.multiple:
            attributes["multiple"] = True
        else:
            attributes["default"] = self.default
        if self.choices:
            attributes["type"] = click.Choice(self.choices)
        elif self.between:
            attributes["type"] = click.IntRange(*self.between)
        elif self.integer:
            attributes["type"] = int
        elif self.file:
            attributes["type"] = click.Path(dir_okay=False)
        return click.option(*self.names, self.destination, **attributes)(function)


class Argument(NamedTuple):
    """One positional argument of a command.

    metavar: how the help names it.
    optional: it may be left out; the value is None then.
    many: it takes all words that are left, at least one; the value is a tuple. Only the last argument can.
    """

    name: str
    metavar: str
    optional: bool = False
    many: bool = False


class Command(NamedTuple):
    """One command, as its declaration says.

    function: takes the value of ``--root``, and all others by name; returns the exit code. Its docstring is the help.
    rest: the name of all words that follow the arguments, whatever they look like; "": there are none.
    least: how many those are at least.
    """

    name: str
    arguments: Sequence[Argument]
    options: Sequence[Option]
    function: Callable[..., int]
    rest: str = ""
    least: int = 0

    def read(self, arguments: Sequence[str]) -> dict[str, Any] | None:
        """The values by name; None when click has to read the command line."""
        by_name = {name: option for option in self.options for name in option.names}
        values: dict[str, Any] = {option.destination: option.unset for option in self.options}
        positional = []
        left = iter(arguments)
        for word in left:
            if not word.startswith("-") or word == "-":
                positional.append(word)
                if self.rest and len(positional) == len(self.arguments):
                    break
                continue
            if len(word) > 2 and word[1] != "-":
                if not _store_flags(word[1:], by_name, values):
                    return None
                continue
            name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
            option = by_name.get(name)
            if option is None or (option.flag and equals):
                return None
            if option.flag:
                values[option.destination] = True
                continue
            if not equals:
                following = next(left, None)
                if following is None or (following.startswith("-") and following != "-"):
                    return None  # probably another option, since this one's value was forgotten
                value = following
            if not _store(option, value, values):
                return None
        after = tuple(left)
        found = self._placed(positional)
        if found is None or len(after) < self.least:
            return None
        return {**found, **values, **({self.rest: after} if self.rest else {})}

    def _placed(self, words: Sequence[str]) -> dict[str, Any] | None:
        """The positional arguments' values by name; None when there are too few words, or too many."""
        found: dict[str, Any] = {}
        left = list(words)
        for argument in self.arguments:
            if not left and not argument.optional:
                return None
            if argument.many:
                found[argument.name], left = tuple(left), []
            else:
                found[argument.name] = left.pop(0) if left else None
        return None if left else found

    def click(self) -> click.Command:
        """The same command for click; one without ``rest``."""
        import click

        assert not self.rest
        function: Any = click.pass_obj(self.function)
        for option in reversed(self.options):
            function = option(function)
        for argument in reversed(self.arguments):
            count, required = (-1 if argument.many else 1), not argument.optional
            function = click.argument(argument.name, metavar=argument.metavar, nargs=count, required=required)(function)
        return click.command(self.name)(function)


def _store_flags(letters: str, by_name: Mapping[str, Option], values: dict[str, Any]) -> bool:
    """Put flags that were written together, as ``-it``, into ``values``. False when click has to look at them."""
    options = [by_name.get(f"-{letter}") for letter in letters]
    for option in options:
        if option is None or not option.flag:
            return False
        values[option.destination] = True
    return True


def _store(option: Option, value: str, values: dict[str, Any]) -> bool:
    """Put a plain value into ``values``. False when click has to look at it."""
    found: Any = value
    if option.choices and value not in option.choices:
        return False
    if option.integer or option.between:
        if not (value.isascii() and value.isdigit()):
            return False
        found = int(value)
        if option.between and not option.between[0] <= found <= option.between[1]:
            return False
    if option.file and os.path.lexists(value) and not (os.path.isfile(value) and os.access(value, os.R_OK)):
        return False
    values[option.destination] = (*values[option.destination], found) if option.multiple else found
    return True


def declared(options: Sequence[Option]) -> Callable[[_Function], _Function]:
    """A decorator that declares all of these for a click command, in this order."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class Plain(NamedTuple):
    """A command line that needed no click. words: the command's. root: the value of ``--root``."""

    words: str
    command: Command
    root: str | None
    values: dict[str, Any]

    def run(self) -> int:
        return self.command.function(self.root, **self.values)


def read_plain(arguments: Sequence[str], commands: Mapping[str, str]) -> Plain | None:
    """Read a plain ``[--root DIR] COMMAND …``: the command, the root and the values; None when click has to read it.

    commands: modules by the command's words, each with a ``declared_command``.
    """
    root: str | None = None
    words = list(arguments)
    if words and words[0].startswith("--root="):
        root = words.pop(0).partition("=")[2]
    elif len(words) > 1 and words[0] == "--root" and not words[1].startswith("-"):
        root = words[1]
        del words[:2]
    for length in (1, 2):
        name = " ".join(words[:length])
        if name in commands and len(words) >= length:
            break
    else:
        return None
    from importlib import import_module

    command: Command = import_module(commands[name]).declared_command
    values = command.read(words[length:])
    return None if values is None else Plain(name, command, root, values)
