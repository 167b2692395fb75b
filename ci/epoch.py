"""The one time that every file of a workspace begins with.

A job could see a time, and the key of its result does not name it: so all files have the same. 1970 is not it, because
zip refuses that year.
"""

from __future__ import annotations

from typing import Final

BEGINNING: Final = 946_684_800
"""2000-01-01T00:00:00Z, in seconds since 1970."""
