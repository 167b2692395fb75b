"""What a job reports: listened for while it prints, and read from its workspace once its container has ended."""

from __future__ import annotations

import time
from typing import Final

from ci.execution.ending import Ending
from ci.execution.steps import Numbering
from ci.model import ReportsWanted
from ci.reports.coverage import CoverageReader
from ci.reports.files import written_in
from ci.reports.model import Reports
from ci.workspace.workspace import Workspace
from core.cancellation import asking
from core.events import Monitor, StepOutput
from core.masking import Masker

READING: Final = "[internal] read the reports"


class Reporting:
    """The reports of one attempt.

    Made by: the attempt, before its command runs. Threads: its own.

    monitor: what the command prints goes through it.
    """

    def __init__(self, wanted: ReportsWanted | None, numbering: Numbering, masker: Masker) -> None:
        self._wanted = wanted
        self._numbering = numbering
        self._masker = masker
        self._coverage = CoverageReader(numbering, wanted.coverage) if wanted and wanted.coverage else None
        self.monitor: Monitor = self._coverage or numbering

    def collected(self, workspace: Workspace, ending: Ending) -> Reports | None:
        """What there is, of a job that failed or is late, too; None: nothing was asked for, or is there.

        A step tells what could not be read. Raises JobCancelledError.
        """
        if self._wanted is None:
            return None
        coverage = None if self._coverage is None else self._coverage.coverage()
        with self._numbering.shown(READING) as step, asking(ending.check_cancelled):
            with written_in(workspace.written) as written:
                from ci.reports.collecting import collect  # most jobs report nothing

                found = collect(self._wanted, written, coverage, self._masker)
            for note in found.notes:
                self._numbering.emit(StepOutput(step.id, 2, f"warning: {note}\n".encode(), time.time()))
        return found or None
