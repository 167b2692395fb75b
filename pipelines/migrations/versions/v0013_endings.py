"""Who cancelled a run, and which one superseded it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("runs", sa.Column("cancelled_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("superseded_by", sa.Integer(), nullable=False, server_default="0"))
