"""Whether a repository has pipelines, as far as earlier runs of its project tell: nobody has seen a new one yet."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from pipelines.model import GitSource
from pipelines.schema import runs

_LOOKED_AT: Final = 50  # runs of the project, the newest
_WAS_LOOKED_AT: Final = ("failed", "succeeded")  # others ended before somebody had its files, or may have


def had_pipelines(connection: Connection, project: str) -> bool:
    """Whether the last commit that somebody looked at had them."""
    wanted = select(runs.c.pipeline, runs.c.state, runs.c.source).where(runs.c.project == project)
    for row in connection.execute(wanted.order_by(runs.c.number.desc()).limit(_LOOKED_AT)):
        is_git = msgspec.json.decode(row.source).get("type") == GitSource.__struct_config__.tag
        if is_git and (row.pipeline or row.state in _WAS_LOOKED_AT):
            return bool(row.pipeline)
    return False
