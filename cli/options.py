"""Values of options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from cli.errors import CommandError

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def pairs(values: Iterable[str], option: str, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Parse ``KEY=VALUE`` values of ``option``; the last of a key wins.

    environ: where a bare ``KEY`` takes its value from; a key that it lacks is left out, as docker does. Without
    ``environ`` a bare key has an empty value.
    """
    result: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key:
            raise CommandError(f"{option} {text!r} has no name", hint=f"write {option} NAME=VALUE")
        if equals or environ is None:
            result[key] = value
        elif key in environ:
            result[key] = environ[key]
        else:
            result.pop(key, None)
    return result


def env_file(path: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read docker's --env-file: ``KEY=VALUE`` lines, taken literally; ``#`` comments; a bare KEY as in ``pairs``."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = [line.rstrip("\r\n").lstrip() for line in file]
    wanted = [line for line in lines if line and not line.startswith("#")]
    for line in wanted:
        key = line.partition("=")[0]
        if key != key.strip() or " " in key or "\t" in key:
            raise CommandError(f"{path}: variable {key!r} contains white space", hint="write NAME=VALUE, one a line")
    return pairs(wanted, f"--env-file {path}:", environ=environ)


def json_option(command: _Decorated) -> _Decorated:
    """``--json`` for commands that print a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def environ() -> Mapping[str, str]:
    """The environment of the person who runs the command: values of a bare ``--build-arg KEY`` or ``-e KEY``."""
    return os.environ
