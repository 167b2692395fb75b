"""The jobs of a run at a server: which there are, which somebody means, and where each is in the API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from cli.remote.errors import RemoteError, ServerError
from cli.remote.http import Client
from core.suggestions import suggestion
from pipelines.runs.jobnames import meant

FIRST_PLACE: Final = 1
"""The place of the job that planned the others, or is the build that the run is."""

_ENDED: Final = ("succeeded", "reused", "failed", "skipped", "left out", "cancelled", "error")


def list_jobs(client: Client, run: int) -> list[dict[str, Any]]:
    """The jobs of a run, in their order. Raises ServerErrors."""
    found: list[dict[str, Any]] = client.call("GET", f"/runs/{run}/jobs")["jobs"]
    return found


def known_jobs(client: Client, run: int) -> list[dict[str, Any]]:
    """``list_jobs`` of a run that is there; none at an older server. Raises ServerErrors."""
    try:
        return list_jobs(client, run)
    except ServerError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return []
        raise


def is_of_pipeline(job: dict[str, Any]) -> bool:
    """Whether a job is one of a pipeline's file."""
    return bool(job["place"] > FIRST_PLACE)


def chosen_jobs(jobs: list[dict[str, Any]], run: int, text: str) -> list[dict[str, Any]]:
    """The job with this number or name, or all of this matrix. Raises RemoteError when there is none."""
    places = meant(text, [(job["place"], job["name"], job.get("matrix", "")) for job in jobs])
    if not places:
        hint = suggestion(text, [job["name"] for job in jobs])
        raise RemoteError(f"run {run} has no job {text!r}", hint=hint or f"shiplap runs jobs {run} lists them")
    return [job for job in jobs if job["place"] in places]


def job_path(run: int, job: str | int) -> str:
    """A job's address in the API, by its number or its name. Raises RemoteError when it would lead elsewhere."""
    if any(part in ("", ".", "..") for part in str(job).split("/")):
        raise RemoteError(f"{job!r} is no name of a job", hint=f"shiplap runs jobs {run} lists them")
    return f"/runs/{run}/jobs/{quote(str(job), safe='')}"


def has_ended(job: dict[str, Any]) -> bool:
    return job["state"] in _ENDED


def has_failed(job: dict[str, Any]) -> bool:
    """Whether it failed, by its own fault or the machine's."""
    return job["state"] in ("failed", "error")


def is_bad(job: dict[str, Any]) -> bool:
    """Whether it ended in a way that its run is not to have. What may fail is not bad."""
    return (has_failed(job) and not job["may_fail"]) or job["state"] == "cancelled"


def has_log(job: dict[str, Any]) -> bool:
    """Whether a worker has taken it at least once, or it is a gate that has asked."""
    return bool(job["attempt"] or job["lines"])
