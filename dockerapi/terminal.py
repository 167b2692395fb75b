"""What the API's processes write to a terminal, which is root's."""

from __future__ import annotations

import logging
import sys
from typing import Any


def log_to_terminal() -> None:
    """Write records of INFO and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("shiplap engine: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Lines(logging.Formatter):
    """Records for a terminal that is root's: paths and names in them are strangers', and must give it no orders."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return _shown(super().formatMessage(record), but="")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return _shown(super().formatException(ei), but="\n")


def _shown(text: str, *, but: str) -> str:
    """The text with an escape for each character that cannot be printed."""
    return "".join(
        each if each.isprintable() or each in but else each.encode("unicode_escape", "surrogatepass").decode("ascii")
        for each in text
    )
