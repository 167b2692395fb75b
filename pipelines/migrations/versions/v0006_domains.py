"""The domains of runs: for whom each is. Earlier runs get theirs when they start, or are tried again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("domain", sa.Text(), nullable=False, server_default=""))
