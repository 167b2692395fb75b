"""Tables, sizes and ages, as docker prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.progress.text import cell_width, harmless

if TYPE_CHECKING:
    from images.summary import Image


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, gap: int = 3) -> str:
    """Columns as wide as their widest cell; the last one is not padded. Ends without a newline."""
    cells = [[harmless(cell, colours=False) for cell in row] for row in (header, *rows)]
    widths = [max(map(cell_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [cell + " " * (width - cell_width(cell) + gap) for cell, width in zip(row, widths, strict=True)]
        lines.append("".join(padded).rstrip())
    return "\n".join(lines)


def print_json(value: Any) -> None:
    """One JSON document, indented, on standard output."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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
