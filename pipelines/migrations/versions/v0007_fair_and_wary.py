"""Weights of projects, pauses between attempts, and which workers failed at what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("projects") as table:
        table.add_column(sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("not_before", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("failed_on", sa.Text(), nullable=False, server_default="[]"))
    op.create_table(
        "worker_faults",
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("worker", "run"),
    )
