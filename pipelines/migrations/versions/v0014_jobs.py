"""Runs and their jobs: what was a run's row becomes the row of its one job, which has the same number.

So steps, logs, secrets and faults stay where they are: they are a job's from now on, and no log is copied. ``runs`` is
made anew, of what belongs to the run as a whole.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0014"
down_revision = "0013"

_OF_JOBS = ("steps", "log_chunks", "run_secrets", "worker_faults")
_OF_RUNS_ALONE = (
    "project", "priority", "source", "trigger", "branch", "domain", "created_at", "cancelled_by", "superseded_by",
)  # fmt: skip
_OF_BOTH = ("number", "state", "finished_at")
_FOREIGN_KEYS = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}  # PostgreSQL names them so; SQLite's have no names
_ANEW = {"sqlite_autoincrement": True}  # which SQLAlchemy does not see in a table that it copies


def upgrade() -> None:
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    last = _last_number(connection) if is_sqlite else None
    for index in ("runs_by_branch", "runs_by_state", "runs_by_project"):
        op.drop_index(index, table_name="runs")
    op.rename_table("runs", "jobs")
    if not is_sqlite:
        op.execute("ALTER SEQUENCE runs_number_seq RENAME TO jobs_number_seq")
        op.execute("ALTER INDEX runs_pkey RENAME TO jobs_pkey")
    _make_runs()
    _make_jobs()
    for name in _OF_JOBS:
        op.execute(f"ALTER TABLE {name} RENAME COLUMN run TO job")
        if not is_sqlite:
            op.execute(f"ALTER TABLE {name} RENAME CONSTRAINT {name}_run_fkey TO {name}_job_fkey")
    with op.batch_alter_table("statuses", naming_convention=_FOREIGN_KEYS, table_kwargs=_ANEW) as table:
        table.drop_constraint("statuses_run_fkey", type_="foreignkey")
        table.create_foreign_key("statuses_run_fkey", "runs", ["run"], ["number"], ondelete="CASCADE")
        table.alter_column("context", existing_type=sa.String(100), type_=sa.String(255), existing_nullable=False)
    if not is_sqlite:
        op.execute("SELECT setval('runs_number_seq', last_value, is_called) FROM jobs_number_seq")
    elif last is not None:
        _go_on_after(connection, last)


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("branch", sa.String(length=255), nullable=False, server_default=""),
        sa.Column("domain", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("superseded_by", sa.Integer(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(["project"], ["projects.name"]),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_by_branch", "runs", ["project", "branch", "number"], unique=False)
    op.create_index("runs_by_state", "runs", ["state", "number"], unique=False)
    op.create_index("runs_by_project", "runs", ["project", "number"], unique=False)
    names = ", ".join((*_OF_BOTH, *_OF_RUNS_ALONE))
    op.execute(f"INSERT INTO runs ({names}) SELECT {names} FROM jobs")  # noqa: S608 - the names are ours


def _make_jobs() -> None:
    new = (
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("kind", sa.String(16), nullable=True),
    )
    for column in new:
        op.add_column("jobs", column)
    op.execute("UPDATE jobs SET run = number, place = 1, name = 'build', kind = 'build'")
    with op.batch_alter_table("jobs", naming_convention=_FOREIGN_KEYS, table_kwargs=_ANEW) as table:
        for column in new:
            table.alter_column(column.name, existing_type=column.type, nullable=False)
        for name in _OF_RUNS_ALONE:
            table.drop_column(name)
        table.alter_column("options", new_column_name="spec", existing_type=sa.Text(), existing_nullable=False)
        table.create_foreign_key("jobs_run_fkey", "runs", ["run"], ["number"], ondelete="CASCADE")
        table.create_unique_constraint("jobs_of_run", ["run", "place"])
    op.create_index("jobs_by_state", "jobs", ["state"], unique=False)


def _last_number(connection: Connection) -> int | None:
    """The last number that SQLite gave to a run, also when the run has gone; None: there was no run.

    Raises RuntimeError where foreign keys are on: the tables that are made anew would take what refers to them along.
    """
    if connection.execute(sa.text("PRAGMA foreign_keys")).scalar():
        raise RuntimeError("foreign keys have to be off during this migration")
    return connection.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")).scalar()


def _go_on_after(connection: Connection, last: int) -> None:
    connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name IN ('runs', 'jobs')"))
    for name in ("runs", "jobs"):
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": name, "seq": last}
        )
