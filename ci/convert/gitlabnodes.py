"""GitLab's ways to write something once: `extends`, `default`, `!reference`, put in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ci.convert.foreign import Foreign
from ci.document import MappingNode, Node, Scalar, SequenceNode

GLOBAL: Final = frozenset(
    {"stages", "variables", "workflow", "default", "include", "image", "services", "cache", "before_script"}
    | {"after_script", "spec", "types"}
)
"""Keys of a file that are no jobs."""

_MOST_ENTRIES: Final = 200_000
_MOST_DEEP: Final = 11
"""So many `extends` one after the other, as GitLab has it."""


class Templates:
    """The jobs of a file, and what they are made of."""

    def __init__(self, foreign: Foreign, root: MappingNode) -> None:
        self.foreign = foreign
        self.root = root
        self.nodes: Mapping[str, MappingNode] = {
            key.text: value for key, value in root.entries if isinstance(value, MappingNode) and key.text not in GLOBAL
        }
        self._entries = 0

    def whole(self, name: str) -> MappingNode:
        """A job's map, with what it extends in it."""
        return self._extended(self.nodes[name], (name,))

    def _extended(self, node: MappingNode, path: tuple[str, ...]) -> MappingNode:
        parents = node.get("extends")
        if parents is None:
            return node
        merged: MappingNode | None = None
        for text, span in self.foreign.texts(parents, "`extends`"):
            parent = self.nodes.get(text)
            if parent is None or text in path or len(path) > _MOST_DEEP:
                raise self.foreign.refuse(
                    span, f"`extends` leads to {text[:60]}, which is not in this file, or to itself"
                )
            found = self._extended(parent, (*path, text))
            merged = found if merged is None else self._merged(merged, found)
        own = MappingNode(tuple(entry for entry in node.entries if entry[0].text != "extends"), node.span)
        return own if merged is None else self._merged(merged, own)

    def _merged(self, below: MappingNode, above: MappingNode) -> MappingNode:
        """Maps are joined key by key; of anything else the one above counts."""
        self._entries += len(below.entries) + len(above.entries)
        if self._entries > _MOST_ENTRIES:
            raise self.foreign.refuse(above.span, "`extends` makes too much of this file")
        over = {key.text: (key, value) for key, value in above.entries}
        entries: list[tuple[Scalar, Node]] = []
        for key, value in below.entries:
            if key.text not in over:
                entries.append((key, value))
                continue
            own_key, own = over.pop(key.text)
            if isinstance(value, MappingNode) and isinstance(own, MappingNode):
                own = self._merged(value, own)
            entries.append((own_key, own))
        return MappingNode((*entries, *over.values()), above.span)

    def lines(self, node: Node | None, what: str, depth: int = 0) -> list[tuple[str, Scalar]]:
        """The commands of a script, with those that `!reference` stands for."""
        if node is None:
            return []
        if self.foreign.tag(node) == "!reference":
            return self._referenced(node, what, depth)
        if isinstance(node, SequenceNode):
            return [line for item in node.items for line in self.lines(item, what, depth)]
        if not isinstance(node, Scalar):
            self.foreign.remark(node.span, f"{what} has something that is no command")
            return []
        return [] if node.is_null else [(self.foreign.counted(node), node)]

    def _referenced(self, node: Node, what: str, depth: int) -> list[tuple[str, Scalar]]:
        place: Node | None = self.root
        words = self.foreign.words(node, "`!reference`")
        for word in words:
            place = place.get(word) if isinstance(place, MappingNode) else None
        if place is None or depth > _MOST_DEEP or not words:
            raise self.foreign.refuse(node.span, f"`!reference` leads nowhere: {' '.join(words)[:60]}")
        return self.lines(place, what, depth + 1)
