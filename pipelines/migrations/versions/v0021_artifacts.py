"""Where what jobs output is: on which host, and what of it is in the service's registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    for name in ("host", "left_at", "to_send"):
        op.add_column("jobs", sa.Column(name, sa.String(64), nullable=False, server_default=""))
    op.create_index("jobs_to_send", "jobs", ["to_send"], unique=False)
    op.add_column("workers", sa.Column("host", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "artifacts",
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("manifest", sa.String(80), nullable=False),
        sa.Column("content", sa.String(80), nullable=False),
        sa.Column("blob", sa.String(80), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "kind", "name"),
    )
    op.create_index("artifacts_by_manifest", "artifacts", ["repository", "manifest"], unique=False)
    op.create_table(
        "output_tokens",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("project", sa.String(100), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("output_tokens_by_job", "output_tokens", ["job"], unique=False)
