"""Default names of images: which run has which. Existing projects keep their templates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "image_tags",
        sa.Column("project", sa.String(100), sa.ForeignKey("projects.name"), primary_key=True),
        sa.Column("tag", sa.String(128), primary_key=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
    )
