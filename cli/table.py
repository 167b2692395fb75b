"""Tables, sizes and ages, as docker prints them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from cli.progress.text import cell_text, cell_width, cut

if TYPE_CHECKING:
    from images.summary import Image

_LEAST: Final = 8
"""Cells of a column below which nothing is cut off it."""

_WHOLE: Final = frozenset({"NAME", "NAMES", "ID", "IMAGE ID", "CONTAINER ID", "TAG", "DIGEST", "VOLUME NAME"})
"""Columns of what people copy."""

_STATES: Final = frozenset({"STATE", "STATUS", "OUTCOME"})
_RED, _GREEN, _AMBER, _BLUE, _VIOLET = (f"\x1b[{number}m" for number in range(31, 36))
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"
_COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("succeeded", "Up", "idle", "Completed"), _GREEN),
    **dict.fromkeys(("failed", "Dead", "dead", "lost", "Lost", "Error"), _RED),
    **dict.fromkeys(("queued", "blocked", "waiting", "warnings", "paused", "restarting", "Restarting", "draining",
                     "sick"), _AMBER),
    **dict.fromkeys(("running", "busy", "Running"), _BLUE),
    **dict.fromkeys(("error",), _VIOLET),
    **dict.fromkeys(("cancelled", "Cancelled", "skipped", "reused", "left", "created", "Created"), _DIM),
}  # fmt: skip
"""By the first word of a state."""

_STEERING: Final = re.compile("[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")


class Looks(NamedTuple):
    """How a table may look where it is printed.

    columns: of the terminal; None: nothing is cut off.
    colours: whether there may be any.
    """

    columns: int | None = None
    colours: bool = False


PLAIN: Final = Looks()
"""As a file or another program gets it: whole, and without colours."""


def looks_of(sink: TextIO, environ: Mapping[str, str] = os.environ) -> Looks:
    """How a table may look on ``sink``: plain unless it is a terminal that can do more."""
    if not sink.isatty() or environ.get("TERM", "dumb") == "dumb":
        return PLAIN
    try:
        columns = os.get_terminal_size(sink.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return Looks(columns or None, not environ.get("NO_COLOR"))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, gap: int = 3, least: int = 0, looks: Looks = PLAIN
) -> str:
    """Columns as wide as their widest cell; the last one is not padded. Ends without a newline.

    gap: cells of a terminal between two columns. least: the width of a column that is not the last one.
    looks: where it is printed. What does not fit is cut off the widest columns, but never off the first one, or off
    names: a part of a name is of no use.
    """
    cells = [[cell_text(cell) for cell in row] for row in (header, *rows)]
    natural = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    widths = [*(max(width, least) for width in natural[:-1]), *natural[-1:]]
    if looks.columns is not None and sum(widths) + gap * (len(widths) - 1) > looks.columns:
        widths = _fitting(cells[0], natural, looks.columns, gap)
    lines = []
    for number, row in enumerate(cells):
        texts = [cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        blanks = [width - cell_width(text) + gap for text, width in zip(texts, widths, strict=True)]
        if looks.colours:
            colours = [_colour(cell, name) if number else _DIM for cell, name in zip(row, cells[0], strict=True)]
            texts = [
                f"{colour}{text}{_RESET}" if colour and text else text
                for colour, text in zip(colours, texts, strict=True)
            ]
        lines.append("".join(text + " " * blank for text, blank in zip(texts, blanks, strict=True)).rstrip())
    return "\n".join(lines)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Print a table on standard output, as wide as that is and in colours where it has some.

    whole: nothing is cut off.
    """
    looks = looks_of(sys.stdout)
    looks = looks._replace(columns=None) if whole else looks
    sys.stdout.write(f"{table(header, rows, looks=looks)}\n")


def _fitting(header: Sequence[str], widths: Sequence[int], columns: int, gap: int) -> list[int]:
    """The widths with which a line has at most so many columns, as far as that can be."""
    least = [
        width if not position or name in _WHOLE else min(width, max(cell_width(name), _LEAST))
        for position, (name, width) in enumerate(zip(header, widths, strict=True))
    ]
    found = [max(low, min(width, columns)) for low, width in zip(least, widths, strict=True)]
    for _ in range(sum(found) + gap * (len(found) - 1) - columns):
        wide = [position for position, low in enumerate(least) if found[position] > low]
        if not wide:
            break
        found[max(wide, key=found.__getitem__)] -= 1
    return found


def _colour(cell: str, name: str) -> str:
    """The colour of a cell; "" for none. name: of its column."""
    if name not in _STATES:
        return ""
    if "unhealthy" in cell:
        return _RED
    word = cell.partition(" ")[0].rstrip(":,")
    if word == "Exited":
        return _DIM if cell.startswith("Exited (0)") else _RED
    return _COLOURS.get(word, "")


def print_json(value: Any) -> None:
    """One JSON document, indented, on standard output.

    Characters that could steer a terminal are written as JSON's escapes, which are the same text.
    """
    import json

    sys.stdout.write(_STEERING.sub(_escaped, json.dumps(value, indent=2, ensure_ascii=False)) + "\n")


def _escaped(match: re.Match[str]) -> str:
    import json

    return json.dumps(match[0])[1:-1]


def age(seconds: float) -> str:
    """How long ago, in docker's words: ``3 hours ago``."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if seconds < 1:
        return "Less than a second ago"
    if minutes < 1:
        return f"{_count(int(seconds), 'second')} ago"
    if hours < 1:
        return "About a minute ago" if minutes == 1 else f"{minutes} minutes ago"
    if hours < 48:
        return "About an hour ago" if hours == 1 else f"{hours} hours ago"
    if days < 14:
        return f"{days} days ago"
    if days < 60:
        return f"{days // 7} weeks ago"
    if days < 730:
        return f"{days // 30} months ago"
    return f"{days // 365} years ago"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def created_time(image: Image) -> float:
    """When the image was made, by its config; else when it came into the store. Seconds since the epoch."""
    made = stated_time(image.config.created)
    return image.created_at if made is None else made


def stated_time(text: str) -> float | None:
    """Seconds since the epoch of a time in an image config; None where foreign tools wrote none, or no time at all."""
    from images.errors import InvalidConfigError
    from images.oci import parse_time

    try:
        return parse_time(text) if text else None
    except InvalidConfigError:
        return None


def rfc3339(epoch_s: float) -> str:
    """A time as OCI and docker write it, in UTC with nanoseconds left out where they are zero."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")
