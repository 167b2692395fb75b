"""The values of RUN --mount and --device.

A mount's values may hold variables, so most of it can be checked only when RUN is about to run: ``parse_mount`` gets
the expansion as a function.  Source: moby/buildkit, frontend/dockerfile/instructions/commands_runmount.go.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from msgspec import Struct, field

from core.gobool import parse_bool
from core.suggestions import suggestion
from dockerfile_grammar import tables
from dockerfile_grammar.ast import Flag
from dockerfile_grammar.errors import MountError, shown
from dockerfile_grammar.source import Position, Source, Span

if TYPE_CHECKING:
    from lark import Lark, Token

MountType: TypeAlias = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing: TypeAlias = Literal["shared", "private", "locked"]

MOUNT_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")

_KEYS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
    **{
        key: key
        for key in ("type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id", "env")
    },
    **{key: key for key in ("sharing", "mode", "uid", "gid")},
}
_BARE_KEYS = frozenset({"readonly", "readwrite", "required"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = " kmgtp"
_VARIABLE = re.compile(r"\$.", re.DOTALL)


class Mount(Struct, frozen=True):
    """One --mount, variables expanded; nothing defaulted but ``readonly``. "" and None mean: not given.

    source: for secret and ssh, BuildKit's other name of ``id``.
    size_bytes: of a tmpfs, 0 without limit.
    env: the variable that a secret is put into.
    """

    type: MountType
    from_: str = ""
    source: str = ""
    target: str = ""
    readonly: bool = False
    required: bool = False
    id: str = ""
    env: str | None = None
    sharing: Sharing | None = None
    size_bytes: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class Device(Struct, frozen=True):
    """One --device."""

    name: str
    required: bool


class _Field(Struct, frozen=True):
    """``key=value`` or a bare key: text as written, its parts, and the place in the flag's value."""

    text: str
    key: str
    value: str | None
    span: Span


def parse_mount(flag: Flag, source: Source, expand: Callable[[str], str]) -> Mount:
    """The mount that a flag of RUN asks for. expand: expands one value. Raises MountError and what expand raises."""
    draft = _Draft(flag, source)
    for entry in _fields(flag, source):
        draft.apply(entry, expand)
    return draft.finish()


def check_unexpanded_mount(flag: Flag, source: Source) -> None:
    """Check what needs no variables: the fields' form, and that ``from`` has no variable."""
    for entry in _fields(flag, source):
        if entry.key == "from" and entry.value is not None and _VARIABLE.search(entry.value):
            raise MountError(
                "RUN --mount: 'from' doesn't support variable expansion",
                hint="FROM the image AS a stage, with the variable in FROM, and mount from that stage",
                source=source,
                span=entry.span,
            )


def parse_device(flag: Flag, source: Source) -> Device:
    """The device that a flag of RUN asks for. Raises MountError."""
    name, required = "", False
    for entry in _fields(flag, source):
        if entry.key == "required":
            required = entry.value is None or _boolean(entry, source)
        elif entry.key == "name" and entry.value is not None and not name:
            name = entry.value
        elif not name:
            name = entry.text
        else:
            hint = suggestion(entry.key, ("name", "required")) or "--device=vendor/class=name,required"
            raise MountError(
                f"RUN --device: unexpected field {shown(entry.text)!r}", hint=hint, source=source, span=entry.span
            )
    return Device(name, required)


class _Draft(Struct):
    """A mount being read, field by field; the type may change on the way, as in BuildKit."""

    flag: Flag
    source: Source
    values: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def type(self) -> MountType:
        return cast(MountType, self.values.get("type", "bind"))

    def apply(self, entry: _Field, expand: Callable[[str], str]) -> None:
        key = _KEYS.get(entry.key)
        if entry.value is None:
            if key not in _BARE_KEYS:
                hint = suggestion(entry.key, _KEYS) if key is None else f"write {entry.key}=…"
                raise self.error(f"invalid field {shown(entry.text)!r}, must be a key=value pair", entry.span, hint)
            value = "true"
        else:
            value = expand(entry.value)
        if key is None:
            hint = suggestion(entry.key, _KEYS)
            raise self.error(f"unexpected key {shown(entry.key)!r} in {shown(entry.text)!r}", entry.span, hint)
        self.spans[key] = entry.span
        self._set(key, value, entry)

    def _set(self, key: str, value: str, entry: _Field) -> None:
        if key == "type":
            self.values["type"] = self._choice(value, MOUNT_TYPES, "mount type", entry)
        elif key == "sharing":
            self.values["sharing"] = self._choice(value, SHARINGS, "sharing", entry)
        elif key in {"readonly", "readwrite"}:
            self.values["readonly"] = self._boolean(value, entry) == (key == "readonly")
        elif key == "required":
            self._only_for(("secret", "ssh"), entry)
            self.values["required"] = self._boolean(value, entry)
        elif key == "size":
            self._only_for(("tmpfs",), entry)
            self.values["size_bytes"] = self._size(value, entry)
        elif key in {"mode", "uid", "gid"}:
            self.values[key] = self._number(value, 8 if key == "mode" else 10, entry)
        else:
            self.values["from_" if key == "from" else key] = value

    def _only_for(self, types: tuple[str, ...], entry: _Field) -> None:
        if self.type not in types:
            hint = f"it is for type={' and type='.join(types)}; type= comes first"
            raise self.error(f"unexpected key {shown(entry.key)!r} for mount type {self.type!r}", entry.span, hint)

    def _choice(self, value: str, allowed: tuple[str, ...], what: str, entry: _Field) -> str:
        if value.lower() not in allowed:
            hint = suggestion(value, allowed) or f"it can be {', '.join(allowed)}"
            raise self.error(f"unsupported {what} {shown(value)!r}", entry.span, hint)
        return value.lower()

    def _boolean(self, value: str, entry: _Field) -> bool:
        said = parse_bool(value)
        if said is None:
            raise self.error(f"invalid value for {entry.key}: {shown(value)!r}", entry.span, "write true or false")
        return said

    def _number(self, value: str, base: int, entry: _Field) -> int:
        digits = "01234567" if base == 8 else "0123456789"
        if not value or value.strip(digits) or int(value, base) >= 2**32:
            kind = "an octal number: 0755" if base == 8 else "a number"
            raise self.error(f"invalid value for {entry.key}: {shown(value)!r}", entry.span, f"it is {kind}")
        return int(value, base)

    def _size(self, value: str, entry: _Field) -> int:
        match = _SIZE.fullmatch(value)
        if match is None:
            raise self.error(
                f"invalid value for size: {shown(value)!r}", entry.span, "a number of bytes, or 64k, 100m, 2g"
            )
        return int(float(match[1]) * 1024 ** _SIZE_UNITS.index(match[2].lower() or " "))

    def finish(self) -> Mount:
        given = self.values
        for key in ("mode", "uid", "gid"):
            if key in given and self.type not in {"secret", "ssh", "cache"}:
                raise self.error(f"{key} is not allowed for mount type {self.type!r}", self.spans[key])
        if "sharing" in given and self.type != "cache":
            raise self.error(f"sharing is not allowed for mount type {self.type!r}", self.spans["sharing"])
        if self.type == "secret":
            self._check_secret(given)
        given.setdefault("readonly", self.type not in {"cache", "tmpfs"})
        given["type"] = self.type
        return Mount(**given)

    def _check_secret(self, given: dict[str, Any]) -> None:
        if given.get("from_"):
            raise self.error("a secret mount has no from", self.spans["from"])
        if given.get("source") and given.get("id"):
            raise self.error("a secret mount has id or source, not both", self.spans["source"], "they mean the same")
        if not any(given.get(key) for key in ("source", "target", "id", "env")):
            raise self.error("a secret mount needs an id, a target or an env", self.flag.span, "type=secret,id=NAME")

    def error(self, reason: str, span: Span, hint: str | None = None) -> MountError:
        return MountError(f"RUN --mount: {reason}", hint=hint, source=self.source, span=span)


def _boolean(entry: _Field, source: Source) -> bool:
    said = parse_bool(entry.value or "")
    if said is None:
        raise MountError(
            f"RUN --device: invalid value for {entry.key}: {shown(entry.value)!r}",
            hint="write true or false",
            source=source,
            span=entry.span,
        )
    return said


def _fields(flag: Flag, source: Source) -> Iterator[_Field]:
    """The fields of the flag's value, by mount.lark."""
    from lark.exceptions import UnexpectedInput

    value = flag.value or ""
    try:
        tree = _parser().parse(value)
    except UnexpectedInput as error:
        position = tables.error_position(error, value)
        reason = (
            "a quote in a field that does not begin with one" if value[position:].startswith('"') else "an open quote"
        )
        raise MountError(
            f"RUN --{flag.name}: malformed value: {reason}",
            hint="quote a whole field: 'type=bind,\"target=/a,b\"'",
            source=source,
            span=_span(flag, position, position + 1),
        ) from None
    if not value:
        raise MountError(
            f"RUN --{flag.name} has no value", hint="type=cache,target=/dir", source=source, span=flag.span
        )
    for child in tree.children:
        yield _field(flag, cast("list[Token]", getattr(child, "children", [])))


def _field(flag: Flag, tokens: list[Token]) -> _Field:
    if not tokens:
        return _Field("", "", None, flag.span)
    text = "".join(tokens)
    if tokens[0].type == "QUOTED":
        text = text[1:-1].replace('""', '"')
    key, equals, value = text.partition("=")
    span = _span(flag, tokens[0].start_pos or 0, tokens[-1].end_pos or 0)
    return _Field(text, key.lower(), value if equals else None, span)


def _span(flag: Flag, start: int, end: int) -> Span:
    """The place of a part of the flag's value, where that can be told; else the value's."""
    whole = flag.value_span
    if not flag.exact or whole.start.line != whole.end.line:
        return whole
    line, column = whole.start.line, whole.start.column
    return Span(Position(line, column + start), Position(line, column + end))


@functools.cache
def _parser() -> Lark:
    return tables.parser("mount")
