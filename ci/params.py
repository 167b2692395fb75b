"""Parameters of a run: what the file allows, and what somebody gave. Pure.

A value is data wherever it goes: a variable of a job, or a part of a value that ``${NAME}`` names. It is never part of
a script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ci.errors import CiError
from ci.model import Param
from core.suggestions import suggestion

MAX_VALUE: Final = 4096
"""Characters of a parameter's value."""

_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)


class ParamError(CiError):
    """Somebody gave a parameter that the file does not have, or a value that is none of its type."""


def fault(param: Param, value: str) -> str | None:
    """What is wrong with a value; None: nothing."""
    if len(value) > MAX_VALUE:
        return f"a parameter has at most {MAX_VALUE} characters, and this has {len(value)}"
    if "\0" in value:
        return "a parameter has no NUL"
    match str(param.type):
        case "boolean" if value not in ("true", "false"):
            return f'expected true or false, and this is "{_short(value)}"'
        case "number" if not _NUMBER.fullmatch(value):
            return f'expected a number, such as 3 or 0.5, and this is "{_short(value)}"'
        case "choice" if value not in param.choices:
            return f'expected {" or ".join(param.choices)}, and this is "{_short(value)}"'
        case "string" if param.pattern and not _fits(param.pattern, value):
            return f'"{_short(value)}" does not match {param.pattern}'
    return None


def resolved(params: Mapping[str, Param], given: Mapping[str, str]) -> dict[str, str]:
    """The values of all parameters: those that were given, and the defaults of the others. Raises ParamError."""
    for name, value in given.items():
        if name not in params:
            hint = suggestion(name, params) or (f"there are {', '.join(params)}" if params else "it has none")
            raise ParamError(f'the pipeline has no parameter "{_short(name)}"', hint=hint)
        wrong = fault(params[name], value)
        if wrong is not None:
            raise ParamError(f"parameter {name}: {wrong}")
    return {str(name): given.get(name, str(param.default)) for name, param in params.items()}


def in_words(params: Mapping[str, str]) -> str:
    """Values of parameters as a line: ``LEVEL=high DRY=false``."""
    return " ".join(f"{name}={value}" for name, value in params.items())


def _fits(pattern: str, value: str) -> bool:
    import re2  # a few milliseconds, for the one file in many that has a pattern

    return re2.fullmatch(pattern, value) is not None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
