"""Values that are written as one word: texts, numbers, durations, sizes, and one of a few words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from ci.document import Node, Scalar
from ci.language.shapes import Reading, Schema, Shape, Text, Unreadable, is_open, kind_of, misplaced
from core.quantities import parse_size
from core.suggestions import suggestion

T = TypeVar("T")


class Words(Shape[Text]):
    """A text: what is written, whether YAML would call it a number, a boolean or nothing.

    pattern: what all of it has to match.
    most: characters.
    fault: says what is wrong with a text that has the form, or None.
    """

    def __init__(
        self,
        what: str = "a text",
        pattern: str | None = None,
        *,
        most: int = 32 << 10,
        fault: Callable[[str], str | None] | None = None,
        is_verbatim: bool = False,
    ) -> None:
        self.what = what
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._most = most
        self._fault = fault
        self._is_verbatim = is_verbatim

    def read(self, node: Node, reading: Reading) -> Text:
        if not isinstance(node, Scalar):
            raise misplaced(node, self.what, reading)
        text = node.text
        if reading.is_template and not self._is_verbatim and is_open(node):
            return Text.of(node)
        if len(text) > self._most:
            raise reading.refuse(node.span, f"{self.what} has at most {self._most} characters; this has {len(text)}")
        if self._pattern is not None and not self._pattern.fullmatch(text):
            raise reading.refuse(node.span, f"expected {self.what}, and this is {kind_of(node)}")
        fault = self._fault(text) if self._fault is not None else None
        if fault is not None:
            raise reading.refuse(node.span, fault)
        return Text.of(node)

    def schema(self) -> Schema:
        if self._pattern is None:
            return {"type": ["string", "number", "boolean", "null"]}
        form = f"^(?:{self._pattern.pattern})$"
        if self._is_verbatim:
            return {"type": ["string", "number", "boolean"], "pattern": form}
        return {"type": ["string", "number", "boolean"], "pattern": f"{form}|{_TEMPLATE_PATTERN}"}


_TEMPLATE_PATTERN: Final = r"(?:^|[^$])(?:\$\$)*\$\{"


class _Scalars(Shape[T]):
    """A value that is written as one word: a number, a boolean, a duration. ``_value`` reads the word."""

    json_type: str

    def read(self, node: Node, reading: Reading) -> T:
        if not isinstance(node, Scalar) or node.is_null:
            raise misplaced(node, self.what, reading)
        if reading.is_template and is_open(node):
            raise Unreadable
        try:
            return self._value(node.text)
        except ValueError as error:
            said = str(error)
            raise reading.refuse(node.span, said or f"expected {self.what}, and this is {kind_of(node)}") from None

    def _value(self, text: str) -> T:
        """Raises ValueError; its text, if it has one, is the message."""
        raise NotImplementedError


class Flag(_Scalars[bool]):
    """``true`` or ``false``, as YAML 1.2 has them; ``yes`` and ``on`` are texts there, and refused here."""

    what = "true or false"
    _VALUES: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

    def _value(self, text: str) -> bool:
        if text not in self._VALUES:
            raise ValueError
        return self._VALUES[text]

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "boolean"}, _open_schema()]}


class Whole(_Scalars[int]):
    """A whole number, both bounds included."""

    def __init__(self, least: int, most: int) -> None:
        self.what = f"a whole number from {least} to {most}"
        self._least, self._most = least, most

    def _value(self, text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not self._least <= int(text) <= self._most:
            raise ValueError
        return int(text)

    def schema(self) -> Schema:
        bounds = {"minimum": self._least, "maximum": self._most}
        return {"anyOf": [{"type": "integer", **bounds}, {"type": "string", "pattern": r"^\d{1,9}$"}, _open_schema()]}


class Decimal(_Scalars[float]):
    """A number of processors: 0.5, 2; above 0."""

    what = "a number above 0"

    def _value(self, text: str) -> float:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII) or float(text) == 0:
            raise ValueError
        return float(text)

    def schema(self) -> Schema:
        return {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
                _open_schema(),
            ]
        }


class Duration(_Scalars[float]):
    """``90s``, ``1h30m``, ``7d``: in seconds. most_s: the longest."""

    what = "a duration, such as 90s, 1h30m or 7d"
    _UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
    _FORM: Final = r"(?=.)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?"

    def __init__(self, most: str) -> None:
        self._most, self._most_s = most, float("inf")
        self._most_s = self._value(most)

    def _value(self, text: str) -> float:
        match = re.fullmatch(self._FORM, text, re.ASCII)
        if match is None:
            raise ValueError
        seconds = float(
            sum(int(count or 0) * unit for count, unit in zip(match.groups(), self._UNITS.values(), strict=True))
        )
        if not 0 < seconds <= self._most_s:
            raise ValueError(f"at most {self._most}, and more than nothing; this is {text}")
        return seconds

    def schema(self) -> Schema:
        return {
            "type": "string",
            "pattern": rf"^(?:{self._FORM.replace('(?=.)', '')})$|{_TEMPLATE_PATTERN}",
            "minLength": 2,
        }


class Size(_Scalars[int]):
    """``512m``, ``1.5g``: in bytes, of powers of 1024."""

    what = "a size, such as 512m or 2g"

    def _value(self, text: str) -> int:
        try:
            size = parse_size(text)
        except ValueError:
            raise ValueError from None
        if not 0 < size < 1 << 50:
            raise ValueError
        return size

    def schema(self) -> Schema:
        return {"type": ["string", "integer"]}


class Choice(_Scalars[str]):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.what = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

    def read(self, node: Node, reading: Reading) -> str:
        if isinstance(node, Scalar) and node.text in self._words:
            return Text.of(node)
        if isinstance(node, Scalar) and not node.is_null and not (reading.is_template and is_open(node)):
            message = f"expected {self.what}, and this is {kind_of(node)}"
            raise reading.refuse(node.span, message, hint=suggestion(node.text, self._words, form='"{}"'))
        return super().read(node, reading)

    def _value(self, text: str) -> str:
        return text

    def schema(self) -> Schema:
        return {"anyOf": [{"enum": list(self._words)}, _open_schema()]}


def _open_schema() -> Schema:
    return {"type": "string", "pattern": _TEMPLATE_PATTERN}
