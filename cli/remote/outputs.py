"""Outputs of jobs for people at a server: listed, and brought here."""

from __future__ import annotations

import http.client
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cli.remote.errors import RemoteError
from cli.remote.http import Client
from cli.remote.jobs import chosen_jobs, is_of_pipeline, job_path, list_jobs
from cli.unpacking import unpacking
from core.suggestions import suggestion

_SILENCE_S: Final = 120.0
_AT_ONCE: Final = 1 << 20


def outputs_of(client: Client, run: int, job: str | None) -> list[dict[str, Any]]:
    """The outputs of a job, or of all, each with ``job`` and ``place``. Raises ServerErrors, RemoteError."""
    jobs = [each for each in list_jobs(client, run) if is_of_pipeline(each)]
    chosen = jobs if job is None else chosen_jobs(jobs, run, job)
    found: list[dict[str, Any]] = []
    for each in chosen:
        listed = client.call("GET", f"{job_path(run, each['place'])}/outputs")["outputs"]
        found += [{"job": each["name"], "place": each["place"], **output} for output in listed]
    return found


def named(found: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those with this name. Raises RemoteError when there is none."""
    chosen = [output for output in found if output["name"] == name]
    if not chosen:
        names = [output["name"] for output in found]
        raise RemoteError(f"there is no output {name!r}", hint=suggestion(name, names) or _there_are(names))
    return chosen


def save(client: Client, run: int, output: dict[str, Any], place: Path) -> None:
    """Bring an output into a directory, which is new or empty: whole, or not at all.

    Raises CommandError, RemoteError, ServerErrors and OSErrors.
    """
    path = f"{job_path(run, output['place'])}/outputs/{quote(output['name'], safe='')}/archive"
    with unpacking(place) as unpack:
        response = client.stream(path, query={"format": "tar"}, silence_s=_SILENCE_S)
        try:
            with response:
                unpack(response)
                while response.read(_AT_ONCE):  # to its end, which says that nothing is missing
                    pass
        except (http.client.HTTPException, tarfile.TarError, OSError) as error:
            client.close()
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise RemoteError(f"the output {output['name']} did not come whole: {error}", hint="try again") from error


def _there_are(names: Sequence[str]) -> str:
    return f"there are {', '.join(dict.fromkeys(names))}" if names else "no job of the run has any that is for people"
