"""Pages of outputs for people: their files to look at and to save, and links to a branch's newest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast, get_args
from urllib.parse import quote

from flask import Blueprint, Response, redirect, request

from ci.downloads import Format
from pipelines.errors import NotFoundError
from web import previews
from web.backing import service
from web.calls import Streamed
from web.outputfiles import beginning, entry_of, files_in, sent_archive, sent_file
from web.pages.frame import page

of_runs: Final = Blueprint("run_output_pages", __name__)
of_projects: Final = Blueprint("project_output_pages", __name__)
previewed: Final = Blueprint("previews", __name__)

_SHOWN: Final = 1000
_SHOWN_BYTES: Final = 256 << 10
"""Of a text, on its page."""

_LONGEST_BRANCH: Final = 8
"""Parts of a branch's name, between slashes, that a link is tried with."""


@of_runs.get("/runs/<int:number>/jobs/<int:place>/outputs/<name>")
def show_output(number: int, place: int, name: str) -> Response:
    """What is right in a directory of an output."""
    run = service().runs.get(number)
    found = service().outputs.get(number, place, name)
    directory = request.args.get("in", "").strip("/")
    files, count = files_in(found, directory, _SHOWN)
    if directory and not files:
        raise NotFoundError(f"the output {name} has no directory {directory[:200]}")
    return page(
        "run_output.html",
        run=run,
        found=found,
        host=request.host,
        base=f"/runs/{number}/jobs/{place}/outputs/{name}",
        directory=directory,
        steps=_steps(directory),
        files=files,
        more=count - len(files),
        kind_of=previews.kind_of,
    )


@of_runs.get("/runs/<int:number>/jobs/<int:place>/outputs/<name>/files/<path:path>")
def save_file(number: int, place: int, name: str, path: str) -> Response:
    """One file, to be saved: nothing of it is shown here."""
    return _sent(sent_file(service().outputs.get(number, place, name), path))


@of_runs.get("/runs/<int:number>/jobs/<int:place>/outputs/<name>/open")
def open_output(number: int, place: int, name: str) -> Response:
    """What an output is opened by: its page that is nearest to the top, or its one file; else what is in it."""
    found = service().outputs.get(number, place, name)
    path = entry_of(found)
    base = f"/runs/{number}/jobs/{place}/outputs/{name}"
    return _to(f"{base}/look/{quote(path)}" if path else base)


@of_runs.get("/runs/<int:number>/jobs/<int:place>/outputs/<name>/look/<path:path>")
def look_at_file(number: int, place: int, name: str, path: str) -> Response:
    """A file to look at: an image, the beginning of a text; a page of HTML has an address of its own."""
    run = service().runs.get(number)
    found = service().outputs.get(number, place, name)
    kind = previews.kind_of(path)
    if not kind:
        raise NotFoundError(f"{path[:200]} is not shown, only saved")
    if kind == "page":
        return _to(previews.address(found, path, runs_scripts=True))
    text, is_cut = beginning(found, path, _SHOWN_BYTES) if kind == "text" else ("", False)
    return page(
        "run_output_file.html",
        run=run,
        found=found,
        base=f"/runs/{number}/jobs/{place}/outputs/{name}",
        path=path,
        steps=_steps(path),
        kind=kind,
        text=text,
        is_cut=is_cut,
        shown_at=previews.address(found, path, runs_scripts=False),
    )


@of_runs.get("/runs/<int:number>/jobs/<int:place>/outputs/<name>/archive.<form>")
def save_archive(number: int, place: int, name: str, form: str) -> Response:
    """All of an output, to be saved."""
    if form not in get_args(Format):
        raise NotFoundError(f"there are archives of kind {' and '.join(get_args(Format))}")
    return _sent(sent_archive(service().outputs.get(number, place, name), cast("Format", form)))


@of_projects.get("/projects/<name>/latest/<path:rest>")
def save_latest(name: str, rest: str) -> Response:
    """The file ``BRANCH/JOB/PATH`` of the last run that succeeded; without PATH, the page of what there is."""
    service().projects.get(name)
    parts = rest.strip("/").split("/")
    for branch, job, path in _readings(parts):
        try:
            found = service().outputs.latest(name, branch, job)
        except NotFoundError:
            continue
        if not path:
            first = found[0]
            return _to(f"/runs/{first.run}/jobs/{first.place}/outputs/{first.view.name}")
        for each in found:
            try:
                return _sent(sent_file(each, path))
            except NotFoundError:
                continue
    raise NotFoundError(
        f"no run that succeeded has {rest[:200]}",
        hint="/projects/PROJECT/latest/BRANCH/JOB/PATH",
    )


@previewed.get("/o/<ticket>/<name>/")
@previewed.get("/o/<ticket>/<name>/<path:path>")
def show_file(ticket: str, name: str, path: str = "") -> Response:
    """A file as a browser shows it, for whoever has the address. It has no session, and asks for none."""
    found = previews.sent(ticket, name, path, request.environ)
    return Response(found.pieces, headers=dict(found.headers))


def _readings(parts: list[str]) -> Iterator[tuple[str, str, str]]:
    """Branch, job and path, as a link may mean them: names of branches have slashes, and those of a part's jobs one."""
    for end in range(1, min(len(parts), _LONGEST_BRANCH + 1)):
        for job_end in (end + 1, end + 2):
            if job_end <= len(parts):
                yield "/".join(parts[:end]), "/".join(parts[end:job_end]), "/".join(parts[job_end:])


def _steps(directory: str) -> list[tuple[str, str]]:
    """The directories on the way to one: of each its name, and its path."""
    parts = directory.split("/") if directory else []
    return [(part, "/".join(parts[: end + 1])) for end, part in enumerate(parts)]


def _sent(found: Streamed) -> Response:
    return Response(found.pieces, content_type="application/octet-stream", headers=dict(found.headers))


def _to(place: str) -> Response:
    answer = redirect(place, 303)
    assert isinstance(answer, Response)
    return answer
