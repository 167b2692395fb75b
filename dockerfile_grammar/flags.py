"""Which flags each instruction has, and what values they take.

Source: moby/buildkit, frontend/dockerfile/instructions (parse.go, bflag.go and the commands_run*.go).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from core.suggestions import suggestion
from dockerfile_grammar.ast import Flag, Word
from dockerfile_grammar.errors import FlagError, shown
from dockerfile_grammar.lines import LogicalLine
from dockerfile_grammar.source import Source
from dockerfile_grammar.syntax import FlagParts

Kind: TypeAlias = Literal["bool", "string", "strings"]

_COPYING: Mapping[str, Kind] = {"chown": "string", "chmod": "string", "link": "bool", "exclude": "strings"}

FLAGS: Mapping[str, Mapping[str, Kind]] = {
    "FROM": {"platform": "string"},
    "RUN": {"mount": "strings", "network": "string", "security": "string", "device": "strings"},
    "COPY": {**_COPYING, "from": "string", "parents": "bool"},
    "ADD": {**_COPYING, "keep-git-dir": "bool", "checksum": "string", "unpack": "bool"},
    "HEALTHCHECK": {
        "interval": "string",
        "timeout": "string",
        "start-period": "string",
        "start-interval": "string",
        "retries": "string",
    },
}
"""The flags of each instruction that has any."""

NETWORK_MODES = ("default", "none", "host")
SECURITY_MODES = ("sandbox", "insecure")

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SHORTEST_DURATION_NS = 10**6


def make_flag(parts: FlagParts, line: LogicalLine) -> Flag:
    """Divide a flag into name and value."""
    span = line.span(parts.start, parts.end)
    name, equals, value = parts.text.removeprefix("--").partition("=")
    if not equals:
        return Flag(name, None, parts.text, span, span, parts.exact)
    value_span = line.span(parts.start + len(name) + 3, parts.end) if parts.exact else span
    return Flag(name, value, parts.text, span, value_span, parts.exact)


class FlagSet:
    """An instruction's flags, checked: all known, those that cannot be repeated given once, values where needed."""

    def __init__(self, instruction: str, source: Source) -> None:
        self.instruction = instruction
        self.source = source
        self._by_name: dict[str, list[Flag]] = {}

    @classmethod
    def check(cls, instruction: str, source: Source, flags: tuple[Flag, ...]) -> FlagSet:
        """Raises FlagError."""
        known = FLAGS.get(instruction, {})
        found = cls(instruction, source)
        for flag in flags:
            kind = known.get(flag.name)
            if kind is None:
                hint = suggestion(flag.name, known, form="--{}")
                if hint is None:
                    allowed = ", ".join(f"--{name}" for name in sorted(known))
                    hint = f"{instruction} has {allowed}" if known else f"{instruction} has no flags"
                raise found.error(f"{instruction}: unknown flag --{shown(flag.name)}", flag, hint)
            if kind != "strings" and flag.name in found._by_name:
                raise found.error(f"{instruction}: --{flag.name} is given twice", flag, "remove one of the two")
            if (flag.value is None and kind != "bool") or (flag.value == "" and kind == "bool"):
                raise found.error(f"{instruction}: --{flag.name} has no value", flag, f"write --{flag.name}=value")
            found._by_name.setdefault(flag.name, []).append(flag)
            if kind == "bool":
                found.boolean(flag.name)
        return found

    def error(self, reason: str, flag: Flag, hint: str | None = None) -> FlagError:
        return FlagError(reason, hint=hint, source=self.source, span=flag.span)

    def all(self, name: str) -> tuple[Flag, ...]:
        return tuple(self._by_name.get(name, ()))

    def get(self, name: str) -> Flag | None:
        flags = self._by_name.get(name)
        return flags[0] if flags else None

    def word(self, name: str) -> Word | None:
        """The value of a flag; None when it is not given or empty, which BuildKit does not tell apart."""
        flag = self.get(name)
        return flag.value_word if flag is not None and flag.value else None

    def words(self, name: str) -> tuple[Word, ...]:
        return tuple(flag.value_word for flag in self.all(name))

    def boolean(self, name: str) -> bool | None:
        flag = self.get(name)
        if flag is None:
            return None
        value = "true" if flag.value is None else flag.value.lower()
        if value not in {"true", "false"}:
            raise self.error(
                f"{self.instruction}: --{name} is true or false, not {shown(flag.value)!r}",
                flag,
                f"write --{name} or --{name}=false",
            )
        return value == "true"

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``; the first is the default."""
        flag = self.get(name)
        if flag is None:
            return allowed[0]
        if flag.value not in allowed:
            hint = suggestion(flag.value or "", allowed) or f"it can be {', '.join(allowed)}"
            raise self.error(f"{self.instruction}: --{name} cannot be {shown(flag.value)!r}", flag, hint)
        return flag.value

    def duration_ns(self, name: str) -> int:
        """Nanoseconds; 0 when not given."""
        flag = self.get(name)
        if flag is None or not flag.value:
            return 0
        nanoseconds = parse_duration(flag.value)
        if nanoseconds is None:
            raise self.error(
                f"{self.instruction}: --{name}: invalid duration {shown(flag.value)!r}",
                flag,
                "a number and a unit: 30s, 1m30s, 500ms",
            )
        if nanoseconds and nanoseconds < _SHORTEST_DURATION_NS:
            raise self.error(f"{self.instruction}: --{name} cannot be less than 1ms", flag)
        return nanoseconds

    def count(self, name: str) -> int:
        """A number from 0 up; 0 when not given."""
        flag = self.get(name)
        if flag is None or not flag.value:
            return 0
        if not re.fullmatch(r"[+-]?[0-9]+", flag.value) or abs(int(flag.value)) >= 2**31:
            raise self.error(
                f"{self.instruction}: --{name}: invalid number {shown(flag.value)!r}", flag, "a whole number: 3"
            )
        if int(flag.value) < 0:
            raise self.error(f"{self.instruction}: --{name} cannot be negative", flag)
        return int(flag.value)


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a duration as Go writes it (``1h2m3.5s``), or None when it is none.  Go: time.ParseDuration."""
    sign = -1 if text.startswith("-") else 1
    rest = text.removeprefix("-") if sign < 0 else text.removeprefix("+")
    if rest == "0":
        return 0
    total, position = 0, 0
    while match := _DURATION_PART.match(rest, position):
        whole, _, fraction = match[1].partition(".")
        unit = _NANOSECONDS[match[2]]
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position = match.end()
    if not rest or position != len(rest) or total >= 2**63:
        return None
    return sign * total
