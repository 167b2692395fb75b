"""Outputs of jobs for people: which there are, their files, one of them, or all."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ci.downloads import Format, OutputFile
from pipelines.runs.outputs import FoundOutput, OutputView
from web.calls import Call, Streamed
from web.endpoints import Api
from web.outputfiles import files_of, sent_archive, sent_file
from web.views.jobs import Name
from web.views.names import ProjectName
from web.views.runs import Number

api: Final = Api("outputs")

OutputName = Annotated[str, msgspec.Meta(max_length=100, description="An output's name")]
Path = Annotated[str, msgspec.Meta(max_length=4096)]
_NO_OUTPUT: Final = {404: "There is no such run, job, output or file, or it is not kept any more"}


class OutputList(msgspec.Struct, frozen=True):
    """In the order of the pipeline's file."""

    outputs: list[OutputView]


class LatestOutputs(msgspec.Struct, frozen=True):
    """The outputs of a job's last success. run, place: where it was."""

    run: int
    place: int
    outputs: list[OutputView]


class FilesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files of an output are wanted.

    below: a directory; empty: all.
    after: how many to pass over.
    """

    below: Path = ""
    after: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class FilePage(msgspec.Struct, frozen=True):
    """Files, directories and links, at any depth, parents first. next: the ``after`` for more; null: that is all."""

    files: list[OutputFile]
    next: int | None


class FileQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """path: of the file, in the output."""

    path: Path


class ArchiveQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """format: ``tar``, or ``zip``, which has no symbolic links."""

    format: Format = "tar"


class LatestQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """job: its name."""

    branch: Annotated[str, msgspec.Meta(max_length=255)]
    job: Annotated[str, msgspec.Meta(max_length=200)]


@api.endpoint("GET", "/runs/{run}/jobs/{job}/outputs", scope="read", errors={404: "There is no such run or job"})
def list_outputs(call: Call, run: Number, job: Name) -> OutputList:
    """List the outputs of a job that have a name: those for people."""
    place = call.service.jobs.get(run, job).place
    return OutputList(list(call.service.outputs.of_run(run).get(place, ())))


@api.endpoint("GET", "/runs/{run}/jobs/{job}/outputs/{output}", scope="read", errors=_NO_OUTPUT)
def list_output_files(call: Call, run: Number, job: Name, output: OutputName, query: FilesQuery) -> FilePage:
    """List the files of an output, a page at a time."""
    files = files_of(_found(call, run, job, output), query.below, query.after, query.limit + 1)
    return FilePage(files[: query.limit], query.after + query.limit if len(files) > query.limit else None)


@api.endpoint(
    "GET", "/runs/{run}/jobs/{job}/outputs/{output}/file", scope="read", media="application/octet-stream",
    errors=_NO_OUTPUT,
)  # fmt: skip
def read_output_file(call: Call, run: Number, job: Name, output: OutputName, query: FileQuery) -> Streamed:
    """Read one file of an output. Symbolic links are not followed."""
    return sent_file(_found(call, run, job, output), query.path)


@api.endpoint(
    "GET", "/runs/{run}/jobs/{job}/outputs/{output}/archive", scope="read", media="application/octet-stream",
    errors=_NO_OUTPUT,
)  # fmt: skip
def read_output_archive(call: Call, run: Number, job: Name, output: OutputName, query: ArchiveQuery) -> Streamed:
    """Read all of an output as one archive. Its files have the time at which the job ended."""
    return sent_archive(_found(call, run, job, output), query.format)


@api.endpoint("GET", "/projects/{project}/latest", scope="read", errors={404: "There is no such success of that job"})
def show_latest_outputs(call: Call, project: ProjectName, query: LatestQuery) -> LatestOutputs:
    """Show the outputs of a job in the last run of a branch that succeeded."""
    call.service.projects.get(project)
    found = call.service.outputs.latest(project, query.branch, query.job)
    return LatestOutputs(found[0].run, found[0].place, [each.view for each in found])


def _found(call: Call, run: int, job: str, output: str) -> FoundOutput:
    return call.service.outputs.get(run, call.service.jobs.get(run, job).place, output)
