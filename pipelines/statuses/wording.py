"""The text of a commit's mark: one line that every forge takes."""

from __future__ import annotations

from typing import Final

from pipelines.endings import repeated
from pipelines.forges.events import StatusState
from pipelines.model import Run

_DESCRIPTIONS: Final[dict[StatusState, str]] = {
    "pending": "waits for a worker", "running": "is being built", "success": "built", "failure": "failed",
    "error": "could not be built", "cancelled": "cancelled",
}  # fmt: skip
_MAX_DESCRIPTION: Final = 140
"""The length of a description that every forge takes."""
_LEAST_REASON: Final = 60  # characters of the reason that the step's last line leaves


def description(run: Run, state: StatusState, last_line: str) -> str:
    """The text of a mark. last_line: the last that the failed step printed; empty where there is none."""
    told = run.reason.partition("\n")[0] if run.is_final and run.reason else _described(run, state)
    return cut(one_line(with_line(told, last_line)))


def _described(run: Run, state: StatusState) -> str:
    again = repeated(run.trigger.retry_of, run.trigger.by)
    return f"{_DESCRIPTIONS[state]} ({again})" if again else _DESCRIPTIONS[state]


def with_line(reason: str, line: str) -> str:
    """Reason and line, as far as there is room: the beginning of the line, and the beginning of a long reason."""
    if not line:
        return reason
    return f"{cut(reason, max(_LEAST_REASON, _MAX_DESCRIPTION - len(line) - 2))}: {line}"


def one_line(text: str) -> str:
    """The text in one line, without unprintable characters, which may steer displays or turn the direction of text."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def cut(text: str, length: int = _MAX_DESCRIPTION) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def preview_words(name: str) -> str:
    """What the mark of an output says that a click opens. name: the output's."""
    return f"open {name}"
