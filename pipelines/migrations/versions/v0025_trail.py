"""Which commit runs are of, and which images they made: of the runs that there are, as far as their rows say it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0025"
down_revision = "0024"

_BATCH = 200  # a plan may have a megabyte
_LONGEST_NAME = 255
_LONGEST_ID = 80


def upgrade() -> None:
    op.add_column("runs", sa.Column("commit", sa.String(64), nullable=False, server_default=""))
    op.create_index("runs_by_commit", "runs", ["project", "commit"], unique=False)
    op.create_table(
        "made_images",
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("registry", sa.String(255), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.String(80), nullable=False),
        sa.Column("image", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "registry", "repository"),
    )
    op.create_index("made_images_by_run", "made_images", ["run"], unique=False)
    op.create_index("made_images_by_manifest", "made_images", ["repository", "manifest"], unique=False)
    op.create_index("made_images_by_image", "made_images", ["image"], unique=False)
    connection = op.get_bind()
    _commits(connection)
    _images(connection)


def _commits(connection: Connection) -> None:
    """A pipeline's plan knows the commit; of a build alone what the forge said counts."""
    for rows in _some(connection, "SELECT number, plan, trigger FROM runs WHERE number > :after ORDER BY number"):
        found = [{"its": row.number, "commit": _commit(row)} for row in rows]
        known = [each for each in found if each["commit"]]
        if known:
            connection.execute(sa.text('UPDATE runs SET "commit" = :commit WHERE number = :its'), known)


def _images(connection: Connection) -> None:
    for rows in _some(
        connection,
        "SELECT number, run, kind, result FROM jobs WHERE number > :after AND state IN ('succeeded', 'reused')"
        " AND result IS NOT NULL ORDER BY number",
    ):
        made = [each for row in rows for each in _made(row)]
        if made:
            connection.execute(
                sa.text(
                    "INSERT INTO made_images (job, registry, repository, run, manifest, image)"
                    " VALUES (:job, :registry, :repository, :run, :manifest, :image)"
                ),
                made,
            )


def _some(connection: Connection, statement: str) -> Iterator[Any]:
    after = 0
    while rows := connection.execute(sa.text(f"{statement} LIMIT :many"), {"after": after, "many": _BATCH}).all():
        yield rows
        after = rows[-1].number


def _commit(row: Any) -> str:
    plan = json.loads(row.plan) if row.plan else {}
    found: str = plan.get("commit") or json.loads(row.trigger).get("commit") or ""
    return found[:64]


def _made(row: Any) -> Iterator[dict[str, object]]:
    result = json.loads(row.result)
    exports = result.get("exports") or {}
    manifest = result.get("manifest") or exports.get("DIGEST") or ""
    image = result.get("image") or ""
    names = result.get("names") or [exports.get("IMAGE") or ""]
    if not (manifest and image) or max(len(manifest), len(image)) > _LONGEST_ID:
        return
    for registry, repository in dict.fromkeys(_place(name) for name in names if name):
        if registry and max(len(registry), len(repository)) <= _LONGEST_NAME:
            its = {"registry": registry, "repository": repository, "manifest": manifest, "image": image}
            yield {"job": row.number, "run": row.run, **its}


def _place(name: str) -> tuple[str, str]:
    """Registry and repository of a name that has a registry; those without one were pushed nowhere that is ours."""
    first, slash, rest = name.partition("@")[0].partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "", ""
    path, colon, tag = rest.rpartition(":")
    return first, path if colon and "/" not in tag else rest
