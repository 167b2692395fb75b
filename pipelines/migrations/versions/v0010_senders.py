"""Who sent which files of build contexts. Of those that are here nobody has yet: they are sent once more by each."""

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
