"""Messages for documents that do not have the form of their type, in words for the person who wrote them.

msgspec says where, and which type it expected. People get the field, what is wrong with it, and what may be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from core.suggestions import aside, suggestion

_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_PART: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_EXPECTED: Final = re.compile(r"Expected `(?P<want>[^`]*)`(?:, got `(?P<got>[^`]*)`)?(?P<rest>.*)", re.DOTALL)
_LENGTH: Final = re.compile(r" of length (?P<sign>[<>]=)? ?(?P<count>\d+)(?: to (?P<most>\d+))?")
_BOUND: Final = re.compile(r" (?P<sign>[<>]=?) (?P<bound>-?[\d.]+)")
_QUOTED: Final = re.compile(r"`([^`]*)`")
_WORDS: Final = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null", "bytes": "base64",
}  # fmt: skip
_SIGNS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def explain(error: msgspec.ValidationError, kind: Any, whole: str) -> str:
    """One sentence. kind: the type that was asked for. whole: what the document is called, as in ``the body``."""
    match = _AT.fullmatch(str(error))
    assert match is not None, "everything fits"
    parts = _PART.findall(match["path"] or "")
    field = _name(parts) or whole
    if match["key"]:
        field = f"a name in {field}"
    types = _types_at(inspect.type_info(kind), parts)
    what = match["what"]
    if what.startswith("Object missing required field"):
        return f"{_inside(parts, _quoted(what)) if parts else _quoted(what)} is missing"
    if what.startswith("Object contains unknown field"):
        name = _quoted(what)
        known = [each.encode_name for each in types if isinstance(each, inspect.StructType) for each in each.fields]
        return f"there is no field {_inside(parts, name)}{aside(suggestion(name, known))}"
    if what.startswith(("Invalid value", "Invalid enum value")):
        allowed = _choices(types) or _tags(_types_at(inspect.type_info(kind), parts[:-1]))
        given = what.partition("value ")[2]
        return f"{field} is {given}" + (f"; it can be {_either(allowed)}" if allowed else ", which it cannot be")
    if what.startswith("Invalid base64"):
        return f"{field} is no base64"
    expected = _EXPECTED.fullmatch(what)
    if expected is None:
        return f"{field}: {what.replace('`', '')}"
    return f"{field} {_wish(expected, types)}"


def described(kind: Any) -> str:
    """A type's own description for people, from ``msgspec.Meta(description=…)``; empty when it has none."""
    return next(filter(None, (_description(each) for each in _flat(inspect.type_info(kind)))), "")


def _wish(expected: re.Match[str], types: list[Any]) -> str:
    """What a field has to be, and what it is instead."""
    rest = expected["rest"]
    if length := _LENGTH.match(rest):
        unit = "character" if expected["want"] in ("str", "bytes") else "entry"
        count = int(length["count"])
        units = unit if count == 1 else "characters" if unit == "character" else "entries"
        least = f"{_SIGNS[length['sign']]} " if length["sign"] else ""
        return f"has to have {least}{count} {units}"
    if "matching regex" in rest:
        told = next(filter(None, map(_description, types)), "")
        return f"has to be {told}" if told else f"has to be of the form {rest.partition('regex ')[2]}"
    wanted = " or ".join(_WORDS.get(name.strip(), name.strip()) for name in expected["want"].split("|"))
    if bound := _BOUND.match(rest):
        return f"has to be {wanted}, {_SIGNS[bound['sign']]} {bound['bound']}"
    choices = _choices(types)
    wanted = _either(choices) if choices else wanted
    got = f", and is {_WORDS.get(expected['got'], expected['got'])}" if expected["got"] else ""
    return f"has to be {wanted}{got}"


def _name(parts: list[tuple[str, str]]) -> str:
    """``options.tags[1]``; of an object with names of its own, ``a value of options.build_args``."""
    text = ""
    for member, index in parts:
        if member:
            text += f".{member}" if text else member
        elif index == "...":
            text = f"a value of {text}"
        else:
            text += f"[{index}]"
    return text


def _inside(parts: list[tuple[str, str]], name: str) -> str:
    return f"{_name(parts)}.{name}" if parts else name


def _quoted(text: str) -> str:
    found = _QUOTED.search(text)
    return found[1] if found else text


def _types_at(top: Any, parts: list[tuple[str, str]]) -> list[Any]:
    """Every type that may stand at this place of the document."""
    types = [*_flat(top)]
    for member, index in parts:
        types = [below for each in types for found in _below(each, member, index) for below in _flat(found)]
    return types


def _flat(kind: Any) -> Iterator[Any]:
    """A type, with each member of a union for itself. A type's description comes before the type."""
    if isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _flat(each)
    else:
        yield kind
        if isinstance(kind, inspect.Metadata):
            yield from _flat(kind.type)


def _below(kind: Any, member: str, index: str) -> Iterator[Any]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if field.encode_name == member)
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type
    elif isinstance(kind, inspect.TupleType):
        yield from kind.item_types[int(index) : int(index) + 1]
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield kind.item_type


def _description(kind: Any) -> str:
    return str((kind.extra_json_schema or {}).get("description", "")) if isinstance(kind, inspect.Metadata) else ""


def _choices(types: list[Any]) -> list[str]:
    return [str(value) for each in types if isinstance(each, inspect.LiteralType) for value in each.values]


def _tags(types: list[Any]) -> list[str]:
    return [str(each.tag) for each in types if isinstance(each, inspect.StructType) and each.tag is not None]


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
