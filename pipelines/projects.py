"""Projects: what runs belong to, with their limits, names of images and retention."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.model import Project
from pipelines.schema import projects
from pipelines.tags import check_template

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")


class Projects:
    """All projects. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Project:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.name == name)).first()
        if row is None:
            raise NotFoundError(f"there is no project {name}")
        return _from_row(row)

    def list(self) -> list[Project]:
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(select(projects).order_by(projects.c.name))]

    def put(self, project: Project) -> None:
        """Make or change it. Raises InvalidRequestError."""
        if min(project.concurrency, project.keep_runs, project.keep_days) < 0:
            raise InvalidRequestError("concurrency, keep_runs and keep_days are 0 or more")
        check_template(project.tag_template)
        values = msgspec.structs.asdict(project)
        with self._database.write() as connection:
            ensure_project(connection, project.name)
            connection.execute(update(projects).where(projects.c.name == project.name).values(values))


def ensure_project(connection: Connection, name: str) -> None:
    """Make it with default settings if it is new. Raises InvalidRequestError."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"invalid project name {name[:100]!r}", hint="lower-case letters, digits, '.', '_' and '-', at most 100"
        )
    if connection.execute(select(projects.c.name).where(projects.c.name == name)).first() is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(projects).values(msgspec.structs.asdict(Project(name))))
        except IntegrityError:
            return  # somebody else was quicker


def _from_row(row: Row[Any]) -> Project:
    return Project(row.name, row.concurrency, row.tag_template, row.keep_runs, row.keep_days)
