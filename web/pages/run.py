"""The page of one run: its steps drawn to scale, its log, and the actions on it. ``run_jobs`` has a pipeline's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, g, redirect, request

from ci.params import ParamError, in_words, resolved
from core.digests import Digest
from core.references import Reference
from core.trust import Domain
from pipelines.errors import ConflictError, InvalidRequestError
from pipelines.model import BuildOptions, GitSource, Run, RunRequest, Step, Trigger
from pipelines.runs.domains import domain_of
from pipelines.runs.jobs import PipelineView
from pipelines.sources.senders import user_sender
from registry.server.errors import SpecError
from web.backing import registry, service
from web.errors import NotFoundError
from web.guard import require
from web.guard.notes import note
from web.pages import run_log
from web.pages.frame import fresh, number_argument, page, told
from web.pages.run_jobs import show_pipeline
from web.pages.run_log import ShownLog
from web.pages.timeline import draw

blueprint: Final = Blueprint("run_pages", __name__)

_NOTICES: Final = {
    "cancelled": "It was cancelled.",
    "cancelling": "The worker was told to stop it.",
    "again": "This is the new run.",
}


@blueprint.get("/runs/<int:number>")
def show_run(number: int) -> Response:
    """The page of a run."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    notice = _NOTICES.get(request.args.get("done", ""))
    if pipeline is not None:
        return show_pipeline(run, pipeline, number_argument("job"), notice)  # marks at commits lead to jobs so
    shown = _steps(run)
    address = f"/runs/{number}"
    log = ShownLog(
        f"/api/v1{address}", address, "", run.lines, is_live=not run.is_final, is_failed=run.state == "failed",
        file=f"run-{number}.log",
    )  # fmt: skip
    return page(
        "run.html", run=run, **shown, **_failure(run, shown["steps"]), images=_images(run), log=log, notice=notice
    )


@blueprint.get("/runs/<int:number>/head")
def show_head(number: int) -> Response:
    """The part of the page about the run as a whole, for as long as that changes."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    failure = _failure(run, service().runs.steps(number) if run.state == "failed" else ())
    basis = msgspec.structs.replace(run, lines=0, log_bytes=0)
    return fresh("run_head.html", (basis, pipeline), run=run, pipeline=pipeline, **failure, images=_images(run))


@blueprint.get("/runs/<int:number>/steps")
def show_steps(number: int) -> Response:
    """The timeline, for as long as it grows; a build that turned out to be a pipeline's has another page."""
    run = service().runs.get(number)
    if service().jobs.pipeline(number) is not None:
        return Response(headers={"HX-Refresh": "true"})
    shown = _steps(run)
    beat = int(time.time()) if run.state == "running" else 0
    return fresh("run_steps.html", (run.state, shown["steps"], beat), run=run, **shown)


@blueprint.get("/runs/<int:number>/log/matches")
def find_in_log(number: int) -> Response:
    """The numbers of all lines that contain the text, as JSON."""
    return run_log.matches(service().runs.job(number).number)


@blueprint.get("/runs/<int:number>/log/steps")
def map_log(number: int) -> Response:
    """The step of each line, as JSON: pairs of a step (-1: none) and its number of lines there."""
    return run_log.spans(service().runs.job(number).number)


@blueprint.post("/runs/<int:number>/cancel")
@require("member")
def cancel(number: int) -> Response:
    """Stop the run; a run that ended in the meantime is just as good."""
    try:
        run = service().runs.cancel(number, by=g.user.name)
    except ConflictError:
        return _to(number, "")
    return _to(number, "cancelled" if run.is_final else "cancelling")


@blueprint.post("/runs/<int:number>/retry")
@require("member")
def retry(number: int) -> Response:
    """Queue the same run once more; of a pipeline, if the form says so, what did not succeed."""
    if "failed" in request.form and not service().jobs.has_failed(number):
        raise ConflictError(f"no job of run {number} has failed")
    return _to(service().runs.retry(number, by=g.user.name, failed="failed" in request.form).number, "again")


@blueprint.get("/runs/<int:number>/again")
@require("member")
def ask_again(number: int) -> Response:
    """The form for a run with other arguments."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    if pipeline is not None:
        return page("run_with.html", run=run, pipeline=pipeline, values=pipeline.values)
    arguments = "\n".join(f"{name}={value}" for name, value in run.options.build_args.items())
    return page("run_again.html", run=run, values={**msgspec.structs.asdict(run.options), "arguments": arguments})


@blueprint.post("/runs/<int:number>/again")
@require("member")
def run_again(number: int) -> Response:
    """A new run of the same source with the form's arguments; of a pipeline, of the same commit with its parameters."""
    run, pipeline = service().runs.get(number), service().jobs.pipeline(number)
    if pipeline is not None:
        return _run_with(run, pipeline)
    form = {name: request.form.get(name, "").replace("\r\n", "\n") for name in ("arguments", "target", "file", "ref")}
    try:
        wanted = _request(run, form, no_cache="no_cache" in request.form)
        made = service().runs.submit(wanted, _trigger(run), _strangers(run))
    except InvalidRequestError as error:
        shown = page(
            "run_again.html", run=run, values={**form, "no_cache": "no_cache" in request.form}, error=told(error)
        )
        shown.status_code = 422
        return shown
    return _to(made.number, "again")


def _run_with(run: Run, pipeline: PipelineView) -> Response:
    values = {name: request.form.get(f"p-{name}", param.default) for name, param in pipeline.params.items()}
    try:
        resolved(pipeline.params, values)
        source, options = service().runs.source_again(run), (run.options, run.priority, run.worker_labels)
        wanted = RunRequest(source, run.project, *options, run.max_attempts, pipeline=pipeline.name, params=values)
        made = service().runs.submit(wanted, _trigger(run), domain_of(run))
    except (ParamError, InvalidRequestError) as error:
        shown = page("run_with.html", run=run, pipeline=pipeline, values=values, error=told(error))
        shown.status_code = 422
        return shown
    note(service(), "run with", f"run={made.number}", in_words(values))
    return _to(made.number, "again")


def _images(run: Run) -> list[tuple[str, str]]:
    """Each name of the built image, with its page's address: empty where the registry here does not have it."""
    result = run.result
    if result is None:
        return []
    pages = ((name, Reference.parse(name).path) for name in result.names)
    return [
        (name, f"/images/{path}/-/{result.manifest}" if _is_here(path, result.manifest) else "") for name, path in pages
    ]


def _is_here(repository: str, manifest: str) -> bool:
    try:
        registry().manifests.find(repository, Digest(manifest))
    except (NotFoundError, SpecError):
        return False
    return True


def _steps(run: Run) -> dict[str, Any]:
    steps = service().runs.steps(run.number)
    return {"steps": steps, "timeline": draw(steps, run.started_at, run.finished_at or time.time())}


def _failure(run: Run, steps: Sequence[Step]) -> dict[str, Any]:
    """As ``run_log.failure``, of a build alone: the jobs of a pipeline say it themselves."""
    number = service().runs.job(run.number).number
    return run_log.failure(number, steps, with_tail=run.state == "failed")


def _request(run: Run, form: dict[str, str], *, no_cache: bool) -> RunRequest:
    """The request for the form's run. Raises InvalidRequestError."""
    options: BuildOptions = msgspec.structs.replace(
        run.options,
        build_args=_arguments(form["arguments"]),
        target=form["target"].strip(),
        file=form["file"].strip() or None,
        no_cache=no_cache,
    )
    source = run.source
    if isinstance(source, GitSource) and form["ref"].strip() != source.ref:
        source = msgspec.structs.replace(source, ref=form["ref"].strip())
    return RunRequest(source, run.project, options, run.priority, run.worker_labels, run.max_attempts)


def _strangers(run: Run) -> Domain | None:
    """The domain of a fork's pull request: it stays the fork's, whoever asks for the run, with whatever arguments."""
    domain = domain_of(run)
    return domain if domain is not None and domain.is_fork else None


def _trigger(run: Run) -> Trigger:
    """The trigger of a run started here: it keeps what the first run was of, and reports no commit's status."""
    before = run.trigger
    return Trigger(
        by=g.user.name,
        branch=before.branch,
        tag=before.tag,
        commit=before.commit,
        title=before.title,
        url=before.url,
        sender=user_sender(g.user.name),
    )


def _arguments(text: str) -> dict[str, str]:
    """NAME=VALUE lines. Raises InvalidRequestError."""
    found: dict[str, str] = {}
    for count, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise InvalidRequestError(f"line {count} of the build arguments has no '='", hint="write NAME=VALUE")
        found[name.strip()] = value
    return found


def _to(number: int, done: str) -> Response:
    response = redirect(f"/runs/{number}?done={done}" if done else f"/runs/{number}", 303)
    assert isinstance(response, Response)
    return response
