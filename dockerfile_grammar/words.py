"""Which words of an instruction hold variables.

Source: moby/buildkit, frontend/dockerfile/instructions/commands.go (the Expand methods). RUN's mounts are expanded
elsewhere, field by field (``mounts.parse_mount``); contents of here-documents of COPY and ADD as bodies.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockerfile_grammar import ast


def expandable_words(instruction: ast.Instruction) -> Iterator[ast.Word]:
    """The words that are expanded before the instruction takes effect, in the order of expansion; ONBUILD has none."""
    match instruction:
        case ast.From():
            yield from _given(instruction.base, instruction.platform)
        case ast.Copy():
            yield from _given(instruction.chown, instruction.chmod, *instruction.sources, instruction.destination)
        case ast.Add():
            yield from _given(instruction.chown, instruction.chmod, instruction.checksum)
            yield from (*instruction.sources, instruction.destination)
        case ast.Env() | ast.Label():
            for assignment in instruction.assignments:
                yield from (assignment.name, assignment.value)
        case ast.Arg():
            for declaration in instruction.declarations:
                yield from _given(declaration.name, declaration.default)
        case ast.Expose():
            yield from instruction.ports
        case ast.Volume():
            yield from instruction.paths
        case ast.User():
            yield instruction.user
        case ast.Workdir():
            yield instruction.path
        case ast.StopSignal():
            yield instruction.signal
        case _:
            return


def _given(*words: ast.Word | None) -> Iterator[ast.Word]:
    return (word for word in words if word is not None)
