"""``--secret`` of ``shiplap build`` and of ``shiplap ci run``: where the content of a secret comes from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cli.errors import CommandError

_MAX_BYTES = 500 << 10
"""BuildKit's limit too: a secret is held in memory by every step that mounts it."""
STORED = "stored"
"""The type of a secret whose value a build service has already."""
_SRC = "src=FILE"
_KEYS = {"id": "id", "src": "src", "source": "src", "env": "env", "type": "type"}


class GivenSecrets(NamedTuple):
    """The secrets that a command line names.

    values: content by ID.
    stored: IDs of secrets that the service keeps.
    """

    values: dict[str, bytes]
    stored: tuple[str, ...]


def read_secrets(values: Iterable[str], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The content of each ``id=ID[,src=FILE|,env=NAME][,type=file|env]``, by ID; of equal IDs the last counts.

    Without src and env, the ID names a variable if there is one, else a file. Raises CommandError.
    """
    found = split_secrets(values, environ)
    if found.stored:
        raise CommandError(
            f"--secret id={found.stored[0]},type=stored: secrets are stored by a build service, and this build is here",
            hint="shiplap --host URL build …",
        )
    return found.values


def split_secrets(values: Iterable[str], environ: Mapping[str, str]) -> GivenSecrets:
    """For a build on a server: ``type=stored`` names one that the service has. Raises CommandError."""
    contents: dict[str, bytes] = {}
    stored: dict[str, None] = {}
    for text in values:
        fields = _fields(text)
        if fields.get("type") == STORED:
            if set(fields) != {"id", "type"}:
                raise _error(text, "has src or env, and is stored by the service", "write id=ID,type=stored")
            stored[fields["id"]] = None
        else:
            name, content = _read(text, fields, environ)
            contents[name] = content
    return GivenSecrets(contents, tuple(name for name in stored if name not in contents))


def read_named_secrets(values: Iterable[str], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The content of each ``NAME=FILE``, or of each NAME that is a variable, by name; of equal names the last counts.

    Raises CommandError.
    """
    from core.masking import MIN_LENGTH  # a build does without

    found: dict[str, bytes] = {}
    for text in values:
        name, equals, path = text.partition("=")
        if not name or (equals and not path):
            raise _error(text, "has no name" if not name else "names no file", "write --secret NAME=FILE, or NAME")
        form = f"{name}=FILE"
        found[name] = _from_file(text, path, form) if equals else _from_environ(text, name, environ, form)
        if len(found[name].strip()) < MIN_LENGTH:
            hint = f"secrets are masked in what is printed, and so have at least {MIN_LENGTH} bytes"
            raise _error(f"{name}", "its value is too short to be masked", hint)
    return found


def _read(text: str, fields: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, bytes]:
    name, path, variable, kind = (fields.get(key, "") for key in ("id", "src", "env", "type"))
    if not name:
        raise _error(text, "has no id", "write --secret id=ID,src=FILE")
    if kind not in ("", "file", "env"):
        raise _error(text, f"has the type {kind!r}", "it can be file or env")
    if path and variable:
        raise _error(text, "has src and env", "give one of them")
    if kind == "env" and path:
        path, variable = "", path  # as buildx: src names the variable
    if kind == "file" and variable:
        raise _error(text, "is of type file and has env", "write src=FILE")
    if not path and not variable:
        if kind == "env" or (not kind and name in environ):
            variable = name
        else:
            path = name
    return name, _from_environ(text, variable, environ, _SRC) if variable else _from_file(text, path, _SRC)


def _from_environ(text: str, variable: str, environ: Mapping[str, str], form: str) -> bytes:
    """The value of a variable. Raises CommandError where it is not set.

    form: how a file is named in place of the variable.
    """
    if variable not in environ:
        raise _error(text, f"${variable} is not set", f"export {variable}=…, or give a file: {form}")
    return os.fsencode(environ[variable])


def _from_file(text: str, path: str, form: str) -> bytes:
    path = os.path.expanduser(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _error(text, f"cannot read {path}: {error.strerror}", f"{form} names a file that you may read") from error
    if len(content) > _MAX_BYTES:
        raise _error(
            text, f"{path} has more than {_MAX_BYTES >> 10} KiB", "secrets are held in memory: make it smaller"
        )
    return content


def _fields(text: str) -> dict[str, str]:
    import csv

    found: dict[str, str] = {}
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        known = _KEYS.get(key.strip().lower())
        if known is None or not equals:
            raise _error(text, f"has an unknown field {field!r}", "write --secret id=ID,src=FILE or id=ID,env=NAME")
        found[known] = value
    return found


def _error(text: str, what: str, hint: str) -> CommandError:
    return CommandError(f"--secret {text}: {what}", hint=hint)
