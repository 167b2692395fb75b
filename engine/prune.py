"""Removing the containers that do not run, all at once."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from engine.errors import ConflictError, ContainerNotFoundError
from engine.filters import checked, labels_match
from engine.lifecycle import Lifecycle
from engine.looking import Looker
from engine.times import asked_moment

_KNOWN: Final = ("until", "label", "label!")


def containers(looker: Looker, lifecycle: Lifecycle, filters: Any) -> tuple[list[str], int]:
    """Remove every container that does not run and fits the filters (``until``, ``label``, ``label!``).

    Returns their IDs, and the bytes that they had written. One that is started or removed meanwhile is passed over.
    """
    wanted = checked(filters, _KNOWN)
    bounds = [asked_moment(text) for text in wanted.get("until", ())]
    removed, freed = [], 0
    for row, state in looker.states():
        labels = row.summary["labels"]
        unwanted = any(labels_match([text], labels) for text in wanted.get("label!", ()))
        if state.is_up or unwanted or not labels_match(wanted.get("label", ()), labels):
            continue
        if any(row.created_ns > bound for bound in bounds):
            continue
        written = looker.sizes(row).written
        with contextlib.suppress(ContainerNotFoundError, ConflictError):
            lifecycle.remove(row.id)
            removed.append(row.id)
            freed += written
    return removed, freed
