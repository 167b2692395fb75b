"""The files of the parts that a run's pipelines use."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from builder.remotes.access import git_header
from builder.remotes.gitroute import GitAccess
from ci.parts import ReadPart
from ci.source.commit import FetchedCommit
from ci.source.parts import PartsElsewhere, parts_of_commit
from core.settings import FetchSettings
from worker.connecting import bounds_of
from worker.work import Work


def part_reader(work: Work, commit: FetchedCommit, secrets: Mapping[str, bytes]) -> ReadPart:
    """Reads parts of the run's commit, and of other repositories with what the project has for their hosts.

    A fork has nothing, and mirrors of its own: what the project may fetch is not there for it.
    secrets: by name, what the runs of the pipeline get.
    """
    run, settings = work.claim.run, work.resources.service.settings
    # GIT_AUTH_TOKEN without a host would go to whichever host the file names.
    of_hosts = {name: value for name, value in secrets.items() if name.startswith("GIT_AUTH_") and "." in name}
    access = GitAccess(
        bounds_of(work.resources.settings),
        functools.partial(git_header, of_hosts) if run.is_trusted else None,
        ca_file=str(settings.git_ca_file) if settings.git_ca_file else None,
        bounds=FetchSettings.from_environ(),
    )
    project = run.project if run.is_trusted else f"{run.project} {run.domain}"
    elsewhere = PartsElsewhere(work.store.root, project, access, work.keeper.stopped.is_set)
    return parts_of_commit(commit, elsewhere)
