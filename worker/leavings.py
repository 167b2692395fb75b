"""What a failed job leaves on this host for a shell in it, where its project wants that."""

from __future__ import annotations

import time
from typing import Self

from ci.failedfiles import SHELL_S, FailedFiles, NewFiles
from core.digests import DiffID
from pipelines.runs.keptoutputs import taken_by_project
from worker.keptrows import failed_base_name, failed_name
from worker.work import Work


class Leavings:
    """Of one attempt. files: what is kept of it; None: nothing. until: until when, in seconds since the epoch."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._names = [name(work.claim.run.number, work.claim.name) for name in (failed_name, failed_base_name)]
        self.files: FailedFiles | None = None
        self.until = 0.0

    @classmethod
    def of(cls, work: Work) -> Self | None:
        """For the project of the attempt; None where it does not want to have such files."""
        service, project = work.resources.service, work.claim.run.project
        return cls(work) if work.keeper.insist(lambda: service.projects.get(project)).keep_failed else None

    def keep(self, new: NewFiles) -> str:
        """See ``ci.failedfiles.Keep``. Raises what ``images.kept`` raises."""
        work, own = self._work, _own_layers(new.files)
        service, project = work.resources.service, work.claim.run.project
        most = service.settings.project_outputs_max
        if most:
            taken = work.keeper.insist(lambda: taken_by_project(service.database, work.store.kept)).get(project, 0)
            if taken + new.size_bytes > most:
                return (
                    f"it has {new.size_bytes} bytes, and {taken} of the {most} are taken that project {project} may"
                    " keep on a host (SHIPLAP_PROJECT_OUTPUTS_MAX)"
                )
        self.until = time.time() + SHELL_S
        kept, (name, base) = work.store.kept, self._names
        kept.keep(base, [layer for layer in new.files.layers if layer not in own], until=self.until)
        kept.keep(name, own, until=self.until)
        self.files = new.files
        return ""

    def still_kept(self) -> FailedFiles | None:
        """What is kept of it by now: outputs for people may have needed the place (``worker.outputsquota``)."""
        name = self._names[0]
        return self.files if name in self._work.store.kept.names(name) else None

    def drop(self) -> None:
        """Keep nothing of it: the job is tried again, or did not fail."""
        self.files = None
        self._work.store.kept.drop(self._names)


def _own_layers(files: FailedFiles) -> list[DiffID]:
    """Those that the job itself wrote: the topmost of each."""
    return list(dict.fromkeys((files.root[-1], files.workspace[-1])))
