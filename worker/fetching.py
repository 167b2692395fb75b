"""The commit of a run from the mirror of its repository: for planning, and for each of its jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from builder.remotes.giturls import GitRemote, is_ref
from ci.source.commit import FetchedCommit, WantedCommit
from pipelines.model import GitSource
from pipelines.sources.git import as_source_errors
from worker.work import Work, remote_called, route_of


@contextlib.contextmanager
def fetched(
    work: Work, *, ref: str, commit: str, others: Sequence[str] = (), ask_head: bool = False
) -> Iterator[FetchedCommit]:
    """The commit, for as long as the context lasts.

    ref: a branch's or tag's full name; empty: only the commit counts.
    others, ask_head: as for ``Mirror.fetch``.
    Raises SourceErrors, and RepositoryError.
    """
    source = work.claim.run.source
    assert isinstance(source, GitSource), "only a repository has pipelines"
    # A tag may have moved, and is asked for each time; its commit is here. So is that of a branch whose name git is not
    # given, for it has what shells, or refspecs, would take for something else.
    is_branch = ref.startswith("refs/heads/") and is_ref(ref)
    with as_source_errors():
        remote, access = route_of(work, source)
        wanted = WantedCommit(
            work.claim.run.project,
            remote,
            access,
            ref if is_branch else commit,
            commit if is_branch else "",
            [other for other in others if is_ref(other)],
            fork="" if work.claim.run.is_trusted else work.claim.run.domain,
            base=_base(work, source),
            ask_head=ask_head,
        )
        opened = FetchedCommit(work.store, wanted, work.keeper.stopped.is_set)
    with opened:
        yield opened


def _base(work: Work, source: GitSource) -> GitRemote | None:
    """Of a fork's commit, the project's own repository: the fork borrows what the mirror of that has, if it is here.

    It is named, and never fetched from: the run of a fork may not.
    """
    if source.trusted:
        return None
    project = work.keeper.insist(lambda: work.resources.service.projects.get(work.claim.run.project))
    if not project.hook.repository:
        return None
    return remote_called(work, project.hook.repository)
