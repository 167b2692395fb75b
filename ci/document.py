"""From the bytes of a pipeline file to nodes that know where they stand, within bounds that hold for any bytes.

YAML is read from libyaml's events: PyYAML's composer ends the process at some ten thousand brackets, and resolves
values, which here stay as they are written. What YAML has and a pipeline has no use for is refused: tags, keys that
are no text, a second document. Anchors, aliases and ``<<`` are there; what they stand for counts wherever they stand.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from ci.errors import PipelineFileError
from ci.problems import Problems
from ci.yamlwords import in_words
from core.cancellation import check
from dockerfile_grammar.source import Position, Source, Span

MAX_BYTES: Final = 512 << 10
"""Of one file."""

MAX_NODES: Final = 100_000
"""Scalars, lists and maps of one file, with those of an anchor counted wherever an alias stands for them."""

MAX_DEPTH: Final = 50
"""Lists and maps in one another. libyaml takes time that grows with the square of it."""

_LINE_END: Final = re.compile("\r\n|\r")
_LINES: Final = re.compile("[\n\x85\u2028\u2029]")
"""Where libyaml, which reads YAML 1.1, begins a new line."""

_NOT_YAML: Final = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_MERGE: Final = "<<"
_OTHER_ENCODINGS: Final = ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


class Scalar(NamedTuple):
    """A text, as it is written.

    plain: without quotes, and no block of lines either.
    is_settled: its ``${NAME}`` have been replaced; what looks like one now, came out of a value.
    """

    text: str
    span: Span
    plain: bool
    is_settled: bool = False

    @property
    def is_null(self) -> bool:
        """Whether YAML calls it no value: nothing is written, or one of the words for it."""
        return self.plain and self.text in {"", "~", "null", "Null", "NULL"}


class SequenceNode(NamedTuple):
    """A list."""

    items: tuple[Node, ...]
    span: Span


class MappingNode(NamedTuple):
    """A map, in the order of its keys; those that ``<<`` brought come last."""

    entries: tuple[tuple[Scalar, Node], ...]
    span: Span

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.entries if name.text == key), None)


Node: TypeAlias = Scalar | SequenceNode | MappingNode


def read_document(data: bytes, filename: str) -> tuple[Node | None, Problems]:
    """The nodes of a file, None when there is nothing in it, and what is wrong so far: keys that are there twice.

    Raises PipelineFileError when it is no YAML, or exceeds a bound.
    """
    text, problems = _decoded(data, filename)
    reading = _Reading(problems)
    _take_all(text, reading)
    return reading.root, problems


def _take_all(text: str, reading: _Reading) -> None:
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            check()
            reading.take(event)
    except yaml.MarkedYAMLError as error:
        words = in_words(error, text)
        reading.fail(_span_at(reading.source, words.line, words.column), words.message, words.hint)


class ForeignFile(NamedTuple):
    """What is in a file of another system, which may have several documents, and tags.

    roots: of the documents that are not empty.
    tags: what a tag says of the value that begins at a place.
    problems: empty; whoever reads on adds to it.
    """

    roots: tuple[Node, ...]
    tags: Mapping[Position, str]
    problems: Problems


def read_foreign_file(data: bytes, filename: str) -> ForeignFile:
    """The documents of a file that is no pipeline of ours, within the same bounds.

    Raises PipelineFileError when it is no YAML, exceeds a bound, or has a key twice.
    """
    text, problems = _decoded(data, filename)
    reading = _ForeignReading(problems)
    _take_all(text, reading)
    if problems.has_errors:
        raise PipelineFileError(problems)
    return ForeignFile(tuple(reading.roots), reading.tags, problems)


def _decoded(data: bytes, filename: str) -> tuple[str, Problems]:
    nothing = Problems(Source(filename, ()))
    if len(data) > MAX_BYTES:
        nothing.error(None, f"the file has more than {MAX_BYTES} bytes; larger ones are not read")
        raise PipelineFileError(nothing)
    for mark, name in _OTHER_ENCODINGS:
        if data.startswith(mark):
            nothing.error(None, f"the file is in {name}", hint="save it as UTF-8")
            raise PipelineFileError(nothing)
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        before = _LINE_END.sub("\n", data[: error.start].removeprefix(codecs.BOM_UTF8).decode())
        problems = Problems(_source(filename, before))
        line = before.count("\n") + 1
        place = Position(line, len(before) - (before.rfind("\n") + 1) + 1)
        problems.error(Span(place, place), f"byte {data[error.start]:#04x} is no UTF-8", hint="save the file as UTF-8")
        raise PipelineFileError(problems) from None
    text = _LINE_END.sub("\n", text)
    problems = Problems(_source(filename, text))
    wrong = _NOT_YAML.search(text)
    if wrong is not None:
        problems.error(_span_of(text, wrong.start()), f"character U+{ord(wrong[0]):04X} cannot stand in a YAML file")
        raise PipelineFileError(problems)
    return text, problems


def _source(filename: str, text: str) -> Source:
    return Source(filename, tuple(_LINES.split(text)))


def _span_of(text: str, offset: int) -> Span:
    before = _LINES.split(text[:offset])
    return Span(Position(len(before), len(before[-1]) + 1), Position(len(before), len(before[-1]) + 2))


def _span_at(source: Source, line: int, column: int) -> Span:
    """The character at a place that counts from 0, or the end of the last line."""
    if line >= len(source.lines):
        line = max(len(source.lines) - 1, 0)
        column = len(source.lines[line]) if source.lines else 0
    return Span(Position(line + 1, column + 1), Position(line + 1, column + 2))


class _Open:
    """A list or map whose end has not come yet. key: of the map's entry that waits for its value."""

    def __init__(self, start: Position, anchor: str | None, *, is_map: bool) -> None:
        self.start = start
        self.anchor = anchor
        self.is_map = is_map
        self.items: list[Node] = []
        self.entries: list[tuple[Scalar, Node]] = []
        self.merged: list[Node] = []
        self.key: Scalar | None = None
        self.first: dict[str, Span] = {}
        self.nodes = 1
        self.depth = 1


class _Whole(NamedTuple):
    """A node that has ended. nodes: it, and all within it. depth: of lists and maps in one another; 0 of a scalar."""

    node: Node
    nodes: int
    depth: int


class _Reading:
    """Puts nodes together from events. It recurses nowhere: what comes may be as deep as it likes."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node | None = None
        self._problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, _Whole] = {}
        self._documents = 0
        self._nodes = 0

    @property
    def source(self) -> Source:
        return self._problems.source

    def fail(self, span: Span | None, message: str, hint: str | None) -> None:
        """Raise what is wrong so far, with this at its end."""
        self._problems.error(span, message, hint=hint)
        raise PipelineFileError(self._problems)

    def take(self, event: Any) -> None:
        """One event of ``yaml.parse``."""
        if isinstance(event, yaml.ScalarEvent):
            self._tag(event)
            plain = event.style is None or event.style == ""
            self._add(_Whole(Scalar(self._text(event), _span(event), plain), 1, 0), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._tag(event)
            self._begin(event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._end(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._document(event)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self.fail(_span(event), "a second document begins here", "a pipeline file is one document")

    def _text(self, event: Any) -> str:
        """What was taken for a tag is most likely the text, and is no second mistake as an empty one."""
        return event.value if event.tag is None else f"{_shown_tag(event.tag)} {event.value}".strip()

    def _tag(self, event: Any) -> None:
        if event.tag is None:
            return
        self._problems.error(
            _span(event),
            f"{_shown_tag(event.tag)} is a tag in YAML, and pipelines have none",
            hint="a text that begins with ! is written in quotes",
        )

    def _alias(self, event: Any) -> None:
        name, span = event.anchor, _span(event)
        if any(container.anchor == name for container in self._open):
            self.fail(span, f"*{name} stands within what it is to stand for", None)
        found = self._anchors.get(name)
        if found is None:
            hint = "a text that begins with * is written in quotes"
            self._problems.error(span, f"*{name} is an alias in YAML, and there is no &{name} before it", hint=hint)
            found = _Whole(Scalar(f"*{name}", span, plain=True), 1, 0)
        self._add(found, None)

    def _begin(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            self.fail(_span(event), _TOO_DEEP, None)
        container = _Open(_start(event), event.anchor, is_map=isinstance(event, yaml.MappingStartEvent))
        if self._is_key():
            self.fail(_span(event), "a key is a text, and no list or map", _TEMPLATE_HINT)
        self._open.append(container)

    def _is_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_map and self._open[-1].key is None

    def _end(self, event: Any) -> None:
        ended = self._open.pop()
        span = Span(ended.start, Position(event.end_mark.line + 1, event.end_mark.column + 1))
        node: Node
        if ended.is_map:
            node = MappingNode(tuple(self._with_merged(ended)), span)
        else:
            node = SequenceNode(tuple(ended.items), span)
        self._nodes -= ended.nodes - 1  # what is within it was counted when it came, and is counted again with it
        self._add(_Whole(node, ended.nodes, ended.depth), ended.anchor)

    def _add(self, whole: _Whole, anchor: str | None) -> None:
        """Put a node where it belongs: into what is open, or at the root."""
        node = whole.node
        self._nodes += whole.nodes
        if self._nodes > MAX_NODES:
            self.fail(node.span, f"more than {MAX_NODES} values, those of aliases counted wherever they stand", None)
        if len(self._open) + whole.depth > MAX_DEPTH:
            self.fail(node.span, _TOO_DEEP, None)
        if anchor is not None:
            self._anchors[anchor] = whole
        if not self._open:
            self.root = None if isinstance(node, Scalar) and node.is_null else node
            return
        container = self._open[-1]
        container.nodes += whole.nodes
        container.depth = max(container.depth, whole.depth + 1)
        if not container.is_map:
            container.items.append(node)
        elif container.key is None:
            self._key(container, node)
        else:
            key, container.key = container.key, None
            if key.text == _MERGE and key.plain:
                container.merged.append(node)
            elif container.first[key.text] is key.span:
                container.entries.append((key, node))

    def _key(self, container: _Open, node: Node) -> None:
        if not isinstance(node, Scalar):
            self.fail(node.span, "a key is a text, and no list or map", None)
            return
        container.key = node
        before = container.first.setdefault(node.text, node.span)
        if before is not node.span and node.text != _MERGE:
            self._problems.error(node.span, f"{node.text!r} is there twice", hint=f"first in line {before.start.line}")

    def _with_merged(self, ended: _Open) -> Iterator[tuple[Scalar, Node]]:
        """A map's own entries, then those of ``<<`` that it has not itself; of several the first one counts."""
        yield from ended.entries
        known = set(ended.first)
        for node in _spread(ended.merged):
            if not isinstance(node, MappingNode):
                self._problems.error(node.span, "<< takes a map, or a list of maps")
                continue
            for key, value in node.entries:
                if key.text not in known:
                    known.add(key.text)
                    yield key, value


class _ForeignReading(_Reading):
    """The same for a file that may have several documents, and tags, which it remembers."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(problems)
        self.roots: list[Node] = []
        self.tags: dict[Position, str] = {}

    def take(self, event: Any) -> None:
        super().take(event)
        if isinstance(event, yaml.DocumentEndEvent) and self.root is not None:
            self.roots.append(self.root)
            self.root = None

    def _document(self, event: Any) -> None:
        del event  # there may be many
        self._anchors.clear()

    def _tag(self, event: Any) -> None:
        if event.tag is not None:
            self.tags[_start(event)] = _shown_tag(event.tag)

    def _text(self, event: Any) -> str:
        return str(event.value)


_TOO_DEEP: Final = f"lists and maps are nested more than {MAX_DEPTH} deep"
_TEMPLATE_HINT: Final = "a value that begins with ${…} or {{…}} is written in quotes"


def _spread(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, SequenceNode):
            yield from node.items
        else:
            yield node


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def _start(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _span(event: Any) -> Span:
    return Span(_start(event), Position(event.end_mark.line + 1, event.end_mark.column + 1))
