"""The borders of a project: images and bare repositories that its runs may name, its own and those that it was given.

They are checked when a run is submitted, and again by the worker, for names may come from a template. The registry
itself decides what it takes, by the run's token (``pipelines.accounts.runtokens``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import Connection

from core.references import Reference
from pipelines.database import Database
from pipelines.errors import DeniedError
from pipelines.model import GitSource, RunRequest
from pipelines.owning.grants import covers, has_grant, images_of
from pipelines.owning.ownership import bare_owner, owner_of
from pipelines.schema import projects


class Borders:
    """Checks names against borders. Thread-safe.

    registries: gives the hosts by which the service's own registry is known at this moment.
    local: the directory of bare repositories.
    """

    def __init__(self, database: Database, registries: Callable[[], frozenset[str]], local: Path) -> None:
        self._database = database
        self._registries = registries
        self._local = local

    def check_request(self, connection: Connection, request: RunRequest) -> None:
        """Check a request, whose tags are valid names of images already. Raises DeniedError."""
        self._check_names(connection, request.project, [Reference.parse(tag) for tag in request.options.tags])
        if isinstance(request.source, GitSource):
            self.check_bare(connection, request.project, request.source.url)

    def check_names(self, project: str, names: Iterable[Reference]) -> None:
        """Check that the project's images may have these names. Raises DeniedError."""
        with self._database.read() as connection:
            self._check_names(connection, project, names)

    def check_source(self, project: str, url: str) -> None:
        """``check_bare`` on a connection of its own."""
        with self._database.read() as connection:
            self.check_bare(connection, project, url)

    def check_bare(self, connection: Connection, project: str, url: str) -> None:
        """Check that the project may fetch from this URL, if it is a file URL. Raises DeniedError."""
        owner = bare_owner(url, self._local)
        if owner and owner != project and not has_grant(connection, project, "bare", owner):
            raise DeniedError(
                f"{url[:200]} belongs to project {owner}, not to {project}",
                hint=f"an administrator can give it: shiplap grant add {project} bare {owner}",
            )

    def _check_names(self, connection: Connection, project: str, names: Iterable[Reference]) -> None:
        own = [name.familiar_name for name in names if _is_bare(name)]
        hosts = self._registries()
        own += [name.path for name in names if not _is_bare(name) and name.domain in hosts]
        given = images_of(connection, project) if own else []

        def is_project(name: str) -> bool:
            return name == project or _is_project(connection, name)

        for repository in own:
            owner = owner_of(repository, is_project)
            if owner != project and not covers(given, repository, push=True):
                raise DeniedError(
                    f"the image {repository} belongs to project {owner}, not to {project}",
                    hint=f"call it {project} or {project}/…; or an administrator gives it: "
                    f"shiplap grant add {project} image {repository} --push",
                )


def _is_bare(name: Reference) -> bool:
    """Whether the name has no registry, as docker.io's names: then it is in the service's own."""
    return name.familiar_name != name.name


def _is_project(connection: Connection, name: str) -> bool:
    return connection.execute(select(projects.c.name).where(projects.c.name == name)).first() is not None
