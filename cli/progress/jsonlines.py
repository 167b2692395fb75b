"""Progress as JSON, one object a line. docs/progress-json.md promises its form: add members, never change them."""

from __future__ import annotations

import codecs
import json
from typing import Any, TextIO

from core.events import BuildPlanned, Event, StepFinished, StepOutput, StepProgress, StepStarted


class JsonDisplay:
    """Writes to ``sink``, a line for each event. Output is text; characters split between two events are joined."""

    interval_s = 0.02

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._decoders: dict[tuple[int, int], codecs.IncrementalDecoder] = {}

    def handle(self, event: Event) -> None:
        members = json_object(event)
        if isinstance(event, StepOutput):
            members["text"] = self._decoder(event.id, event.stream).decode(event.data)
        self.write(members)

    def refresh(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.flush()

    def write(self, members: dict[str, Any]) -> None:
        """Write one object; also used for the two that end a build, ``result`` and ``error``."""
        self._sink.write(json.dumps(members, ensure_ascii=False, separators=(",", ":")) + "\n")

    def _decoder(self, step_id: int, stream: int) -> codecs.IncrementalDecoder:
        key = (step_id, stream)
        if key not in self._decoders:
            self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
        return self._decoders[key]


def json_object(event: Event) -> dict[str, Any]:
    """The members of one event. Output is decoded by itself, as if no character were split."""
    if isinstance(event, BuildPlanned):
        steps = [{"id": s.id, "name": s.name, "stage": s.stage, "line": s.line} for s in event.steps]
        return {"event": "plan", "steps": steps}
    if isinstance(event, StepStarted):
        return {"event": "start", "id": event.id, "at": event.at}
    if isinstance(event, StepOutput):
        text = event.data.decode(errors="replace")
        return {"event": "output", "id": event.id, "stream": event.stream, "text": text, "at": event.at}
    if isinstance(event, StepProgress):
        sizes = {"current_bytes": event.current_bytes, "total_bytes": event.total_bytes}
        return {"event": "progress", "id": event.id, "what": event.what, **sizes}
    if isinstance(event, StepFinished):
        ended = {"outcome": event.outcome, "duration_s": event.duration_s, "at": event.at, "reason": event.reason}
        changes = {"changes": [change._asdict() for change in event.changes]} if event.changes else {}
        return {"event": "finish", "id": event.id, **ended, **changes}
    return {"event": "warning", "message": event.message, "line": event.line, "rule": event.rule}
