"""A Dockerfile as plain data: what ``python -m dockerfile_grammar`` prints.

Arguments are those of BuildKit's parser (frontend/dockerfile/parser), with two choices of form: ENV, LABEL and ARG
are name, value, name, value, … (without BuildKit's separators; an ARG without default is its name alone); and ONBUILD,
whose argument is an instruction in BuildKit, has no arguments and a member ``onbuild``: the instruction in this form.
"""

from __future__ import annotations

from typing import Any

from dockerfile_grammar import ast


def dump(dockerfile: ast.Dockerfile) -> dict[str, Any]:
    """``{"instructions": […]}`` in the order of the file."""
    return {"instructions": [dump_instruction(instruction) for instruction in dockerfile.instructions]}


def dump_instruction(instruction: ast.Instruction) -> dict[str, Any]:
    """One instruction: its name in upper case, its flags as written but for quotes, its arguments, its lines."""
    arguments, json = _arguments(instruction)
    dumped: dict[str, Any] = {
        "instruction": instruction.NAME,
        "flags": [flag.text for flag in instruction.flags],
        "arguments": arguments,
        "json": json,
        "heredocs": [
            {"name": heredoc.name, "content": heredoc.content, "expand": heredoc.expand, "chomp": heredoc.chomp}
            for heredoc in instruction.heredocs
        ],
        "start_line": instruction.start_line,
        "end_line": instruction.end_line,
    }
    if isinstance(instruction, ast.Onbuild):
        dumped["onbuild"] = dump_instruction(instruction.instruction)
    return dumped


def _arguments(instruction: ast.Instruction) -> tuple[list[str], bool]:
    match instruction:
        case ast.Run() | ast.Cmd() | ast.Entrypoint():
            return _command(instruction.command)
        case ast.Shell():
            return list(instruction.argv), True
        case ast.Copy() | ast.Add():
            return [word.text for word in instruction.arguments], instruction.json
        case ast.Volume():
            return [word.text for word in instruction.paths], instruction.json
        case ast.Env() | ast.Label():
            return [word.text for pair in instruction.assignments for word in (pair.name, pair.value)], False
        case ast.Healthcheck(command=None):
            return [instruction.kind.text], False
        case ast.Healthcheck(command=command) if command is not None:
            arguments, json = _command(command)
            return [instruction.kind.text, *arguments], json
        case _:
            return _words(instruction), False


def _command(command: ast.Command) -> tuple[list[str], bool]:
    if isinstance(command, ast.ExecForm):
        return list(command.argv), True
    return [command.text] if command.text else [], False


def _words(instruction: ast.Instruction) -> list[str]:
    match instruction:
        case ast.From():
            words = [instruction.base, instruction.as_keyword, instruction.name]
        case ast.Arg():
            words = [word for item in instruction.declarations for word in (item.name, item.default)]
        case ast.Expose():
            words = list(instruction.ports)
        case ast.User():
            words = [instruction.user]
        case ast.Workdir():
            words = [instruction.path]
        case ast.StopSignal():
            words = [instruction.signal]
        case ast.Maintainer():
            words = [instruction.maintainer]
        case _:
            words = []
    return [word.text for word in words if word is not None]
