"""Documents that somebody sent, read with their types checked: what is wrong in them is the sender's fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.errors import InvalidRequestError


class Fields:
    """The members of a JSON object. Absent and null are the same: empty. where: how messages call the object."""

    __slots__ = ("_members", "_where")

    def __init__(self, members: Any, where: str) -> None:
        if members is None:
            members = {}
        if not isinstance(members, dict):
            raise InvalidRequestError(f"{where} is {_kind(members)}, expected an object")
        self._members: dict[str, Any] = members
        self._where = where

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def names(self) -> list[str]:
        """Those that are there."""
        return list(self._members)

    def raw(self, name: str) -> Any:
        """As it came; None when absent."""
        return self._members.get(name)

    def has(self, name: str) -> bool:
        """Whether it is there and not null."""
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        value: str = self._typed(name, str, "")
        return value

    def flag(self, name: str) -> bool:
        value: bool = self._typed(name, bool, False)
        return value

    def number(self, name: str) -> int:
        value = self._members.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, value, "a whole number")
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidRequestError(f"{self._where}.{name} is too large")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; one text alone is a list of one, as docker takes it for commands."""
        value = self._members.get(name)
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, value, "a list of texts")
        return list(value)

    def pairs(self, name: str) -> dict[str, str]:
        """An object whose values are texts."""
        value = self._members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(name, value, "an object of texts")
        return dict(value)

    def keys(self, name: str) -> list[str]:
        """The names in an object whose values say nothing (``{"80/tcp": {}}``)."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return list(value)

    def inner(self, name: str) -> Fields:
        """An object within."""
        return Fields(self._members.get(name), f"{self._where}.{name}")

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return [Fields(item, f"{self._where}.{name}[{place}]") for place, item in enumerate(value)]

    def _typed(self, name: str, kind: type[Any], absent: Any) -> Any:
        value = self._members.get(name)
        if value is None:
            return absent
        if not isinstance(value, kind):
            raise self._wrong(name, value, {str: "a text", bool: "true or false"}[kind])
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self._where}.{name} is {_kind(value)}, expected {wanted}")


def _kind(value: object) -> str:
    kinds = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "nothing")
