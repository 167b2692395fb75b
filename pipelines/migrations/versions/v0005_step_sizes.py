"""The sizes of the layers that steps made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("steps") as table:
        table.add_column(sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"))
