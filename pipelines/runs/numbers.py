"""The numbers that runs were given: none is given twice, whatever is removed."""

from __future__ import annotations

from sqlalchemy import text

from pipelines.database import Database


def newest_run(database: Database) -> int:
    """The highest number that a run was ever given in this database; 0: none was. Raises DatabaseUnreachableError."""
    with database.read() as connection:
        if connection.dialect.name == "sqlite":
            wanted = text("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")
        else:
            wanted = text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM runs_number_seq")
        return int(connection.execute(wanted).scalar() or 0)
