"""Chooses the display of a build."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

if TYPE_CHECKING:
    from cli.progress.pump import Display
    from core.events import Event

Mode: TypeAlias = Literal["plain", "tty", "json", "quiet"]
_CHOSEN: dict[str, Mode] = {"plain": "plain", "tty": "tty", "json": "json"}
MODES = ("auto", *_CHOSEN)


def choose_mode(asked: str, sink: TextIO, *, quiet: bool, environ: Mapping[str, str] = os.environ) -> Mode:
    """Resolve ``--progress``: ``auto`` is ``tty`` on a terminal that can move its cursor, else ``plain``."""
    if quiet:
        return "quiet"
    live = sink.isatty() and environ.get("TERM", "dumb") != "dumb"
    return _CHOSEN.get(asked, "tty" if live else "plain")


def open_display(mode: Mode, sink: TextIO, *, environ: Mapping[str, str] = os.environ) -> Display[Event] | None:
    """The display for ``mode``, writing to ``sink``; None for quiet."""
    if mode == "quiet":
        return None
    if mode == "json":
        from cli.progress.jsonlines import JsonDisplay

        return JsonDisplay(sink)
    if mode == "plain":
        from cli.progress.plain import PlainDisplay

        return PlainDisplay(sink)
    from cli.progress.screen import Screen, terminal_size
    from cli.progress.tty import TtyDisplay

    colours = not environ.get("NO_COLOR")
    return TtyDisplay(Screen(sink, size=lambda: terminal_size(sink), colours=colours))
