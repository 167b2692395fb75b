"""Starts runs when their time has come: exactly one for each time, whoever looks, and whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

import msgspec

from pipelines.errors import ArchivedError, ConflictError, DeniedError, InvalidRequestError
from pipelines.hooks.planning import by_hand
from pipelines.model import Run
from pipelines.projects.projects import Projects
from pipelines.runs.runs import Runs
from pipelines.runs.schedules import Schedules

BY: Final = "schedule"
"""Who such a run is said to be by."""

_log = logging.getLogger(__name__)


def start_due(schedules: Schedules, projects: Projects, runs: Runs) -> list[Run]:
    """Start what is due; the runs.

    A project whose settings allow no run has its time pass, and the log says so. So has one that is archived, silently.
    Raises DatabaseUnreachableError.
    """
    started = []
    for project, pipeline, place, due_at in schedules.due():
        run: Run | None = None
        # A project that is archived at this very moment: all of it is undone, and the next look lets its time pass.
        with contextlib.suppress(ConflictError), schedules.taken(project, pipeline, place, due_at) as taken:
            if taken is None:
                continue
            connection, due = taken
            if due.is_late:
                _log.warning("project %s: pipeline %s has missed its time", project, pipeline)
                continue
            try:
                wanted = by_hand(projects.get(project), due.branch, BY, "")
                trigger = msgspec.structs.replace(wanted.trigger, kind="cron", pipeline=pipeline)
                run = runs.insert(connection, wanted.request, trigger)
            except ArchivedError:
                continue
            except (DeniedError, InvalidRequestError) as error:
                _log.warning("project %s: pipeline %s cannot run: %s", project, pipeline, error.message)
                continue
            schedules.note_run(connection, project, pipeline, place, run.number)
        if run is None:
            continue
        runs.announce(run)
        started.append(run)
    return started
