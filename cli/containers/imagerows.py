"""What templates can show of images, and of how they were made: fields as docker's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from cli.containers.times import local
from cli.listing import Listing, Row, ellipsis
from cli.progress.text import one_line, size_text
from cli.table import age, created_time, stated_time

if TYPE_CHECKING:
    from images.images import HistoryEntry
    from images.store import Store
    from images.summary import Image

_COMMAND: Final = 45
_NONE: Final = "<none>"
_UNKNOWN: Final = "N/A"
"""docker's word for what only ``system df -v`` measures."""

IMAGES: Final = Listing(
    {
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
        "Platform": "PLATFORM",
    },
    ("Repository", "Tag", "ID", "CreatedSince", "Size"),
    "ID",
    "*formatter.imageContext",
)
WITH_DIGESTS: Final = IMAGES._replace(table=("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"))
HISTORY: Final = Listing(
    {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
    "ID",
    "*formatter.historyContext",
)


def image_rows(store: Store, images: Iterable[Image], *, no_trunc: bool) -> Iterator[Row]:
    """A row for each name of each image; one for an image without names."""
    now = time.time()
    for image in images:
        made = created_time(image)
        digests = {each.familiar_name: str(each.digest) for each in store.images.digests(image.id)}
        row: Row = {
            "ID": str(image.id) if no_trunc else image.id.short,
            "CreatedSince": age(max(0.0, now - made)),
            "CreatedAt": local(made),
            "Size": size_text(image.size_bytes),
            "VirtualSize": size_text(image.size_bytes),
            **dict.fromkeys(("SharedSize", "UniqueSize", "Containers"), _UNKNOWN),
            "Platform": str(image.config.platform),
        }
        names = [(name.familiar_name, name.tag or _NONE) for name in image.names]
        for repository, tag in names or [(_NONE, _NONE)]:
            yield {"Repository": repository, "Tag": tag, "Digest": digests.get(repository, _NONE), **row}


def history_rows(image: Image, entries: Iterable[HistoryEntry], *, no_trunc: bool, human: bool = True) -> Iterator[Row]:
    """The newest first. human: sizes and ages for people; else bytes and moments."""
    now = time.time()
    for position, line in enumerate(entries):
        made = stated_time(line.entry.created)
        since = "" if made is None else age(max(0.0, now - made)) if human else local(made)
        by = one_line(line.entry.created_by)
        yield {
            "ID": "<missing>" if position else str(image.id) if no_trunc else image.id.short,
            "CreatedSince": since,
            "CreatedAt": "" if made is None else local(made),
            "CreatedBy": by if no_trunc else ellipsis(by, _COMMAND),
            "Size": size_text(line.size_bytes) if human else str(line.size_bytes),
            "Comment": one_line(line.entry.comment),
        }
