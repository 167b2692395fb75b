"""Projects can be archived: since when each is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.add_column("projects", sa.Column("archived_at", sa.Float()))
