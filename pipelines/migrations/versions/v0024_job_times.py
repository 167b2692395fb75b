"""How long jobs of projects waited and took, counted as they end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "job_times",
        sa.Column("project", sa.String(100), nullable=False),
        sa.Column("pipeline", sa.String(100), nullable=False),
        sa.Column("job", sa.String(200), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("waited_s", sa.Float(), nullable=False, server_default="0"),
        *(sa.Column(f"waited_{place}", sa.BigInteger(), nullable=False, server_default="0") for place in range(8)),
        sa.Column("took_s", sa.Float(), nullable=False, server_default="0"),
        *(sa.Column(f"took_{place}", sa.BigInteger(), nullable=False, server_default="0") for place in range(8)),
        sa.PrimaryKeyConstraint("project", "pipeline", "job"),
    )
