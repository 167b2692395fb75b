"""Groups of jobs and runs, of which only so many go on at once in a project."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("runs", sa.Column("group_name", sa.String(200), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("group_state", sa.String(8), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("group_name", sa.String(200), nullable=False, server_default=""))
    op.create_index("runs_by_group", "runs", ["group_state"], unique=False)
