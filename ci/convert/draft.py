"""The pipeline that is being written: keys of ours with values, each with the place that it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from dockerfile_grammar.source import Span

Value: TypeAlias = "str | bool | list[Value] | dict[str, Value]"
"""What stands in a file: texts are written so that they are read as these texts."""

_LONGEST_NAME: Final = 40
_WAITING_IMAGE: Final = "busybox:1.37"
"""What the jobs run in that only say that something is left to do."""


class Entry(NamedTuple):
    """A key's value. span: what it was made of."""

    value: Value
    span: Span


class DraftJob:
    """A job. keys: in the order in which they are written."""

    def __init__(self, name: str, span: Span) -> None:
        self.name = name
        self.span = span
        self.keys: dict[str, Entry] = {}

    def put(self, key: str, value: Value, span: Span | None = None) -> None:
        self.keys[key] = Entry(value, span or self.span)

    def texts(self, key: str) -> list[Value]:
        """The list of a key, which is made when it is not there; an addition to it counts."""
        if key not in self.keys:
            self.put(key, [])
        value = self.keys[key].value
        assert isinstance(value, list)
        return value

    def env(self) -> dict[str, Value]:
        """Its variables; an addition counts."""
        if "env" not in self.keys:
            self.put("env", {})
        value = self.keys["env"].value
        assert isinstance(value, dict)
        return value

    @property
    def needs(self) -> list[str]:
        """The names of what it needs, without ``?``."""
        found = self.keys.get("needs")
        values = found.value if found is not None and isinstance(found.value, list) else []
        return [str(value).removesuffix("?") for value in values]

    @property
    def is_conditional(self) -> bool:
        return "when" in self.keys

    def becomes_a_failure(self, why: str) -> None:
        """Make it a job that fails and says why, so that nothing after it runs as if it had been done."""
        kept = {key: entry for key, entry in self.keys.items() if key in ("needs", "after", "when")}
        self.keys = kept
        self.put("image", _WAITING_IMAGE)
        self.put("run", [failing(why)])


class Draft:
    """A pipeline. top: keys beside ``jobs`` and ``services``."""

    def __init__(self) -> None:
        self.top: dict[str, Entry] = {}
        self.services: dict[str, Entry] = {}
        self.jobs: dict[str, DraftJob] = {}

    def job(self, wanted: str, span: Span) -> DraftJob:
        """A new job, by the name that is nearest to the one wanted."""
        made = DraftJob(job_name(wanted, self.jobs), span)
        self.jobs[made.name] = made
        return made

    def env(self, span: Span) -> dict[str, Value]:
        """Variables of all jobs; an addition counts."""
        value = self.top.setdefault("env", Entry({}, span)).value
        assert isinstance(value, dict)
        return value


def failing(why: str) -> str:
    """A command that says what is left to do, and fails."""
    text = " ".join(why.split()).replace("'", "'\\''")
    return f"echo 'not converted: {text}' >&2; exit 1"


def job_name(wanted: str, taken: Mapping[str, object]) -> str:
    """A name that a job may have, and none has."""
    name = re.sub(r"[^a-z0-9_-]+", "-", wanted.lower()).strip("-_")[:_LONGEST_NAME].rstrip("-_")
    if not name or not name[0].isalpha():
        name = f"job-{name}".rstrip("-_")[:_LONGEST_NAME]
    return _unused(name, taken)


def _unused(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name[: _LONGEST_NAME - 5]}-{number}" in taken:
        number += 1
    return f"{name[: _LONGEST_NAME - 5]}-{number}"


def variable_name(wanted: str) -> str:
    """A name that a variable and a list of a matrix may have: in capitals."""
    name = re.sub(r"[^A-Z0-9_]+", "_", wanted.upper()).strip("_")[:50]
    return name if name and name[0].isalpha() else f"V_{name}"[:50]


def output_name(wanted: str) -> str:
    """A name that an output for people may have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:100]
    return name or "files"


def in_workspace(path: str) -> str | None:
    """A path as patterns of outputs have it, from the workspace; ``**``: all of it. None: it leads out."""
    while path.startswith("./"):
        path = path[2:]
    if path in ("", "."):
        return "**"
    return None if path.startswith(("/", "~")) or ".." in path.split("/") else path.rstrip("/")
