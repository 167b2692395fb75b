"""Outputs for people: taken of a job's workspace once its container has ended, whatever the job came to."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from ci.downloads import counted
from ci.ends import Published
from ci.execution.ending import Ending
from ci.execution.steps import Numbering
from ci.model import Job, Output
from ci.workspace.errors import OutputsError
from ci.workspace.naming import is_marked, keep_times
from ci.workspace.workspace import Workspace
from core.cancellation import asking
from core.events import StepOutput
from images.store import Store

_TAKING: Final = "[internal] take the outputs for people"


class Publishing:
    """The outputs for people of one attempt.

    mounted: paths in the workspace at which something else was mounted.
    """

    def __init__(self, job: Job, workspace: Workspace, store: Store, mounted: Collection[str]) -> None:
        self._named = [output for output in job.outputs if output.name]
        self._workspace = workspace
        self._store = store
        self._mounted = mounted

    def of_success(self) -> tuple[Published, ...]:
        """Raises OutputsError: what an author names has to be there."""
        return self._taken([output for output in self._named if output.on != "failure"])

    def of_failure(self, numbering: Numbering, ending: Ending) -> tuple[Published, ...]:
        """What there is. A step tells what cannot be taken. Raises JobCancelledError."""
        wanted = [replace(output, optional=True) for output in self._named if output.on != "success"]
        if not wanted:
            return ()
        with numbering.shown(_TAKING) as step, asking(ending.check_cancelled):
            try:
                return self._taken(wanted)
            except OutputsError as error:
                numbering.emit(StepOutput(step.id, 2, f"warning: {error.message}\n".encode(), time.time()))
                return ()

    def _taken(self, outputs: list[Output]) -> tuple[Published, ...]:
        found = []
        for name, keep_s in keep_times(outputs).items():
            entries = [output for output in outputs if output.name == name]
            layer = self._workspace.take_outputs(entries, mounted=self._mounted)
            if layer is None:
                continue
            with self._store.layers.open(layer) as tar:
                count, size = counted(tar)
            if count:
                found.append(Published(name, layer, count, size, keep_s, is_marked(entries)))
        return tuple(found)
