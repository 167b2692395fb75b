"""Values as Go's fmt package prints them: ``%v`` and its siblings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.gotemplate.errors import TemplateRunError
from core.gotext import quote

_VERB: Final = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?(?P<verb>.)", re.DOTALL)
_WIDEST: Final = 10_000
_NOT_GOS: Final = {True: "true", False: "false", None: "<nil>"}


class Struct(dict[str, Any]):
    """A map that is a structure in Go: printed by its fields, in their order, without their names.

    fields: each with what it is where the map lacks it, or has nil.
    said: what it says of itself where Go's type does that; "" for the fields.
    """

    def __init__(self, members: Mapping[str, Any], fields: Sequence[tuple[str, Any]], said: str = "") -> None:
        super().__init__(members)
        self._fields = fields
        self._said = said

    def text(self, *, named: bool = False) -> str:
        """``%v``; ``%+v``, where named."""
        if self._said:
            return self._said
        values = [(name, self[name] if self.get(name) is not None else zero) for name, zero in self._fields]
        return "{" + " ".join(f"{name}:{text_of(value)}" if named else text_of(value) for name, value in values) + "}"


class TypedMap(dict[str, Any]):
    """A map whose nil values are those of a type, which ``zero`` is printed for."""

    def __init__(self, members: Mapping[str, Any], zero: Any) -> None:
        super().__init__(members)
        self._zero = zero

    def text(self) -> str:
        return text_of({name: self._zero if value is None else value for name, value in self.items()})


def text_of(value: Any) -> str:
    """``%v``: a map is ``map[a:1 b:2]``, a list ``[1 2]``, nil ``<nil>``."""
    if value is None or isinstance(value, bool):
        return _NOT_GOS[value]
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Struct | TypedMap):
        return value.text()
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{text_of(key)}:{text_of(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, Sequence):
        return "[" + " ".join(map(text_of, value)) + "]"
    return str(value)


def formatted(form: str, arguments: Sequence[Any]) -> str:
    """Go's Sprintf. Raises TemplateRunError for widths that nobody can want."""
    left = list(arguments)

    def one(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        width = _number(match["width"], left)
        precision = _number(match["precision"], left)
        if not left:
            return f"%!{verb}(MISSING)"
        text = _verb(verb, left.pop(0), match["flags"], precision)
        if width is None:
            return text
        if "-" in match["flags"] or width < 0:
            return text.ljust(abs(width))
        if "0" in match["flags"] and verb in "dxXobeEfFgG":
            return text.zfill(width)
        return text.rjust(width)

    text = _VERB.sub(one, form)
    if left:
        extra = ", ".join(f"{kind_of(value)}={text_of(value)}" for value in left)
        text += f"%!(EXTRA {extra})"
    return text


def kind_of(value: Any) -> str:
    """The name of a value's type in Go."""
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    if type(value) in names:
        return names[type(value)]
    return "map[string]interface {}" if isinstance(value, Mapping) else "[]interface {}"


def _number(text: str | None, left: list[Any]) -> int | None:
    if text is None:
        return None
    value = (left.pop(0) if left else 0) if text == "*" else int(text[:8] or 0)
    if not isinstance(value, int) or abs(value) > _WIDEST:
        raise TemplateRunError(f"printf: a width of {text_of(value)[:20]} is too much", hint=f"at most {_WIDEST}")
    return value


def _verb(verb: str, value: Any, flags: str, precision: int | None) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb in "vs" and not (verb == "s" and (value is None or isinstance(value, bool | int | float))):
        if verb == "v" and "#" in flags and isinstance(value, str):
            return quote(value)
        text = value.text(named="+" in flags) if isinstance(value, Struct) else text_of(value)
        return text if precision is None or not isinstance(value, str) else text[:precision]
    if verb == "T":
        return kind_of(value)
    if verb == "q" and isinstance(value, str):
        return quote(value)
    if verb == "q" and isinstance(value, list):
        return "[" + " ".join(quote(text_of(item)) for item in value) + "]"
    if verb == "t" and isinstance(value, bool):
        return text_of(value)
    if verb in "dxXob" and whole:
        text = format(value, verb if verb != "#" else "d")
        return (
            f"0{verb}{text}" if "#" in flags and verb in "xX" else f"+{text}" if "+" in flags and value >= 0 else text
        )
    if verb in "xX" and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").hex() if verb == "x" else value.encode().hex().upper()
    if verb in "cU" and whole and 0 <= value < 0x110000:
        return chr(value) if verb == "c" else f"U+{value:04X}"
    if verb in "eEfFgG" and isinstance(value, float):
        text = format(value, f".{6 if precision is None and verb not in 'gG' else precision or 6}{verb}")
        return f"+{text}" if "+" in flags and value >= 0 else text
    return f"%!{verb}({kind_of(value)}={text_of(value)})" if value is not None else f"%!{verb}(<nil>)"


def _float(value: float) -> str:
    """``%v`` of a float: the shortest text; with an exponent below 1e-4 and from 1e+21 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    exponent = int(f"{value:e}".partition("e")[2])
    if value and not -4 <= exponent < 21:
        digits, _, power = repr(value).partition("e") if "e" in repr(value) else f"{value:.17g}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power or exponent):+03d}"
    text = repr(value) if "e" not in repr(value) else f"{value:.0f}"  # from 1e16 on: without a fraction
    return text.removesuffix(".0")
