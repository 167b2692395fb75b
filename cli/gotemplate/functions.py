"""The functions that a template may call: Go's own, and docker's.

Each takes the values of its arguments. ``and`` and ``or`` are not here: they do not look at what they need not.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cli.gotemplate.errors import TemplateRunError
from cli.gotemplate.printing import formatted, kind_of, text_of

_LONGEST: Final = 1 << 20
_HTML: Final = {"&": "&amp;", "'": "&#39;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "\0": "�"}


def is_true(value: Any) -> bool:
    """Go's truth: false, 0, nil and what is empty are false."""
    return bool(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TemplateRunError(
            f"wrong type for value; expected string; got {kind_of(value)}", hint=f"{name} takes text"
        )
    return value


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateRunError("error calling eq: missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    kinds = [_basic(first), _basic(second)]
    if kinds[0] != kinds[1]:
        raise TemplateRunError("error calling eq: incompatible types for comparison")
    return bool(first == second)


def _basic(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    raise TemplateRunError("error calling eq: non-comparable type")


def _less(first: Any, second: Any) -> bool:
    kinds = (_basic(first), _basic(second))
    if kinds[0] != kinds[1] or kinds[0] == "bool":
        raise TemplateRunError("error calling lt: incompatible types for comparison")
    return bool(first < second)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise TemplateRunError("error calling index: index of untyped nil")
        if isinstance(value, Mapping):
            if not isinstance(key, str):
                raise TemplateRunError(f"error calling index: value has type {kind_of(key)}; should be string")
            value = value[key] if key in value else _zero(value)
        elif isinstance(value, Sequence):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateRunError(f"error calling index: cannot index slice/array with type {kind_of(key)}")
            if not 0 <= key < len(value):
                raise TemplateRunError(f"error calling index: index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateRunError(f"error calling index: can't index item of type {kind_of(value)}")
    return value


def _zero(value: Mapping[str, Any]) -> Any:
    """What a map without a key has for it: a map of texts the empty text, another one nil."""
    return "" if all(isinstance(item, str) for item in value.values()) else None


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str | list) or len(bounds) > 2:
        raise TemplateRunError(f"error calling slice: can't slice item of type {kind_of(value)}")
    whole = [0, len(value)]
    for position, bound in enumerate(bounds):
        if not isinstance(bound, int) or not 0 <= bound <= len(value):
            raise TemplateRunError(f"error calling slice: index out of range: {text_of(bound)}")
        whole[position] = bound
    if whole[0] > whole[1]:
        raise TemplateRunError(f"error calling slice: invalid slice index: {whole[0]} > {whole[1]}")
    return value[whole[0] : whole[1]]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise TemplateRunError(f"error calling len: len of {'nil pointer' if value is None else f'type {kind_of(value)}'}")


def _print(*values: Any) -> str:
    """Go's Sprint: a space between two values that are both no text."""
    found = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            found.append(" ")
        found.append(text_of(value))
    return "".join(found)


def _println(*values: Any) -> str:
    return " ".join(map(text_of, values)) + "\n"


def _json(value: Any) -> str:
    is_row = isinstance(value, Mapping) and any(map(callable, value.values()))
    if is_row:  # its fields, without its methods
        value = {name: value[name] for name in sorted(value) if not callable(value[name])}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)
    if is_row:  # docker's rows write themselves by encoding/json, which is careful for web pages
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _split(text: Any, separator: Any) -> list[str]:
    whole, between = _text(text, "split"), _text(separator, "split")
    return whole.split(between) if between else list(whole)


def _join(values: Any, separator: Any) -> str:
    if not isinstance(values, list | tuple | type(None)):
        raise TemplateRunError(
            f"wrong type for value; expected []string; got {kind_of(values)}", hint="join takes a list"
        )
    return _text(separator, "join").join(text_of(value) for value in values or ())


def _title(text: Any) -> str:
    found: list[str] = []
    begins = True
    for character in _text(text, "title"):
        found.append(character.upper() if begins else character)
        begins = character.isspace()
    return "".join(found)


def _pad(text: Any, before: Any, after: Any) -> str:
    shown = _text(text, "pad")
    if not all(isinstance(number, int) and abs(number) < _LONGEST for number in (before, after)):
        raise TemplateRunError(f"error calling pad: {text_of(before)} and {text_of(after)} are no widths")
    return " " * before + shown + " " * after if shown else shown


def _truncate(text: Any, length: Any) -> str:
    if not isinstance(length, int) or length < 0:
        raise TemplateRunError(f"error calling truncate: {text_of(length)} is no length")
    return _text(text, "truncate")[:length]


def _html(*values: Any) -> str:
    return "".join(_HTML.get(character, character) for character in _joined(values))


def _js(*values: Any) -> str:
    named = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
    return "".join(
        named.get(character) or (f"\\u{ord(character):04X}" if ord(character) < 32 else character)
        for character in _joined(values)
    )


def _joined(values: Sequence[Any]) -> str:
    first = values[0] if len(values) == 1 else None
    return first if isinstance(first, str) else _print(*values)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": lambda first, second: not _same(first, second),
    "lt": _less,
    "le": lambda first, second: not _less(second, first),
    "gt": lambda first, second: _less(second, first),
    "ge": lambda first, second: not _less(first, second),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "println": _println,
    "printf": lambda form, *values: formatted(_text(form, "printf"), values),
    "html": _html,
    "js": _js,
    "urlquery": lambda *values: urllib.parse.quote_plus(_joined(values)),
    # docker's
    "json": _json,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": lambda text: _text(text, "lower").lower(),
    "upper": lambda text: _text(text, "upper").upper(),
    "pad": _pad,
    "truncate": _truncate,
    "and": is_true,
    "or": is_true,
}
"""By name. ``and`` and ``or`` stand here for their names only: ``running`` does them."""


def _first(value: Any, *others: Any) -> Any:
    del others
    return value


HEADER_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    **FUNCTIONS,
    "json": _first,
    "split": _first,
    "join": _first,
    "title": _first,
    "lower": _first,
    "upper": _first,
    "truncate": _first,
}
"""What a table's header is made with: the functions that change a value leave the words of the header alone."""
