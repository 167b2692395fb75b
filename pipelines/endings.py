"""How runs ended, and what a run repeats, in words that page, command line, log and forge share.

Imports nothing: the command line has runs as JSON, the service as structs.
"""

from __future__ import annotations


def why_cancelled(by: str, superseded_by: int) -> str:
    """The reason of a run that is cancelled. by: who asked for it; empty for nobody in particular."""
    if superseded_by:
        return f"superseded by #{superseded_by}"
    return f"cancelled by {by}" if by else "cancelled"


def ended(state: str, reason: str) -> str:
    """State and reason: ``succeeded``, ``failed: why``, ``cancelled by ana``, ``cancelled: superseded by #6``."""
    if not reason or reason.startswith(state):
        return reason or state
    return f"{state}: {reason}"


def repeated(retry_of: int, by: str) -> str:
    """``retry of #1 by ana``; empty for a run that repeats no other."""
    if not retry_of:
        return ""
    return f"retry of #{retry_of}" + (f" by {by}" if by else "")
