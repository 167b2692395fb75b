"""Roles on projects, and the project of an entry of the audit trail.

Nobody loses a right: the service's roles, and the scopes of tokens, count in all projects as before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "project_roles",
        sa.Column("project", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "kind", "subject"),
    )
    op.create_index("project_roles_by_subject", "project_roles", ["kind", "subject"], unique=False)
    with op.batch_alter_table("audit") as table:
        table.add_column(sa.Column("project", sa.String(length=100), nullable=False, server_default=""))
    op.create_index("audit_by_project", "audit", ["project", "id"], unique=False)
