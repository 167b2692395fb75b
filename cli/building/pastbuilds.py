"""Reads what ``cli.building.recording`` kept of builds on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from cli.building.recording import DIRECTORY, is_running, remove_build
from cli.errors import CommandError
from cli.listing import Listing, Row
from cli.progress.plain import PlainDisplay
from cli.table import age, rfc3339
from core.events import BuildPlanned, Event, MissReason, StepFinished, StepInfo, StepOutput, StepStarted, Warned

_SHORT: Final = 12
_STATES: Final = {
    "completed": "Completed", "error": "Error", "cancelled": "Cancelled", "running": "Running", "lost": "Lost",
}  # fmt: skip
"""As buildx says it; and of a build that was killed."""

STATES: Final = tuple(_STATES)

PAST_BUILDS: Final = Listing(
    {
        "Ref": "BUILD ID",
        "Name": "NAME",
        "Status": "STATUS",
        "CreatedAt": "CREATED AT",
        "Duration": "DURATION",
        "Steps": "STEPS",
        "Cached": "CACHED",
        "Context": "CONTEXT",
        "Dockerfile": "DOCKERFILE",
        "Target": "TARGET",
        "Tags": "TAGS",
        "Image": "IMAGE",
        "Error": "ERROR",
    },
    ("Ref", "Name", "Status", "CreatedAt", "Duration", "Steps", "Cached"),
    "Ref",
    "build",
    least=0,
)


class PastBuild(NamedTuple):
    """A build that was, or is. file: of its files, without ending. record: as it was kept."""

    directory: Path
    file: str
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.file.partition("-")[2]

    @property
    def log(self) -> Path:
        return self.directory / f"{self.file}.log"

    @property
    def state(self) -> str:
        state = self.record.get("state", "lost")
        return "running" if state == "lost" and is_running(self.log) else str(state)

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        return list(self.record.get("steps", ()))

    def remove(self) -> None:
        """Forget it. Raises CommandError when it runs."""
        if not remove_build(self.directory, self.file):
            raise CommandError(f"build {self.id[:_SHORT]} is running", hint="it can be removed once it has ended")

    def events(self) -> Iterator[Event | int]:
        """What was shown; a number stands for so many bytes that were not kept. Raises CommandError."""
        for members in self.members():
            event = _event(members)
            if event is not None:
                yield event

    def members(self) -> Iterator[dict[str, Any]]:
        """The same as objects of JSON, as ``--progress=json`` has them."""
        try:
            file = self.log.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            yield from self._of_cached()
            return
        with file:
            next(file, None)  # what the build is
            for line in file:
                try:
                    members = json.loads(line)
                except ValueError:  # the end of one that was killed
                    continue
                if isinstance(members, dict):
                    yield members

    def _of_cached(self) -> Iterator[dict[str, Any]]:
        """Of a build that the cache answered, no more was shown than its steps."""
        at = self.record.get("at", 0.0)
        steps = [{"id": n, "name": step["name"], "line": step.get("line", 0)} for n, step in enumerate(self.steps)]
        yield {"event": "plan", "steps": steps}
        for number, step in enumerate(self.steps):
            ended = {"outcome": step["outcome"], "duration_s": step["duration_s"], "at": at, "reason": None}
            yield {"event": "finish", "id": number, **ended}


def past_builds(root: Path) -> list[PastBuild]:
    """All builds of a root, the newest first. What cannot be read is left out."""
    directory = root / DIRECTORY
    try:
        names = sorted({path.stem for path in directory.iterdir() if path.suffix in (".json", ".log")}, reverse=True)
    except FileNotFoundError:
        return []
    found = (_read(directory, name) for name in names if "-" in name)
    return [build for build in found if build is not None]


def chosen(root: Path, text: str) -> PastBuild:
    """The build with this ID, or a beginning of it, or this reference of buildx's metadata.

    ``^2`` is the third newest; "" the newest. Raises CommandError.
    """
    builds = past_builds(root)
    if not builds:
        raise CommandError("no builds are known here", hint="shiplap build … is, once it has ended")
    if not text or (text.startswith("^") and text[1:].isdecimal()):
        back = int(text[1:7] or 0) if text else 0
        if back >= len(builds):
            raise CommandError(f"{text}: only {len(builds)} builds are known here")
        return builds[back]
    wanted = text.rpartition("/")[2]
    found = [each for each in builds if each.id.startswith(wanted) or each.record.get("ref") == wanted]
    if len(found) != 1:
        why = "is no build here" if not found else f"are {len(found)} builds"
        raise CommandError(f"{text!r} {why}", hint="shiplap build history ls --no-trunc lists them")
    return found[0]


def build_row(build: PastBuild, now: float, *, no_trunc: bool) -> Row:
    """A build's fields. now: seconds since the epoch."""
    record, state = build.record, build.state
    began = float(record.get("at", 0.0))
    seconds = record["duration_s"] if "duration_s" in record else (now - began if state == "running" else None)
    steps = [step for step in build.steps if step.get("line")] or build.steps  # without what reads and writes
    return {
        "Ref": build.id if no_trunc else build.id[:_SHORT],
        "Name": record.get("name", ""),
        "Status": _STATES.get(state, state),
        "CreatedAt": age(max(0.0, now - began)),
        "Duration": "" if seconds is None else f"{max(0.0, seconds):.1f}s",
        "Steps": str(len(steps)) if steps else "",
        "Cached": f"{100 * sum(step['outcome'] == 'cached' for step in steps) // len(steps)}%" if steps else "",
        "Context": record.get("context", ""),
        "Dockerfile": record.get("file", ""),
        "Target": record.get("target", ""),
        "Tags": ",".join(record.get("tags", ())),
        "Image": record.get("image", ""),
        "Error": record.get("error", "").partition("\n")[0],
    }


def document(build: PastBuild) -> dict[str, Any]:
    """All that is known of a build, for JSON."""
    at = rfc3339(float(build.record.get("at", 0.0)))
    return {**build.record, "id": build.id, "at": at, "state": build.state}


def print_log(build: PastBuild, sink: TextIO) -> None:
    """What ``--progress=plain`` shows of such a build."""
    display = PlainDisplay(sink, clock=time.time)
    for event in build.events():
        if isinstance(event, int):
            display.refresh()
            sink.write(f"… {event} bytes were not kept\n")
        else:
            display.handle(event)
            display.refresh()
    display.close()


def _read(directory: Path, name: str) -> PastBuild | None:
    for path, is_log in ((directory / f"{name}.json", False), (directory / f"{name}.log", True)):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                record = json.loads(file.readline() if is_log else file.read())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            record.pop("event", None)
            return PastBuild(directory, name, record)
    return None


def _event(members: Mapping[str, Any]) -> Event | int | None:
    """None: an event that this version does not know."""
    match members.get("event"):
        case "plan":
            steps = members["steps"]
            return BuildPlanned(
                tuple(StepInfo(one["id"], one["name"], one.get("stage", ""), one.get("line", 0)) for one in steps)
            )
        case "start":
            return StepStarted(members["id"], members["at"])
        case "output":
            return StepOutput(members["id"], members["stream"], members["text"].encode(), members["at"])
        case "finish":
            changes = tuple(MissReason(**change) for change in members.get("changes", ()))
            ended = (members["outcome"], members["duration_s"], members["at"], members["reason"])
            return StepFinished(members["id"], *ended, changes)
        case "warning":
            return Warned(members["message"], members["line"], members["rule"])
        case "gap":
            return int(members["bytes"])
    return None
