"""Who sent which files of build contexts. Files that are here already have no sender yet: each sends them once more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "senders",
        sa.Column("digest", sa.String(80), primary_key=True),
        sa.Column("sender", sa.String(200), primary_key=True),
    )
