"""What projects are given beyond their own, log-ins to outside registries, and the registry tokens of runs.

Existing projects keep what they could use until now: each the service's secrets, the workers' log-ins, and the
repositories (of images, and bare ones) that its settings name.
"""

from __future__ import annotations

import json
import re

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_MEMBER = re.compile(r"\{[^{}]*\}")
_BARE = re.compile(r"file://.*?/git/([^/]+?)(?:\.git)?(?:/.*)?$")


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("project", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("may_push", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("project", "kind", "name"),
    )
    op.create_table(
        "registry_logins",
        sa.Column("registry", sa.String(length=300), nullable=False),
        sa.Column("username", sa.String(length=300), nullable=False),
        sa.Column("password", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("registry"),
    )
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("token", sa.String(length=64), nullable=False, server_default=""))
    _keep_what_is_used()


def _keep_what_is_used() -> None:
    connection = op.get_bind()
    projects = connection.execute(sa.text("SELECT name, tag_template, hook FROM projects")).all()
    names = {row.name for row in projects}
    stored = connection.execute(sa.text("SELECT name FROM secrets WHERE project = ''")).scalars()
    given = {("*", "secret", name) for name in stored}
    if projects:
        given.add(("*", "login", "*"))
    for row in projects:
        for repository in _repositories(row.tag_template, row.name):
            if _owner(repository, names) != row.name:
                given.add((row.name, "image", repository))
        bare = _BARE.match(json.loads(row.hook).get("repository", ""))
        if bare and bare[1] != row.name:
            given.add((row.name, "bare", bare[1]))
    insert = sa.text("INSERT INTO grants (project, kind, name, may_push) VALUES (:project, :kind, :name, :push)")
    for project, kind, name in sorted(given):
        connection.execute(insert, {"project": project, "kind": kind, "name": name, "push": kind == "image"})


def _repositories(template: str, project: str) -> list[str]:
    """The repositories of the service's own registry in a template; ``*`` stands for parts that differ by run."""
    found = []
    for part in re.split(r"[\s,]+", template.strip()):
        head, _, tail = part.rpartition("/")
        name = f"{head}/{tail.partition(':')[0]}".lstrip("/")
        if name.startswith("{registry}/"):
            found.append(_MEMBER.sub("*", name.removeprefix("{registry}/").replace("{project}", project)))
    return found


def _owner(repository: str, projects: set[str]) -> str:
    """The owning project, by the rules of ``pipelines.owning.ownership`` at this version."""
    first, _, rest = repository.partition("/")
    if first == "cache" and rest:
        first = rest.partition("/")[0]
    return first if first in projects else "default"
