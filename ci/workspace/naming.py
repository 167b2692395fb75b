"""What the entries of ``outputs`` name: for each destination the patterns, and which entries have to find a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ci import patterns
from ci.language.names import inside_fault
from ci.model import Output
from ci.workspace.errors import OutputsError
from dockerfile_grammar import IgnorePatterns
from dockerfile_grammar.ignore import clean_path


class Wanted(NamedTuple):
    """An entry for which a file has to be there.

    text: as it was written.
    pattern: itself alone.
    """

    text: str
    pattern: IgnorePatterns


class Group(NamedTuple):
    """Files that later jobs find in one place. Of several entries that fit a file, the last decides its group.

    into: the directory; None: they stay where the job wrote them.
    base: the directory below which they keep their paths within ``into``.
    """

    patterns: IgnorePatterns
    into: bytes | None = None
    base: bytes = b""

    def place(self, path: bytes) -> bytes:
        """Where later jobs find what the job wrote at ``path``."""
        if self.into is None:
            return path
        below = path[len(self.base) + 1 :] if self.base else path
        return self.into + b"/" + below if below else self.into


def keep_times(outputs: Sequence[Output]) -> dict[str, float]:
    """How long each output for people is kept, in seconds, by its name. Of several entries the longest counts."""
    found: dict[str, float] = {}
    for output in outputs:
        if output.name:
            found[str(output.name)] = max(output.keep_s, found.get(str(output.name), 0.0))
    return found


def is_marked(entries: Sequence[Output]) -> bool:
    """Whether a mark at the commit opens what these entries of one name are."""
    return any(output.preview for output in entries)


def wanted(outputs: Sequence[Output]) -> list[Wanted]:
    """The entries for which a file has to be there."""
    return [
        Wanted(output.path, IgnorePatterns.of([output.path]))
        for output in outputs
        if not patterns.excludes(output.path) and not output.optional
    ]


def ways(outputs: Sequence[Output]) -> list[tuple[str, str]]:
    """Of each entry its text, and the directory that it leads through for certain, where there is one."""
    found = []
    for output in outputs:
        start = patterns.literal_start(output.path)
        way = start.rpartition("/")[0] if patterns.is_literal(output.path) else start
        if way and not patterns.excludes(output.path):
            found.append((output.path, way))
    return found


def groups(outputs: Sequence[Output], is_directory: Callable[[str], bool]) -> list[Group]:
    """The groups. is_directory: of a path, whether the job left a directory there.

    An entry ``dist`` with ``into`` puts the contents of the directory ``dist`` there, or the file of that name.
    """
    made: list[Group] = []
    staying = [text for output in outputs for text in _as_of(output, is_member=not output.into)]
    if outputs and patterns.excludes(outputs[0].path):
        staying.insert(0, "**")  # a list that begins so means everything else
    if not all(map(patterns.excludes, staying)):
        made.append(Group(IgnorePatterns.of(staying)))
    for number, output in enumerate(outputs):
        if patterns.excludes(output.path) or not output.into:
            continue
        fault = inside_fault(output.into)
        if fault is not None:
            raise OutputsError(f"the output {output.path} cannot go into {output.into}: {fault}")
        texts = [text for at, other in enumerate(outputs) for text in _as_of(other, is_member=at == number)]
        base = patterns.literal_start(output.path)
        if patterns.is_literal(output.path) and not is_directory(base):
            base = base.rpartition("/")[0]
        made.append(Group(IgnorePatterns.of(texts), os.fsencode(clean_path(output.into)), os.fsencode(base)))
    return made


def _as_of(output: Output, *, is_member: bool) -> list[str]:
    """An entry's patterns in the list of a group: they exclude where the files go elsewhere.

    ``!dist`` alone would not count for what is below, if no pattern before it meant the directory.
    """
    text = output.path.strip()
    return [text] if is_member or patterns.excludes(text) else [f"!{text}", f"!{text.rstrip('/')}/**"]
