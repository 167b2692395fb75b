"""A job's node of the file, kept until the job starts: then all values of its ``${NAME}`` are there, and are put in.

A planned job goes to a worker as data, and its template goes with it. Each value is replaced once, by what is known
then: see docs/decisions/0022-pipeline-files-are-declared-once.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from ci.document import MappingNode, Node, Scalar, SequenceNode
from ci.errors import PipelineFileError
from ci.language import services
from ci.language.jobs import DECIDED_EARLY, JOB_SHAPE, NEVER_REPLACED, NEVER_REPLACED_IN_MAPS
from ci.language.shapes import Reading, Unreadable
from ci.model import Job
from ci.problems import Problems
from ci.substitution import Placeholder, references, replace
from dockerfile_grammar.source import Position, Source, Span

Value: TypeAlias = Callable[[Placeholder], str | None]
"""What a ``${NAME}`` stands for; None: it has no value yet."""


def replaced_in_job(node: MappingNode, value: Value) -> MappingNode:
    """A job's node with its values put in, where they are; a text that lacks one of its values stays whole."""
    untouched = NEVER_REPLACED | DECIDED_EARLY
    entries = tuple(
        (key, part if key.text in untouched else _replaced_value(key.text, part, value)) for key, part in node.entries
    )
    return MappingNode(entries, node.span)


def _replaced_value(key: str, node: Node, value: Value) -> Node:
    if key != "services" or not isinstance(node, MappingNode):
        return _replaced_but(NEVER_REPLACED_IN_MAPS.get(key), node, value)
    entries = ((name, _replaced_but(services.NEVER_REPLACED, part, value)) for name, part in node.entries)
    return MappingNode(tuple(entries), node.span)


def replaceable(key: str, node: Node) -> Node:
    """What of a key's value may have ``${NAME}`` in it; nothing of a key whose value never has."""
    kept = NEVER_REPLACED_IN_MAPS.get(key, frozenset())
    if key in NEVER_REPLACED:
        return MappingNode((), node.span)
    if key == "services" and isinstance(node, MappingNode):
        entries = ((name, _without(services.NEVER_REPLACED, part)) for name, part in node.entries)
        return MappingNode(tuple(entries), node.span)
    return _without(kept, node)


def _without(keys: frozenset[str], node: Node) -> Node:
    """A node without these keys, if it is a map."""
    if not keys or not isinstance(node, MappingNode):
        return node
    return MappingNode(tuple(entry for entry in node.entries if entry[0].text not in keys), node.span)


def _replaced_but(kept: frozenset[str] | None, node: Node, value: Value) -> Node:
    """The node with its names replaced. kept: of a map, the keys whose values stay as they are."""
    if not kept or not isinstance(node, MappingNode):
        return _replaced(node, value)
    entries = ((key, part if key.text in kept else _replaced(part, value)) for key, part in node.entries)
    return MappingNode(tuple(entries), node.span)


def _replaced(node: Node, value: Value) -> Node:
    if isinstance(node, Scalar):
        if "${" not in node.text:
            return node
        text = replace(node.text, value)
        return node if text == node.text else node._replace(text=text, plain=False, is_settled=True)
    if isinstance(node, SequenceNode):
        return SequenceNode(tuple(_replaced(item, value) for item in node.items), node.span)
    return MappingNode(tuple((key, _replaced(part, value)) for key, part in node.entries), node.span)


def scalars(node: Node, *, keys: bool = False) -> Iterator[Scalar]:
    """All values in a node. keys: the keys of maps as well. Its depth is bounded by the document's."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, SequenceNode):
        for item in node.items:
            yield from scalars(item, keys=keys)
    else:
        for key, value in node.entries:
            if keys:
                yield key
            yield from scalars(value, keys=keys)


class Template(Struct, frozen=True):
    """A job's node with its ``${NAME}``, the defaults in their places, and the lines of the file that it shows.

    filename: for messages.
    lines: by number, those in which its keys and values begin.
    """

    node: MappingNode
    filename: str
    lines: Mapping[int, str]

    @classmethod
    def of(cls, node: MappingNode, source: Source) -> Template:
        """The template of a job of a file."""
        numbers = {part.span.start.line for part in scalars(node, keys=True)}
        shown = {number: source.line(number) or "" for number in sorted(numbers)}
        return cls(node, source.filename, shown)

    def settled(self, known: Mapping[str, str], exports: Mapping[str, Mapping[str, str]]) -> Job:
        """The job with all of its values, each checked as its field is. Conditions and the matrix are left out: they
        were decided when the run was planned.

        known: facts and values of the matrix. exports: by job and name. Raises PipelineFileError, with the places.
        """
        node = MappingNode(
            tuple(entry for entry in self.node.entries if entry[0].text not in DECIDED_EARLY), self.node.span
        )
        problems = Problems(self._source())

        def value(reference: Placeholder) -> str | None:
            return (
                exports.get(reference.job, {}).get(reference.name) if reference.job else known.get(reference.name, "")
            )

        for key, part in node.entries:
            _check_known(replaceable(key.text, part), value, problems)
        if not problems.has_errors:
            try:
                job = JOB_SHAPE.read(replaced_in_job(node, value), Reading(problems, is_template=False))
            except Unreadable:
                pass
            else:
                if not problems.has_errors:
                    return job
        raise PipelineFileError(problems)

    def as_far_as_known(self, value: Value) -> Job:
        """The job as planning made it of the same values. Raises PipelineFileError."""
        problems = Problems(self._source())
        try:
            return JOB_SHAPE.read(replaced_in_job(self.node, value), Reading(problems))
        except Unreadable:
            raise PipelineFileError(problems) from None

    def _source(self) -> Source:
        last = max(self.lines, default=0)
        return Source(self.filename, tuple(self.lines.get(number, "") for number in range(1, last + 1)))

    def says(self, member: str) -> bool:
        """Whether the job has a member of this name."""
        return any(name.text == member for name, _ in self.node.entries)

    def to_data(self) -> dict[str, Any]:
        """It as plain values, for JSON."""
        return {"node": _to_data(self.node), "file": self.filename, "lines": list(self.lines.items())}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Template:
        """What ``to_data`` made."""
        node = _from_data(data["node"])
        assert isinstance(node, MappingNode)
        return cls(node, data["file"], {int(number): text for number, text in data["lines"]})


def _check_known(node: Node, value: Value, problems: Problems) -> None:
    for scalar in scalars(node):
        for reference in references(scalar.text):
            if value(reference) is None:
                shown = f"${{{reference.job}.{reference.name}}}"
                hint = f'"{reference.job}" has not written {reference.name} to $SHIPLAP_EXPORTS, or has failed'
                problems.error(scalar.span, f"{shown} has no value in this run", hint=hint)


_SCALAR: Final = 0
_SEQUENCE: Final = 1
_MAPPING: Final = 2


def _to_data(node: Node) -> list[Any]:
    place = [node.span.start.line, node.span.start.column, node.span.end.line, node.span.end.column]
    if isinstance(node, Scalar):
        return [_SCALAR, place, node.text, node.plain]
    if isinstance(node, SequenceNode):
        return [_SEQUENCE, place, [_to_data(item) for item in node.items]]
    return [_MAPPING, place, [[_to_data(key), _to_data(value)] for key, value in node.entries]]


def _from_data(data: Any) -> Node:
    kind, (line, column, end_line, end_column), content = data[:3]
    span = Span(Position(line, column), Position(end_line, end_column))
    if kind == _SCALAR:
        return Scalar(content, span, data[3])
    if kind == _SEQUENCE:
        return SequenceNode(tuple(_from_data(item) for item in content), span)
    return MappingNode(tuple((_key(key), _from_data(value)) for key, value in content), span)


def _key(data: Any) -> Scalar:
    key = _from_data(data)
    assert isinstance(key, Scalar)
    return key
