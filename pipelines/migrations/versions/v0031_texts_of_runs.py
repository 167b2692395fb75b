"""What runs are found by has a table and an index; lists of runs by state read an index alone."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0031"
down_revision = "0030"

_BATCH = 500
_PART = 4_000
_TEXT = 16_000
_NAME = 200
_OF_TRIGGER = ("title", "branch", "tag", "commit", "target", "pipeline", "author", "url")
_OF_SOURCE = ("context", "url", "ref", "subdirectory", "branch", "tag", "commit")
_LISTS = {
    "runs_by_branch": ["project", "branch", "number", "state"],
    "runs_of_branch": ["branch", "number", "state"],
    "runs_by_state": ["state", "number", "project"],
    "runs_by_project": ["project", "number", "state"],
}

_IN_SQLITE = (
    (
        "CREATE VIRTUAL TABLE run_grams USING fts5(text, content='run_texts', content_rowid='run',"
        " tokenize='trigram case_sensitive 1', detail='none', columnsize=0)"
    ),
    (
        "CREATE TRIGGER run_texts_added AFTER INSERT ON run_texts BEGIN"
        " INSERT INTO run_grams (rowid, text) VALUES (new.run, new.text); END"
    ),
    (
        "CREATE TRIGGER run_texts_removed AFTER DELETE ON run_texts BEGIN"
        " INSERT INTO run_grams (run_grams, rowid, text) VALUES ('delete', old.run, old.text); END"
    ),
    (
        "CREATE TRIGGER run_texts_changed AFTER UPDATE ON run_texts BEGIN"
        " INSERT INTO run_grams (run_grams, rowid, text) VALUES ('delete', old.run, old.text);"
        " INSERT INTO run_grams (rowid, text) VALUES (new.run, new.text); END"
    ),
)
_IN_POSTGRESQL = (
    # One, two and three characters in a row, each such once. Characters are counted by a window: substr() would count
    # from the text's beginning for each.
    (
        "CREATE FUNCTION shiplap_grams(text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$"
        " SELECT coalesce(array_agg(DISTINCT gram), '{}') FROM ("
        "SELECT unnest(ARRAY[a, a || b, a || b || c]) AS gram FROM ("
        "SELECT a, lead(a, 1) OVER (ORDER BY i) AS b, lead(a, 2) OVER (ORDER BY i) AS c"
        " FROM unnest(string_to_array($1, NULL)) WITH ORDINALITY AS each(a, i)) AS places"
        ") AS grams WHERE gram IS NOT NULL $$"
    ),
    "CREATE INDEX run_texts_by_grams ON run_texts USING gin (shiplap_grams(text)) WITH (gin_pending_list_limit = 256)",
)


def upgrade() -> None:
    for name, columns in _LISTS.items():
        op.drop_index(name, "runs")
        op.create_index(name, "runs", columns, unique=False)
    op.create_table(
        "run_texts",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run"),
    )
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _IN_SQLITE if is_sqlite else ():
        connection.exec_driver_sql(statement)
    _write_texts(connection)
    for statement in () if is_sqlite else _IN_POSTGRESQL:  # an index is made at once of what there is
        connection.exec_driver_sql(statement)


def _write_texts(connection: Connection) -> None:
    after = 0
    batch = sa.text(
        "SELECT runs.number, runs.project, runs.source, runs.trigger, jobs.spec FROM runs"
        " LEFT JOIN jobs ON jobs.run = runs.number AND jobs.place = 1"
        " WHERE runs.number > :after ORDER BY runs.number LIMIT :many"
    )
    while rows := connection.execute(batch, {"after": after, "many": _BATCH}).all():
        found = [{"run": row.number, "text": _text(row)} for row in rows]
        connection.execute(sa.text("INSERT INTO run_texts (run, text) VALUES (:run, :text)"), found)
        after = rows[-1].number


def _text(row: Any) -> str:
    by = _folded(json.loads(row.trigger).get("by") or "")[:_NAME]
    lines = dict.fromkeys(_folded(part[:_PART]) for part in _parts(row) if part)
    return "\n".join((f"\x01{by}\x02" if by else "", *lines))[:_TEXT]


def _parts(row: Any) -> Iterator[str]:
    trigger, source, options = json.loads(row.trigger), json.loads(row.source), json.loads(row.spec or "{}")
    yield row.project
    yield from (trigger.get(name) or "" for name in _OF_TRIGGER)
    yield from (source.get(name) or "" for name in _OF_SOURCE)
    yield from options.get("tags") or ()


def _folded(text: str) -> str:
    kinds = ((each, unicodedata.category(each)) for each in text)
    plain = "".join(" " if kind == "Cc" else each for each, kind in kinds if kind != "Cf")
    return unicodedata.normalize("NFC", plain.casefold())
