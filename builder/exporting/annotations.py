"""Annotations as they are written: ``--annotation`` of the command line, and ``annotation…`` keys of ``-o``."""

from __future__ import annotations

import re
from typing import Final

from builder.errors import OutputError
from builder.request.output import ANNOTATION_LEVELS, Annotation
from core.errors import ShiplapError
from core.platforms import Platform

_PLACE: Final = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/.-]+)\])?")
_KEY: Final = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/.-]+)\])?\.(\S+)")
_HINT: Final = "write NAME=VALUE, or PLACE:NAME=VALUE with a PLACE of " + ", ".join(ANNOTATION_LEVELS)


def parse_annotation(text: str) -> tuple[Annotation, ...]:
    """Parse one ``--annotation``: ``[PLACE[PLATFORM],…:]NAME=VALUE``; one annotation for each place.

    Raises OutputError.
    """
    written, equals, value = text.partition("=")
    places, colon, name = written.partition(":")
    if not colon:
        places, name = "manifest", written
    if not equals or not name:
        raise OutputError(f"invalid annotation {text!r}", hint=_HINT)
    found = []
    for place in places.split(","):
        match = _PLACE.fullmatch(place)
        if match is None:
            raise OutputError(f"invalid annotation {text!r}: {place!r} is no place for one", hint=_HINT)
        found.append(_annotation(match[1], match[2], name, value, text))
    return tuple(found)


def annotation_option(key: str, value: str) -> Annotation | None:
    """The annotation of an ``-o`` option, as in ``annotation-index.NAME=VALUE``; None for other options.

    Raises OutputError.
    """
    match = _KEY.fullmatch(key)
    return None if match is None else _annotation(match[1] or "manifest", match[2], match[3], value, f"{key}={value}")


def _annotation(level: str, platform: str | None, name: str, value: str, text: str) -> Annotation:
    if level not in ANNOTATION_LEVELS:
        raise OutputError(f"invalid annotation {text!r}: {level!r} is no place for one", hint=_HINT)
    if platform is not None and level.startswith("index"):
        raise OutputError(f"invalid annotation {text!r}: an index is of all platforms", hint=f"write {level} alone")
    try:
        wanted = None if platform is None else Platform.parse(platform)
    except ShiplapError as error:
        raise OutputError(f"invalid annotation {text!r}: {error.message}", hint=error.hint) from error
    return Annotation(level, name, value, wanted)
