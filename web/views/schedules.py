"""When a project's pipelines run by themselves."""

from __future__ import annotations

from typing import Final

import msgspec

from pipelines.runs.schedules import ScheduleView
from web.calls import Call
from web.endpoints import Api
from web.views.names import ProjectName

api: Final = Api("schedules")


class ScheduleList(msgspec.Struct, frozen=True):
    """By pipeline, in the order of the file."""

    schedules: list[ScheduleView]


@api.endpoint("GET", "/projects/{project}/schedules", scope="read", errors={404: "There is no such project"})
def list_schedules(call: Call, project: ProjectName) -> ScheduleList:
    """List the times at which a project's pipelines run by themselves, each with the next three.

    They are those of the pipeline files in the newest commit of the default branch that was planned.
    """
    call.service.projects.get(project)
    return ScheduleList(list(call.service.schedules.list(project)))
