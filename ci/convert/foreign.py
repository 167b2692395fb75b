"""A file of another system as something to ask: texts, lists and maps, where each was written, within bounds.

Whoever asks for a key has dealt with it. ``leftovers`` lists all keys that nobody asked for, so nothing is passed over
in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ci.convert.remarks import Remarks
from ci.document import ForeignFile, MappingNode, Node, Scalar, SequenceNode, read_foreign_file
from ci.errors import PipelineFileError
from core.cancellation import check
from dockerfile_grammar.source import Position, Span

MAX_TEXT: Final = 4 << 20
"""Characters of a file that are read, with those of an anchor counted wherever an alias stands for them."""


class Foreign:
    """One file that is converted. Of one thread."""

    def __init__(self, data: bytes, filename: str) -> None:
        """Raises PipelineFileError."""
        self._file: ForeignFile = read_foreign_file(data, filename)
        self.remarks = Remarks(self._file.problems.source)
        self._characters = 0

    @property
    def roots(self) -> tuple[Node, ...]:
        return self._file.roots

    def refuse(self, span: Span | None, message: str, hint: str | None = None) -> PipelineFileError:
        """To be raised: nothing can be made of the file."""
        self._file.problems.error(span, message, hint=hint)
        return PipelineFileError(self._file.problems)

    def remark(self, span: Span, message: str, hint: str | None = None) -> None:
        """Say what is not converted, or is not what it was."""
        self.remarks.add(span, message, hint=hint)

    def tag(self, node: Node) -> str:
        """``!reference``; empty: none."""
        return self._file.tags.get(node.span.start, "")

    def text(self, node: Node | None, what: str) -> str | None:
        """A text as it is written. None: nothing is there, or something else, which is listed."""
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self.remark(node.span, f"{what} is no text here, and is not converted")
            return None
        if node.is_null:
            return None
        return self.counted(node)

    def counted(self, node: Scalar) -> str:
        """The text of a scalar. Raises PipelineFileError when so much was read that aliases must have multiplied it."""
        check()
        self._characters += len(node.text) + 1
        if self._characters > MAX_TEXT:
            raise self.refuse(node.span, f"aliases make more than {MAX_TEXT} characters of this file")
        return node.text

    def texts(self, node: Node | None, what: str) -> list[tuple[str, Span]]:
        """The texts of a list, or the one that stands alone; lists in it are taken for their items."""
        if node is None:
            return []
        if isinstance(node, SequenceNode):
            return [found for item in node.items for found in self.texts(item, what)]
        text = self.text(node, what)
        return [] if text is None else [(text, node.span)]

    def words(self, node: Node | None, what: str) -> list[str]:
        return [text for text, _ in self.texts(node, what)]

    def table(self, node: Node | None, what: str) -> Table:
        """A map; an empty one when there is none, or something else, which is listed."""
        if isinstance(node, MappingNode):
            return Table(self, node, what)
        if node is not None and not (isinstance(node, Scalar) and node.is_null):
            self.remark(node.span, f"{what} is no map here, and is not converted")
        place = Position(1, 1)
        span = node.span if node is not None else Span(place, place)
        return Table(self, MappingNode((), span), what)

    def truth(self, node: Node | None, what: str, *, default: bool = False) -> bool:
        """``true`` or ``false``; anything else is listed, and counts as the default."""
        text = self.text(node, what)
        if text is None:
            return default
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        assert node is not None
        self.remark(node.span, f"{what}: expected true or false, and this is not known before a run")
        return default


class Table:
    """A map. Keys are asked for once or more; the others are left."""

    def __init__(self, foreign: Foreign, node: MappingNode, what: str) -> None:
        self.foreign = foreign
        self.node = node
        self.what = what
        self._asked: set[str] = set()

    @property
    def span(self) -> Span:
        """Of the first key, or of the map."""
        return self.node.entries[0][0].span if self.node.entries else self.node.span

    def __contains__(self, key: str) -> bool:
        return self.node.get(key) is not None

    def __bool__(self) -> bool:
        return bool(self.node.entries)

    def get(self, key: str) -> Node | None:
        self._asked.add(key)
        return self.node.get(key)

    def place(self, key: str) -> Span:
        """Where a key stands, or the map that has it not."""
        return next((name.span for name, _ in self.node.entries if name.text == key), self.span)

    def text(self, key: str) -> str | None:
        return self.foreign.text(self.get(key), f"`{key}` of {self.what}")

    def texts(self, key: str) -> list[tuple[str, Span]]:
        return self.foreign.texts(self.get(key), f"`{key}` of {self.what}")

    def table(self, key: str) -> Table:
        return self.foreign.table(self.get(key), f"`{key}` of {self.what}")

    def truth(self, key: str, *, default: bool = False) -> bool:
        return self.foreign.truth(self.get(key), f"`{key}` of {self.what}", default=default)

    def entries(self) -> Iterator[tuple[Scalar, Node]]:
        """All of it; each counts as asked for."""
        for name, value in self.node.entries:
            self._asked.add(name.text)
            yield name, value

    def ignore(self, *keys: str) -> None:
        """Keys that mean nothing here, and whose absence changes nothing."""
        self._asked.update(keys)

    def remark(self, key: str, message: str, hint: str | None = None) -> None:
        """Deal with a key by listing it, if it is there."""
        self._asked.add(key)
        if key in self:
            self.foreign.remark(self.place(key), message, hint)

    def leftovers(self) -> None:
        """List what nobody asked for."""
        for name, _ in self.node.entries:
            if name.text not in self._asked:
                self.foreign.remark(name.span, f"`{name.text[:60]}` of {self.what} is not converted")
