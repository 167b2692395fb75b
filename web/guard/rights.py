"""The one place that decides what somebody may do in a project: for pages, API, badges and the registry's images.

Somebody who may not even read a project gets 404, as if it did not exist; so also for its runs and images. Somebody who
may read it but not do what was asked gets 403, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from flask import g, request

from pipelines.accounts.roles import Level, Rights
from pipelines.model import Project, WorkerInfo
from pipelines.owning.ownership import owner_of
from web.backing import service as the_service
from web.errors import ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pipelines.service import Service

_RIGHTS: Final = "rights"
_LOOKING: Final = ("GET", "HEAD")


class Target(NamedTuple):
    """The target of a request. At most one member is given; all are empty for a request about no project.

    project: its name, which need not exist.
    run: a number.
    repository: a repository of images in the service's registry.
    """

    project: str = ""
    run: int = 0
    repository: str = ""

    @property
    def shown(self) -> str:
        if self.run:
            return f"run {self.run}"
        return f"repository {self.repository}" if self.repository else f"project {self.project}"


def check(service: Service, rights: Rights, needed: Level, target: Target) -> None:
    """Raise NotFoundError or ForbiddenError unless ``rights`` allow ``needed`` there. Notes the project for the audit.

    For a target without a project, it is enough to have ``read``, ``build`` or ``maintain`` in some project:
    ``visible`` then bounds what is shown.
    """
    setattr(g, _RIGHTS, rights)
    if target == Target():
        if not rights.may_somewhere(needed):
            yours = "" if rights.everywhere == "none" else f"; yours is to {_told(rights.everywhere)}"
            raise ForbiddenError(f"this needs the right to {_told(needed)}{yours}", hint="an administrator can give it")
        return
    if request.method in _LOOKING and rights.may_everywhere(needed):
        return
    project = _project(service, target)
    g.project = project or ""
    level = rights.everywhere if project is None else rights.level(project)
    if level == "none":
        raise NotFoundError(f"there is no {target.shown[:200]}")
    allowed = rights.may_everywhere(needed) if project is None else rights.may(project, needed)
    if not allowed:
        raise ForbiddenError(
            f"this needs the right to {_told(needed)} in project {project}; yours is to {_told(level)}",
            hint="who maintains the project can give it: shiplap project member set",
        )


def check_project(service: Service, rights: Rights, needed: Level, project: str) -> None:
    """``check`` for a project named in a body or query."""
    check(service, rights, needed, Target(project))


def visible(rights: Rights) -> frozenset[str] | None:
    """The projects that may be seen; None: all."""
    return rights.where("read")


def may_repository(service: Service, rights: Rights, level: Level, repository: str) -> bool:
    """Whether the rights allow this with the images of a repository, by the project that owns it."""
    if rights.may_everywhere(level):
        return True
    return rights.may(owner_of(repository, service.roles.project_names().__contains__), level)


def readable(service: Service, rights: Rights, repositories: Iterable[str]) -> Iterator[str]:
    """Those of the repositories whose images may be read; the projects are looked up once."""
    everywhere = rights.may_everywhere("read")
    is_project = (frozenset[str]() if everywhere else service.roles.project_names()).__contains__
    return (name for name in repositories if everywhere or rights.may(owner_of(name, is_project), "read"))


def seen_workers(service: Service, rights: Rights) -> list[WorkerInfo]:
    """All workers, with those of their runs that may be seen. Only who sees all runs learns why a worker is sick."""
    found = list(service.workers.list())
    seen = visible(rights)
    if seen is None:
        return found
    running = {run.number for run in service.listing.running() if run.project in seen}
    return [
        msgspec.structs.replace(worker, trouble="", runs=tuple(number for number in worker.runs if number in running))
        for worker in found
    ]


def bounded(service: Service, rights: Rights, wanted: Project) -> Project:
    """A project's settings as this sender may change them: only an administrator gives shares of the workers.

    Raises pipelines.NotFoundError.
    """
    if rights.may_everywhere("admin"):
        return wanted
    before = service.projects.get(wanted.name)
    return msgspec.structs.replace(wanted, concurrency=before.concurrency, weight=before.weight)


def may(level: Level, project: str = "") -> bool:
    """For templates: whether the request's sender may do this, in a project or, without one, in all."""
    rights: Rights = g.get(_RIGHTS) or Rights()
    return rights.may(project, level) if project else rights.may_everywhere(level)


def may_run(project: str) -> bool:
    """For templates: whether the request's sender may have the project run something. No archived project does."""
    if not may("build", project):
        return False
    if "archived" not in g:
        g.archived = the_service().roles.archived_names()
    return project not in g.archived


def _project(service: Service, target: Target) -> str | None:
    """The target's project. None: there is no such run, which only those learn who may see all runs."""
    if target.run:
        return service.roles.project_of_run(target.run)
    if target.repository:
        return owner_of(target.repository, service.roles.project_names().__contains__)
    return target.project


def _told(level: Level) -> str:
    return {"none": "nothing", "admin": "administer the service"}.get(level, level)
