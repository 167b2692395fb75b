"""The details of a step: everything that its key is made of, so that a later build can tell what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from builder.copying.owners import UnknownName
from builder.graph.vertices import BaseOp, CopyOp, Op, RunOp, Vertex, WorkdirOp
from core.events import MissReason
from dockerfile_grammar.secrecy import names_a_secret

if TYPE_CHECKING:
    from builder.graph.copyspec import CopySpec

_COMMAND: Final = "command"
_SHELL: Final = "shell"
_HIDDEN: Final = "hidden, sha256 "
_SHOWN_DIGITS: Final = 8


class StepDetail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step of a build that has been done.

    op: digest of the operation.
    text: the instruction as it is shown.
    members: the operation in words, keyed by the name of a change: ``env PATH``.
    below: chain ID of the filesystem that the step was applied to.
    base: the image at the bottom of that filesystem, name and ID.
    content: digest of the files that it read from elsewhere.
    keys: of its records in the cache.
    layer: the diff ID of what it left.
    unknown_names: names of owners that the image did not have.
    """

    op: str
    text: str
    members: dict[str, str]
    below: str
    base: tuple[str, str]
    content: str
    keys: tuple[str, ...]
    layer: str
    unknown_names: tuple[UnknownName, ...] = ()


def may_name_owner(op: Op) -> bool:
    """Whether an operation names an owner of files, to be looked up in the image."""
    if isinstance(op, CopyOp):
        return _has_name(op.spec.chown)
    return isinstance(op, WorkdirOp) and _has_name(op.user)


def _has_name(owner: str) -> bool:
    return any(part and not part.isdecimal() for part in owner.split(":", 1))


def instruction_text(vertex: Vertex) -> str:
    """``RUN make`` of ``[build 2/5] RUN make``."""
    return encodable(vertex.step.name.partition("] ")[2] or vertex.step.name)


def stage_label(vertex: Vertex) -> str:
    """The stage, with the platform where there are several: ``arm64 build`` of ``[arm64 build 2/5] RUN …``."""
    bracket = vertex.step.name.partition("]")[0].removeprefix("[")
    return encodable(f"{vertex.step.stage} {bracket.rpartition(' ')[0].rstrip()}")


def encodable(text: str) -> str:
    """The text with backslash escapes for what UTF-8 cannot encode, such as undecodable bytes of a file name."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def base_of(vertex: Vertex) -> tuple[str, str]:
    """The image at the bottom of the vertex' filesystem: its name as written, and its ID; empty for scratch."""
    bottom = vertex
    while bottom.input is not None:
        bottom = bottom.input
    if not isinstance(bottom.op, BaseOp):
        return "", ""
    return instruction_text(bottom).removeprefix("FROM "), bottom.op.image


def members_of(op: Op) -> dict[str, str]:
    """The operation, split into the parts that can change by themselves."""
    return {encodable(name): encodable(value) for name, value in _members(op).items()}


def facts_of(facts: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """What took part, other than the operation: ``secret NAME``, and a few digits that stand for its value."""
    return {encodable(" ".join(names)): value[:_SHOWN_DIGITS] for *names, value in facts}


def _members(op: Op) -> dict[str, str]:
    if isinstance(op, RunOp):
        return _run_members(op)
    if isinstance(op, CopyOp):
        several = len(op.parts) > 1
        members = {
            f"{name} ({number})" if several else name: value
            for number, part in enumerate(op.parts, 1)
            for name, value in _copy_members(part.spec)
        }
        return members | _epoch(op.timestamp)
    members = {name: value for name, value in msgspec.structs.asdict(op).items() if name != "timestamp"}
    return {name: str(value) for name, value in members.items()} | _epoch(getattr(op, "timestamp", None))


def _run_members(op: RunOp) -> dict[str, str]:
    members = {
        _SHELL: " ".join(op.args[:-1]),
        _COMMAND: op.args[-1] if op.args else "",
        "user": op.user,
        "working directory": op.cwd,
        "network": op.network,
        "security": "insecure" if op.insecure else "sandbox",
        "host name": op.hostname,
        "hosts": ", ".join(f"{host}:{address}" for host, address in op.extra_hosts),
    }
    for name, value in op.env:
        kind = "arg" if name in op.arg_names else "env"
        members[f"{kind} {name}"] = hidden(value) if names_a_secret(name) else value
    members.update((f"script {file.path}", file.content.decode(errors="replace")) for file in op.files)
    members.update((f"mount {number}", repr(mount.identity())) for number, mount in enumerate(op.mounts))
    return members


def _copy_members(spec: CopySpec) -> Iterable[tuple[str, str]]:
    for name, value in spec._asdict().items():
        if name == "heredocs":
            yield from ((f"heredoc {file}", body.decode(errors="replace")) for file, body in value)
        else:
            yield name, " ".join(value) if isinstance(value, tuple) else str(value)


def _epoch(timestamp: int | None) -> dict[str, str]:
    return {} if timestamp is None else {"SOURCE_DATE_EPOCH": str(timestamp)}


def hidden(value: str) -> str:
    """A stand-in for a value that must not be kept; it is enough to see that the value changed."""
    return _HIDDEN + hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:8]


def operation_changes(old: StepDetail, new: StepDetail) -> list[MissReason]:
    """The differences between two operations, that of the instruction first."""
    changes = member_changes(old.members, new.members)
    if old.text == new.text:
        return changes
    variables = [change for change in changes if change.kind in ("arg", "env")]
    return [MissReason("instruction", "", old.text, new.text)] * (len(changes) > len(variables)) + variables


def member_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[MissReason]:
    """The differences between the parts of two operations, those of variables last."""
    different = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    variables = [name for name in different if name.startswith(("arg ", "env "))]
    changes: list[MissReason] = []
    for name in different:
        if name not in variables:
            kind = "instruction" if name == _COMMAND else "option"
            changes.append(MissReason(kind, "" if kind == "instruction" else name, before.get(name), now.get(name)))
    return changes + _variable_changes(before, now, variables)


def _variable_changes(before: Mapping[str, str], now: Mapping[str, str], names: list[str]) -> list[MissReason]:
    """The changes of ARG and ENV. If one became the other, with the same value, only its kind has changed."""
    changes = []
    for name in names:
        kind, _, variable = name.partition(" ")
        other = f"{'env' if kind == 'arg' else 'arg'} {variable}"
        if name not in now and other in now:
            continue  # told under its new kind
        old = before.get(name, before.get(other))
        new = now.get(name)
        if (old or "").startswith(_HIDDEN) or (new or "").startswith(_HIDDEN):
            old, new = old and "(hidden)", new and "(hidden)"
        if old != new or old == "(hidden)":
            changes.append(MissReason(kind, variable, old, new))
    return changes
