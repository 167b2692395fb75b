"""What entries of the audit trail changed, from what to what. Entries that there are keep their texts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("audit", sa.Column("changes", sa.Text(), nullable=False, server_default=""))
