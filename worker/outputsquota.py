"""The quota of a project for outputs for people: what they may take of a host's store.

What failed jobs left for shells counts, too, and gives way: no job fails because of it, and no output is lost.
"""

from __future__ import annotations

from msgspec.structs import replace

from ci.ends import JobOutcome
from images.kept import Kept
from pipelines.database import Database
from pipelines.runs.keptoutputs import taken_by_project
from worker.keptrows import drop_failed


def within_quota(database: Database, kept: Kept, project: str, outcome: JobOutcome, most: int) -> JobOutcome:
    """The outcome of a job; a failure when its outputs for people are more than its project has room for.

    most: bytes of all that a project's runs keep for people on this host; 0: as much as the disk has. A job that failed
    anyway keeps none of them, and says so. Two jobs that end at the same moment may exceed it together, by what each
    has. Raises DatabaseUnreachableError.
    """
    new = sum(each.size for each in outcome.published)
    if not most or not new:
        return outcome
    taken = taken_by_project(database, kept).get(project, 0)
    if taken + new > most:
        drop_failed(database, kept, project)
        taken = taken_by_project(database, kept).get(project, 0)
    if taken + new <= most:
        return outcome
    told = (
        f"its outputs for people have {new} bytes, and {taken} of the {most} are taken that project {project} may keep"
        " on a host (SHIPLAP_PROJECT_OUTPUTS_MAX): output less, or keep it for a shorter time, by `keep`"
    )
    if outcome.state == "failed":
        message = f"{outcome.message}; {told}" if outcome.message else told
        return replace(outcome, message=message, published=())
    return replace(outcome, state="failed", failure="limit", message=told, published=(), outputs=None, exports={})
