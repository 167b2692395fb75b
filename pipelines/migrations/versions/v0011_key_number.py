"""The number of the key that secrets are sealed with: a worker that has another one, or none, is not to start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table("key_numbers", sa.Column("number", sa.String(16), primary_key=True))
