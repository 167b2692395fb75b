"""Runs of pipelines: several jobs of a run, what each needs, and what images mean in the run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("runs", sa.Column("pipeline", sa.String(100), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("plan", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("stop", sa.String(8), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("reason", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("late_at", sa.Float(), nullable=True))
    op.add_column("runs", sa.Column("before", sa.String(64), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("held", sa.Text(), nullable=False, server_default=""))
    op.add_column("image_tags", sa.Column("job", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("statuses", sa.Column("job", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("node", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("stop", sa.String(8), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "run_images",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
    )
