"""The shapes that values of a pipeline file can have: each reads a node, and says its own part of the JSON Schema.

A shape is declared once, in this street. What lint refuses, what editors underline and what the documentation's
tables say are made from that one declaration, so that they cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from ci.document import MappingNode, Node, Scalar, SequenceNode
from ci.problems import Problems
from ci.substitution import is_open as names_something
from core.suggestions import suggestion
from dockerfile_grammar.source import Span

T = TypeVar("T")
R = TypeVar("R")

Schema = dict[str, Any]


class Text(str):
    """A text of the file that knows where it stands.

    is_template: whether there is a ``${NAME}`` in it that is still to be replaced.
    """

    __slots__ = ("is_template", "span")
    is_template: bool
    span: Span

    @classmethod
    def of(cls, node: Scalar) -> Text:
        made = cls(node.text)
        made.span = node.span
        made.is_template = is_open(node)
        return made


def is_open(node: Scalar) -> bool:
    """Whether a value has a ``${NAME}`` that is still to be replaced."""
    return not node.is_settled and names_something(node.text)


class Unreadable(Exception):
    """A value does not have its shape. What is wrong with it is among the problems, unless it is decided later.

    found: the parts of a list, or by field those of one of our maps, that could be read; None: of others nothing is.
    """

    def __init__(self, found: Any = None) -> None:
        super().__init__()
        self.found = found


class Reading(NamedTuple):
    """One reading of nodes.

    problems: where what is wrong goes.
    is_template: a text with ``${…}`` in it may become anything, and is looked at again once it was replaced.
    """

    problems: Problems
    is_template: bool = True

    def refuse(self, span: Span, message: str, *, hint: str | None = None) -> Unreadable:
        """Note what is wrong; the caller raises what is returned."""
        self.problems.error(span, message, hint=hint)
        return Unreadable()


class Shape(Generic[T]):
    """What a value may look like. ``what`` names it in messages: "expected WHAT"."""

    what: str

    def read(self, node: Node, reading: Reading) -> T:
        """The value that a node stands for. Raises Unreadable, having said why."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """What a JSON Schema says of it."""
        raise NotImplementedError


def kind_of(node: Node) -> str:
    """What a node is, as messages call it."""
    if isinstance(node, MappingNode):
        return "a map"
    if isinstance(node, SequenceNode):
        return "a list"
    return "nothing" if node.is_null else f'"{_short(node.text)}"'


def _short(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first if first == text and len(text) <= 60 else f"{first[:60]}…"


def misplaced(node: Node, what: str, reading: Reading) -> Unreadable:
    """Refuse a node that is a list where a word is expected, and the like; the caller raises what is returned."""
    hint = None
    if isinstance(node, MappingNode) and len(node.entries) == 1 and " " in node.entries[0][0].text:
        hint = "a colon and a space make a map: write the whole text in quotes"
    return reading.refuse(node.span, f"expected {what}, and this is {kind_of(node)}", hint=hint)


def _check_count(node: Node, count: int, what: str, least: int, most: int, reading: Reading) -> None:
    """Raises Unreadable, having said why, for a list or map with too few or too many in it."""
    if not least <= count <= most:
        bound = f"at least {least}" if count < least else f"at most {most}"
        raise reading.refuse(node.span, f"{what} of {bound}, and this has {count}")


class ListOf(Shape[tuple[T, ...]], Generic[T]):
    """A list; with ``or_one``, a single value counts as a list of one.

    least, most: items.
    """

    def __init__(self, item: Shape[T], *, or_one: bool = False, least: int = 0, most: int = 1000) -> None:
        self.item = item
        self._or_one = or_one
        self._least, self._most = least, most
        self.what = f"{item.what}, or a list of such" if or_one else f"a list, each item {item.what}"

    def read(self, node: Node, reading: Reading) -> tuple[T, ...]:
        if not isinstance(node, SequenceNode):
            if not self._or_one or (isinstance(node, Scalar) and node.is_null):
                raise misplaced(node, self.what, reading)
            return (self.item.read(node, reading),)
        _check_count(node, len(node.items), "a list", self._least, self._most, reading)
        found = []
        for item in node.items:
            try:
                found.append(self.item.read(item, reading))
            except Unreadable:
                continue
        if len(found) < len(node.items):
            raise Unreadable(tuple(found))
        return tuple(found)

    def schema(self) -> Schema:
        items = {"type": "array", "items": self.item.schema(), "minItems": self._least, "maxItems": self._most}
        return {"anyOf": [self.item.schema(), items]} if self._or_one else items


class MapOf(Shape[Mapping[Text, T]], Generic[T]):
    """A map whose keys the file chooses."""

    def __init__(self, key: Shape[Text], value: Shape[T], *, least: int = 0, most: int = 1000) -> None:
        self._key, self._value_shape = key, value
        self._least, self._most = least, most
        self.what = f"a map from {key.what} to {value.what}"

    def read(self, node: Node, reading: Reading) -> Mapping[Text, T]:
        if isinstance(node, Scalar) and node.is_null and not self._least:
            return {}
        if not isinstance(node, MappingNode):
            raise misplaced(node, self.what, reading)
        _check_count(node, len(node.entries), "a map", self._least, self._most, reading)
        found, is_whole = {}, True
        for key, value in node.entries:
            try:
                found[self._key.read(key, reading._replace(is_template=False))] = self._value_shape.read(value, reading)
            except Unreadable:
                is_whole = False
        if not is_whole:
            raise Unreadable
        return found

    def schema(self) -> Schema:
        keys = {name: part for name, part in self._key.schema().items() if name == "pattern"}
        return {
            "type": "object", "propertyNames": keys, "additionalProperties": self._value_shape.schema(),
            "minProperties": self._least, "maxProperties": self._most,
        }  # fmt: skip


class Either(Shape[Any]):
    """One shape for a word, another for a list, another for a map: which one, the node says."""

    def __init__(
        self,
        *,
        scalar: Shape[Any] | None = None,
        sequence: Shape[Any] | None = None,
        mapping: Shape[Any] | None = None,
        what: str = "",
    ) -> None:
        self._scalar, self._sequence, self._mapping = scalar, sequence, mapping
        self._all = [shape for shape in (scalar, sequence, mapping) if shape is not None]
        self.what = what or ", or ".join(shape.what for shape in self._all)

    def read(self, node: Node, reading: Reading) -> Any:
        shape = self._scalar
        if isinstance(node, MappingNode):
            shape = self._mapping
        elif isinstance(node, SequenceNode):
            shape = self._sequence
        if shape is None:
            raise misplaced(node, self.what, reading)
        return shape.read(node, reading)

    def schema(self) -> Schema:
        return {"anyOf": [shape.schema() for shape in self._all]}


class Made(Shape[R], Generic[T, R]):
    """A shape whose value is made of another's. make: raises nothing; what it returns has the value's type."""

    def __init__(self, shape: Shape[T], make: Callable[[T], R]) -> None:
        self._shape, self._make = shape, make
        self.what = shape.what

    def read(self, node: Node, reading: Reading) -> R:
        return self._make(self._shape.read(node, reading))

    def schema(self) -> Schema:
        return self._shape.schema()


class Deferred(Shape[Node]):
    """A value that is read later: it stays a node. shape: what it has to look like then."""

    def __init__(self, shape: Shape[Any]) -> None:
        self._shape = shape
        self.what = shape.what

    def read(self, node: Node, reading: Reading) -> Node:  # noqa: ARG002 - as every shape
        return node

    def schema(self) -> Schema:
        return self._shape.schema()


class Key(NamedTuple):
    """A key of a map that has its keys from us.

    shape: what its value may look like.
    about: what it means, for the schema and the documentation's tables.
    field: the member of the type; empty: called as the key.
    is_required: whether it has to be there.
    """

    shape: Shape[Any]
    about: str
    field: str = ""
    is_required: bool = False


_MOST_NAMED: Final = 12
"""Keys that a message lists."""


class Fields(Shape[R]):
    """A map whose keys are ours: it becomes an object of ``kind``, a msgspec struct with its defaults.

    noun: what messages call the map: "no such key of NOUN".
    others: keys that begin so are the file's own business.
    """

    def __init__(self, noun: str, kind: Callable[..., R], keys: Mapping[str, Key], *, others: str = "") -> None:
        self.what = f"a map with {', '.join(keys)}" if 0 < len(keys) <= _MOST_NAMED else "a map"
        self.noun = noun
        self.keys = keys
        self._kind = kind
        self._others = others

    def read(self, node: Node, reading: Reading) -> R:
        if isinstance(node, Scalar) and node.is_null and not any(key.is_required for key in self.keys.values()):
            node = MappingNode((), node.span)
        if not isinstance(node, MappingNode):
            raise misplaced(node, f"{self.noun}: {self.what}", reading)
        values: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        is_whole = True
        for name, value in node.entries:
            if self._others and name.text.startswith(self._others):
                continue
            key = self._known(name, reading)
            if key is None:
                is_whole = False
                continue
            try:
                values[key.field or name.text] = key.shape.read(value, reading)
            except Unreadable as error:
                is_whole = is_whole and (reading.is_template and _may_be_open(value))
                if error.found is not None:
                    parts[key.field or name.text] = error.found
        present = {name.text for name, _ in node.entries}
        for name_of, key in self.keys.items():
            if key.is_required and name_of not in present:
                is_whole = False
                reading.problems.error(first_span(node), f"{self.noun} has no {name_of}")
        if not is_whole:
            raise Unreadable({**values, **parts})
        return self._kind(**values)

    def _known(self, name: Scalar, reading: Reading) -> Key | None:
        key = self.keys.get(name.text)
        if key is None:
            hint = suggestion(name.text, self.keys, form='"{}"')
            reading.problems.error(name.span, f'no key of {self.noun} is called "{_short(name.text)}"', hint=hint)
        return key

    def schema(self) -> Schema:
        properties = {name: {"description": key.about, **key.shape.schema()} for name, key in self.keys.items()}
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if self._others:
            schema["patternProperties"] = {f"^{re.escape(self._others)}": True}
        required = [name for name, key in self.keys.items() if key.is_required]
        if required:
            schema["required"] = required
        return schema


def _may_be_open(node: Node) -> bool:
    """Whether a value could not be read because it is decided only when ``${…}`` is replaced."""
    return isinstance(node, Scalar) and is_open(node)


def first_span(node: MappingNode) -> Span:
    """Where a map begins, as a place for what it lacks."""
    return node.entries[0][0].span if node.entries else node.span
