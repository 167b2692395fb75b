"""The runs of a branch are found without its project: an index."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_index("runs_of_branch", "runs", ["branch", "number"], unique=False)
