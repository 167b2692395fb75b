"""What JSON from outside must not contain, whatever the document is about."""

from __future__ import annotations

import re
from typing import Final

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an even number of backslashes before it are themselves escaped


def has_nul(document: bytes) -> bool:
    """Whether a string of this JSON has a NUL character, which PostgreSQL cannot store and no program can be given."""
    return _NUL.search(document) is not None
