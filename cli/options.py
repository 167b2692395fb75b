"""Values of options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from cli.declared import Option
from cli.errors import CommandError
from core.references import Reference

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def pairs(values: Iterable[str], option: str, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Parse ``KEY=VALUE`` values of ``option``; the last of a key wins.

    environ: gives a bare ``KEY`` its value; a key that it lacks is left out, as in docker. Without ``environ``, a bare
    key has an empty value.
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


def given_params(values: Iterable[str]) -> dict[str, str]:
    """Parameters of a pipeline, as ``--param NAME=VALUE``. Raises CommandError."""
    for text in values:
        if "=" not in text:
            raise CommandError(f"--param {text!r} has no value", hint=f"write --param {text or 'NAME'}=VALUE")
    return text_pairs(values, "--param")


def text_pairs(values: Iterable[str], option: str, *, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """As ``pairs``, for values in an image's config, which is text. Raises CommandError for bytes that are no text."""
    found = pairs(values, option, environ=environ)
    for key, value in found.items():
        try:
            f"{key}{value}".encode()
        except UnicodeEncodeError as error:  # surrogates stand for bytes that are not UTF-8 (PEP 383)
            raise CommandError(f"{option} {key!r} is not UTF-8", hint="an image's config is; use a file") from error
    return found


def host_pairs(values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parse ``--add-host`` values, ``HOST:IP`` or ``HOST=IP``."""
    return tuple(_host_pair(text) for text in values)


def _host_pair(text: str) -> tuple[str, str]:
    import ipaddress

    separator = "=" if "=" in text else ":"
    host, _, address = text.partition(separator)
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        host = ""
    if not host or not host.isprintable() or " " in host:
        raise CommandError(f"invalid --add-host {text!r}", hint="write --add-host HOST:IP, as in db:10.0.0.7")
    return host, address.removeprefix("[").removesuffix("]")


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


def image_name(text: str) -> Reference:
    """Parse a new name for an image; the tag is ``latest`` unless the name has one."""
    name = Reference.parse(text).with_default_tag()
    if name.digest:
        raise CommandError(f"{text}: a name that is given to an image has no digest", hint="write NAME or NAME:TAG")
    return name


def duration(text: str, option: str) -> float:
    """Parse ``90s``, ``30m``, ``36h``, ``14d``, ``2w`` to seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not (number.isascii() and number.isdigit()):
        raise CommandError(f"{option} {text!r} is no duration", hint="write a number and s, m, h, d or w: 36h")
    return int(number) * _UNITS_S[unit]


JSON: Final = Option(("--json",), "Print JSON instead of a table.", dest="as_json", flag=True)
"""For commands that print a table."""

FORMAT: Final = Option(
    ("--format",), "table, json, 'table TEMPLATE' or a Go template.", metavar="FORM", default="", dest="form"
)
"""For listings: what ``cli.listing`` reads."""


def filter_of(*names: str) -> Option:
    """``--filter`` for listings, under these names: what ``cli.containers.filters`` reads."""
    return Option(names, "Only those; repeatable.", metavar="NAME=VALUE", dest="filters", multiple=True)


def json_option(command: _Decorated) -> _Decorated:
    """``JSON`` for a click command."""
    return JSON(command)


def environ() -> Mapping[str, str]:
    """The environment of the person who runs the command: values of a bare ``--build-arg KEY`` or ``-e KEY``."""
    return os.environ
