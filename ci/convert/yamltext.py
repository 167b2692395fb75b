"""A draft as the text of a pipeline file, and which key each of its lines is of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ci.convert.draft import Draft, Entry, Value
from ci.document import MAX_BYTES

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/](?:[A-Za-z0-9_./+=@^~%-]|:(?=[^\s]))*")
_NULLS: Final = frozenset({"null", "Null", "NULL"})
_BLOCK: Final = re.compile(
    "[^ \\n\\t\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]"
)
"""What cannot stand in a block of lines as it is."""

_ESCAPED: Final = re.compile(
    '["\\\\]|[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]'
)
_SHORT_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\", "\r": "\\r"}
_WIDEST: Final = 100


_ORDER: Final = (
    "needs", "after", "when", "matrix", "concurrency", "build", "approve", "image", "services", "engine", "caches",
    "user", "platform", "env", "secrets", "shell", "timeout", "retry", "may_fail", "run", "outputs", "reports",
)  # fmt: skip
"""In which the keys of a job are written."""

_ONE_A_LINE: Final = frozenset({"run"})
_PLAIN_LINE: Final = re.compile(r"[A-Za-z0-9_/.](?:[^\s:#\\]|[:#\\](?=\S)(?<=\S.)|[ ](?=[^\s#]))*")
"""What needs no quotes on a line of its own."""


class TooLargeError(ValueError):
    """More text than a pipeline file may have."""


class Owner(NamedTuple):
    """What a line is of. section: ``top``, ``services`` or ``jobs``. name: of the service or job."""

    section: str
    name: str
    key: str
    inner: str = ""


class Written(NamedTuple):
    """A file as text.

    owners: one for each line, from 1; None: a line of the frame.
    """

    text: str
    owners: Mapping[int, Owner]


def written(draft: Draft, comment: list[str]) -> Written:
    """Write a draft. comment: lines for the top, without ``#``. Raises TooLargeError."""
    writing = _Writing()
    for line in comment:
        writing.add(f"# {_harmless(line)}".rstrip())
    for key, entry in draft.top.items():
        writing.entry(0, key, entry, Owner("top", "", key))
    if draft.services:
        writing.add("services:")
        for name, entry in draft.services.items():
            writing.entry(2, name, entry, Owner("services", name, ""))
    writing.add("jobs:")
    for name, job in draft.jobs.items():
        writing.add(f"  {scalar(name)}:", Owner("jobs", name, ""))
        for key, entry in sorted(job.keys.items(), key=lambda pair: _ORDER.index(pair[0])):
            writing.entry(4, key, entry, Owner("jobs", name, key))
        writing.add("")
    while writing.lines and not writing.lines[-1]:
        writing.lines.pop()
    return Written("\n".join(writing.lines) + "\n", writing.owners)


class _Writing:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.owners: dict[int, Owner] = {}
        self._bytes = 0

    def add(self, line: str, owner: Owner | None = None) -> None:
        self._bytes += len(line.encode(errors="replace")) + 1
        if self._bytes > MAX_BYTES:
            raise TooLargeError
        self.lines.append(line)
        if owner is not None:
            self.owners[len(self.lines)] = owner

    def entry(self, indent: int, key: str, entry: Entry, owner: Owner) -> None:
        for line, inner in _mapped(indent, key, entry.value):
            self.add(line, owner._replace(inner=inner))


def _mapped(indent: int, key: str, value: Value) -> Iterator[tuple[str, str]]:
    """The lines of a key and its value, each with the key within the value that it is of."""
    start = f"{' ' * indent}{scalar(key)}:"
    if isinstance(value, (str, bool)):
        yield from ((line, "") for line in _with_scalar(start, indent, value))
    elif key not in _ONE_A_LINE and (flow := _flow(value)) is not None and len(start) + len(flow) < _WIDEST:
        yield f"{start} {flow}", ""
    elif isinstance(value, list):
        yield start, ""
        for item in value:
            yield from ((line, "") for line in _item(indent + 2, item))
    else:
        yield start, ""
        for name, inner in value.items():
            yield from ((line, name) for line, _ in _mapped(indent + 2, name, inner))


def _item(indent: int, value: Value) -> Iterator[str]:
    start = f"{' ' * indent}-"
    if isinstance(value, (str, bool)):
        yield from _with_scalar(start, indent, value)
        return
    flow = _flow(value)
    if flow is not None and len(start) + len(flow) < _WIDEST:
        yield f"{start} {flow}"
        return
    assert isinstance(value, dict), "a list in a list is short"
    lead = f"{' ' * indent}- "
    for name, inner in value.items():
        for line, _ in _mapped(indent + 2, name, inner):
            yield lead + line[indent + 2 :] if lead else line
            lead = ""


def _with_scalar(start: str, indent: int, value: str | bool) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value.strip("\n") and _fits_a_block(value):
        body = value.rstrip("\n")
        chomping = "" if value.endswith("\n") else "-"
        yield f"{start} |{chomping}"
        for line in body.split("\n"):
            yield f"{' ' * (indent + 2)}{line}" if line else ""
        return
    yield f"{start} {_on_a_line(value)}"


def _on_a_line(value: str | bool) -> str:
    """A scalar that is not between brackets."""
    if isinstance(value, str) and not _BLOCK.search(value) and _PLAIN_LINE.fullmatch(value) and value not in _NULLS:
        return value if not value.endswith(":") and "\n" not in value and "\t" not in value else scalar(value)
    return scalar(value)


def _fits_a_block(text: str) -> bool:
    """Whether a block of lines gives the same text back."""
    return (
        not _BLOCK.search(text)
        and not text.startswith((" ", "\n", "\t"))
        and not text.endswith("\n\n")
        and all(line == line.rstrip() for line in text.split("\n"))
    )


def _flow(value: Value) -> str | None:
    """A short list or map between brackets; None: it is not short."""
    if isinstance(value, (str, bool)):
        return scalar(value) if isinstance(value, bool) or "\n" not in value else None
    if isinstance(value, list):
        items = [_flow(item) for item in value[:20]]
        if len(value) > 20 or any(item is None for item in items):
            return None
        return f"[{', '.join(str(item) for item in items)}]"
    if len(value) > 6:
        return None
    inner = {name: _flow(item) for name, item in value.items()}
    if any(item is None for item in inner.values()):
        return None
    return "{" + ", ".join(f"{scalar(name)}: {item}" for name, item in inner.items()) + "}"


def scalar(value: str | bool) -> str:
    """A text, or a truth, on one line, as YAML reads it back between brackets, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if _PLAIN.fullmatch(value) and value not in _NULLS and not value.endswith(":"):
        return value
    return f'"{_ESCAPED.sub(_escape, value)}"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _harmless(text: str) -> str:
    return _ESCAPED.sub(lambda match: match[0] if match[0] in '"\\' else " ", text)
