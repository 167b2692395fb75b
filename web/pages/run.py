"""What is done with a run: cancelled, queued again, run with other arguments. ``run_jobs`` has its page."""

from __future__ import annotations

from typing import Final

import msgspec
from flask import Blueprint, Response, g, redirect, request

from ci.params import ParamError, in_words, resolved
from core.trust import Domain
from pipelines.errors import ConflictError, InvalidRequestError
from pipelines.model import BuildOptions, GitSource, Run, RunRequest, Trigger
from pipelines.runs.domains import domain_of
from pipelines.runs.jobs import PipelineView
from pipelines.sources.senders import user_sender
from web.backing import service
from web.guard import require
from web.guard.notes import note
from web.pages import run_log
from web.pages.frame import page, told

blueprint: Final = Blueprint("run_pages", __name__)


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
