"""Secrets of projects and of single runs; counters that outlive the runs that they counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "scoped_secrets",
        sa.Column("project", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.execute(
        "INSERT INTO scoped_secrets (project, name, value, created_at) SELECT '', name, value, created_at FROM secrets"
    )
    op.drop_table("secrets")
    op.rename_table("scoped_secrets", "secrets")
    op.create_table(
        "run_secrets",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("own_secrets", sa.Text(), nullable=False, server_default="[]"))
