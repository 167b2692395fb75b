"""What a job writes to ``$SHIPLAP_EXPORTS``: lines of NAME=value, checked before anybody reads them as values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ci.errors import JobFaultError
from core.masking import Masker

MAX_BYTES: Final = 32 << 10
"""Of all lines together."""


def read_exports(data: bytes, declared: Collection[str], masker: Masker) -> Mapping[str, str]:
    """The values by name; the last line of a name counts.

    data: the file's first MAX_BYTES + 1 bytes.
    declared: the names that the file of the pipeline has. masker: knows the secrets of the run.
    Raises JobFaultError, which says which line is wrong, and never what stands in it.
    """
    if len(data) > MAX_BYTES:
        raise JobFaultError(
            f"the job wrote more than {MAX_BYTES >> 10} KiB to $SHIPLAP_EXPORTS",
            hint="larger things are outputs",
        )
    found: dict[str, str] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        name, value = _parted(number, line)
        if name not in declared:
            raise JobFaultError(
                f"line {number} of $SHIPLAP_EXPORTS exports {name}, which the job does not declare",
                hint=f"add it: `exports: [{', '.join([*declared, name])}]`",
            )
        if masker.mask(value) != value:
            raise JobFaultError(
                f"the export {name} has a secret in it",
                hint="exports are shown; a job that needs the secret names it in `secrets`",
            )
        found[name] = value
    return found


def _parted(number: int, line: bytes) -> tuple[str, str]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise JobFaultError(f"line {number} of $SHIPLAP_EXPORTS is no UTF-8", hint="encode it, as base64") from error
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not name.isascii():
        raise JobFaultError(
            f"line {number} of $SHIPLAP_EXPORTS is not NAME=value",
            hint="a value is one line; encode it where it has more",
        )
    if "\0" in value or "\r" in value:
        raise JobFaultError(
            f"the export {name} has a NUL byte or a carriage return in it", hint="encode it, or take it out"
        )
    return name, value
