"""Runs as their users see them: submit, look, cancel, retry. The worker's side is ``pipelines.runs.claims``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from ci.params import MAX_VALUE
from core.digests import Digest
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference
from core.trust import Domain, protected
from pipelines.database import Database
from pipelines.documents import has_nul
from pipelines.endings import why_cancelled
from pipelines.errors import ArchivedError, ConflictError, InvalidRequestError, NotFoundError
from pipelines.logs.lines import LogLine, encode_line, text_size
from pipelines.logs.store import store_lines
from pipelines.model import (
    FINAL_STATES,
    FIRST_PLACE,
    MAX_TIMEOUT_S,
    AnyRunState,
    ContextSource,
    GitSource,
    Job,
    Run,
    RunRequest,
    Source,
    Step,
    Trigger,
)
from pipelines.projects.borders import Borders
from pipelines.projects.projects import check_takes_runs, ensure_project
from pipelines.runs.authors import author_of
from pipelines.runs.blocked import why_runs_are_blocked
from pipelines.runs.domains import domain_of, told
from pipelines.runs.graphs import plans, stop_pipeline
from pipelines.runs.groups import hand_over_at_once
from pipelines.runs.kinds import had_pipelines
from pipelines.runs.listing import RunFilter, list_runs
from pipelines.runs.queue import Queue, check_labels
from pipelines.runs.rollups import note_head
from pipelines.runs.rows import job_from_row, run_from_row, select_jobs, select_runs
from pipelines.runs.shares import SharedOrder
from pipelines.runs.states import follow_job, hold_run
from pipelines.runs.texts import note_text
from pipelines.runs.waiting import Waiting
from pipelines.runs.waking import wake
from pipelines.runs.workers import Workers
from pipelines.schema import jobs, runs, steps
from pipelines.sealing.vault import Secrets, check_secret
from pipelines.statuses.outbox import note_state

_MAX_PRIORITY: Final = 100
_MAX_ATTEMPTS: Final = 10
_MAX_LIST: Final = 500
_MAX_PIPELINE: Final = 100
_MAX_BRANCH: Final = 255
_MAX_COMMIT: Final = 64
_MAX_PARAMS: Final = 50
_BY_HAND: Final = Trigger()
_ARG_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_RUN: Final = select_runs().where(runs.c.number == bindparam("number"))
"""One run: made once, for each request for one asks it."""


class Runs:
    """All runs. Thread-safe."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        workers: Workers,
        order: SharedOrder,
        secrets: Secrets,
        borders: Borders,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._borders = borders
        self._queue = queue
        self._workers = workers
        self._order = order
        self._clock = clock

    def submit(self, request: RunRequest, trigger: Trigger = _BY_HAND, domain: Domain | None = None) -> Run:
        """Record the run and queue it. Once this returns the run is safe, even with Redis away: then it starts later.

        domain: for whom the run is; None: source and trigger say it.
        Raises InvalidRequestError, ArchivedError, and DeniedError for names of another project.
        """
        with self._database.write() as connection:
            run = self.insert(connection, request, trigger, domain)
        self.announce(run)
        return run

    def insert(
        self,
        connection: Connection,
        request: RunRequest,
        trigger: Trigger,
        domain: Domain | None = None,
        *,
        before: str = "",
    ) -> Run:
        """Record a run within the transaction of the caller, who then calls ``announce``.

        before: the commit that the branch was at until a push; empty: unknown, or none.
        domain, errors: as for ``submit``.
        """
        labels = check_request(request)
        if request.pipeline:
            trigger = msgspec.structs.replace(trigger, pipeline=request.pipeline, params=request.params)
        domain = domain or told(request.source, request.project, trigger)
        now = self._clock()
        ensure_project(connection, request.project)
        check_takes_runs(connection, request.project)
        self._borders.check_request(connection, request)
        number = connection.execute(
            insert(runs)
            .values(
                project=request.project,
                state="queued",
                priority=request.priority,
                source=_json(request.source),
                trigger=_json(trigger),
                branch=trigger.branch[:_MAX_BRANCH],
                commit=trigger.commit[:_MAX_COMMIT],
                domain="" if domain is None else domain.label,
                created_at=now,
                before=before,
            )
            .returning(runs.c.number)
        ).scalar_one()
        try:
            check_takes_runs(connection, request.project)
        except ArchivedError as error:  # since then; whoever archives it now waits for this transaction
            raise ConflictError(f"{error.message}; it was archived at this moment", hint=error.hint) from error
        job = connection.execute(
            insert(jobs)
            .values(
                run=number,
                place=FIRST_PLACE,
                name="build",
                kind="build",
                spec=_json(request.options),
                state="queued",
                max_attempts=request.max_attempts,
                worker_labels=_json(labels),
                own_secrets=_json(sorted(request.secrets)),
                queued_at=now,
            )
            .returning(jobs.c.number)
        ).scalar_one()
        self._secrets.seal_for_job(connection, job, request.secrets)
        note_head(connection, request.project, number, trigger)
        note_text(connection, number, request.project, request.source, trigger, request.options)
        run = _get(connection, number)
        note_state(connection, run, now)
        return run

    def announce(self, run: Run) -> None:
        """Tell the workers of a run that is recorded."""
        self._queue.try_send(run.number, run.worker_labels)

    def get(self, number: int) -> Run:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            return self._explained(connection, [_get(connection, number)])[0]

    def list(
        self,
        *,
        project: str | None = None,
        state: AnyRunState | None = None,
        wanted: RunFilter | None = None,
        before: int | None = None,
        limit: int = 50,
        projects: Collection[str] | None = None,
    ) -> list[Run]:
        """The newest first.

        wanted: what else they are to be like.
        limit: at most 500.
        projects: only of these.
        before: only runs with smaller numbers, to go on from a list's last.
        """
        wanted = RunFilter() if wanted is None else wanted
        if project is not None:
            wanted = msgspec.structs.replace(wanted, project=project)
        limit = max(0, min(limit, _MAX_LIST))
        with self._database.read() as connection:
            found = list_runs(connection, wanted, state=state, before=before, limit=limit, projects=projects)
            return [*self._explained(connection, found)]

    def job(self, number: int) -> Job:
        """The first job of the run with this number. Raises NotFoundError."""
        with self._database.read() as connection:
            return _job_of(connection, number)

    def steps(self, number: int, place: int = FIRST_PLACE) -> Sequence[Step]:
        """The steps of a job's latest attempt, in the Dockerfile's order. Raises NotFoundError."""
        with self._database.read() as connection:
            job = _job_of(connection, number, place)
            rows = connection.execute(
                select(steps).where(steps.c.job == job.number, steps.c.attempt == job.attempt).order_by(steps.c.step)
            )
            return [
                Step(
                    row.step, row.name, row.stage, row.line, row.state, row.reason, row.started_at, row.duration_s,
                    row.first_line, row.last_line, row.size_bytes,
                )
                for row in rows
            ]  # fmt: skip

    def cancel(self, number: int, *, by: str = "", superseded_by: int = 0, why: str = "") -> Run:
        """End a waiting run; tell the worker of a running one, which stops it within a second.

        by: who wants it.
        superseded_by: the newer run that supersedes this one.
        why: for people, where it is neither; of a run that is being stopped already, the first reason stays.
        Raises NotFoundError, and ConflictError when it has ended, or when a newer run does not supersede it.
        """
        told = why or why_cancelled(by, superseded_by)
        with self._database.write() as connection:
            hold_run(connection, number)
            is_pipeline = _is_pipeline(connection, number)
            if is_pipeline:
                run = self._cancel_pipeline(
                    connection, number, told, by, superseded_by, is_asked=not superseded_by and not why
                )
            else:
                run = self._cancel_build(connection, number, told, by, superseded_by)
        if is_pipeline:
            hand_over_at_once(self._database, self._clock(), run.project)
            wake(self._database, self._queue)  # for what cleans up
        return run

    def _cancel_build(self, connection: Connection, number: int, told: str, by: str, superseded_by: int) -> Run:
        """A run that nobody has planned yet, either. On a protected branch it is no build where others had pipelines:
        a newer push does not end it.
        """
        now = self._clock()
        job = _job_of(connection, number)
        if job.state in FINAL_STATES:
            raise ConflictError(f"run {number} has ended: {job.state}")
        if superseded_by and self._may_become_a_deployment(connection, number):
            raise ConflictError(f"run {number} is not superseded")
        if job.state == "queued" or not job.cancel_requested:
            this, asker = runs.c.number == number, {"cancelled_by": by, "superseded_by": superseded_by}
            connection.execute(update(runs).where(this).values(**asker))
            _change(connection, job, reason=told, cancel_requested=True)
        if job.state == "queued":
            _change(connection, job, state="cancelled", finished_at=now, result="{}")
            follow_job(connection, number, now)
            line = LogLine(job.lines + 1, "status", f"{told} before it started", now)
            data = [(line.n, encode_line(line))]
            store_lines(connection, job.number, job.attempt, data, [text_size(line.text)])
        return _get(connection, number)

    def _may_become_a_deployment(self, connection: Connection, number: int) -> bool:
        run = _get(connection, number)
        domain = domain_of(run)
        is_protected = domain is None or domain == protected(run.project)
        return isinstance(run.source, GitSource) and is_protected and had_pipelines(connection, run.project)

    def _cancel_pipeline(
        self, connection: Connection, number: int, told: str, by: str, superseded_by: int, *, is_asked: bool
    ) -> Run:
        """The first time, what still runs gets SIGTERM and what cleans up is run; the second time all is killed.

        is_asked: by somebody. A newer push is no second time, and ends nothing on protected branches, where a run may
        be a deployment.
        """
        run = _get(connection, number)
        if run.is_final:
            raise ConflictError(f"run {number} has ended: {run.state}")
        stop = connection.execute(select(runs.c.stop).where(runs.c.number == number)).scalar_one()
        if not is_asked and (stop or (superseded_by and run.domain == protected(run.project).label)):
            raise ConflictError(f"run {number} is being ended already" if stop else f"run {number} is not superseded")
        stop_pipeline(connection, number, told)
        if not stop:
            asker = {"cancelled_by": by, "superseded_by": superseded_by}
            connection.execute(update(runs).where(runs.c.number == number).values(**asker))
        return follow_job(connection, number, self._clock())

    def retry(self, number: int, *, by: str = "", redo: tuple[str, ...] = (), failed: bool = False) -> Run:
        """A new run of the same request, in the same domain as the first one.

        by: who wants it.
        redo, failed: of a pipeline, what is done again, as of ``Trigger``; neither: all is.
        Raises NotFoundError, and ConflictError when it has not ended yet.
        """
        run = self.get(number)
        if run.state not in FINAL_STATES:
            raise ConflictError(f"run {number} has not ended yet: {run.state}", hint="cancel it first")
        if run.own_secrets:
            raise ConflictError(
                f"run {number} came with secrets ({', '.join(run.own_secrets)}), which were forgotten when it ended",
                hint="submit it again; what several runs need is better stored: shiplap secret set",
            )
        request = RunRequest(
            self.source_again(run), run.project, run.options, run.priority, run.worker_labels, run.max_attempts
        )
        trigger = msgspec.structs.replace(
            run.trigger,
            by=by or run.trigger.by,
            author=author_of(run.trigger) if self._is_pipeline(number) else "",
            retry_of=number,
            redo=redo,
            redo_failed=failed,
            context="" if redo else run.trigger.context,  # a part marks no commit, unless it turns out to be all
        )
        with self._database.write() as connection:
            before = connection.execute(select(runs.c.before).where(runs.c.number == number)).scalar() or ""
            again = self.insert(connection, request, trigger, domain_of(run), before=before)
        self.announce(again)
        return again

    def source_again(self, run: Run) -> Source:
        """What a run is a run of; of a pipeline's, the very commit, wherever its branch is by now."""
        with self._database.read() as connection:
            document = connection.execute(select(runs.c.plan).where(runs.c.number == run.number)).scalar_one()
        if not document or not isinstance(run.source, GitSource):
            return run.source
        plan = plans.decode(document)
        kind, _, name = plan.ref.removeprefix("refs/").partition("/")
        named = {"branch": name} if kind == "heads" else {"tag": name} if kind == "tags" else {}
        return msgspec.structs.replace(run.source, ref=plan.commit, commit="", **named)

    def had_pipelines(self, project: str) -> bool:
        """Whether the last commit of the project that a worker looked at had pipelines."""
        with self._database.read() as connection:
            return had_pipelines(connection, project)

    def _is_pipeline(self, number: int) -> bool:
        with self._database.read() as connection:
            return _is_pipeline(connection, number)

    def explain(self, found: Sequence[Run]) -> Sequence[Run]:
        """The same runs, the queued ones with the reason why they wait, for people."""
        with self._database.read() as connection:
            return self._explained(connection, found)

    def _explained(self, connection: Connection, found: Sequence[Run]) -> Sequence[Run]:
        reasons: dict[int, str] = {}
        blocked = [run.number for run in found if run.state == "blocked"]
        if blocked:
            reasons = why_runs_are_blocked(connection, blocked)
        if any(run.state == "queued" for run in found):
            waiting = Waiting(connection, self._workers.list(), self._order.now(connection), self._clock())
            reasons |= {run.number: waiting.reason(run) for run in found if run.state == "queued"}
        if not reasons:
            return found
        return [msgspec.structs.replace(run, reason=reasons.get(run.number, run.reason)) for run in found]


def check_request(request: RunRequest) -> tuple[str, ...]:
    """Raise InvalidRequestError for what could never run; returns the labels, sorted."""
    options = request.options
    if abs(request.priority) > _MAX_PRIORITY:
        raise InvalidRequestError(f"priority {request.priority} is not within ±{_MAX_PRIORITY}")
    if not 1 <= request.max_attempts <= _MAX_ATTEMPTS:
        raise InvalidRequestError(f"max_attempts {request.max_attempts} is not within 1 … {_MAX_ATTEMPTS}")
    if not 1 <= options.timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequestError(f"timeout_s {options.timeout_s} is not within 1 … {MAX_TIMEOUT_S}")
    if request.pipeline and not isinstance(request.source, GitSource):
        raise InvalidRequestError("a pipeline is run from a git repository", hint='its source is {"type": "git", …}')
    if len(request.pipeline) > _MAX_PIPELINE:
        raise InvalidRequestError(f"the name of the pipeline has more than {_MAX_PIPELINE} characters")
    _check_params(request)
    for name, value in request.secrets.items():
        check_secret(name, value)
    for name in options.build_args:
        if not _ARG_NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid name of a build argument: {name!r}")
    try:
        for tag in options.tags:
            Reference.parse(tag)
        if options.platform:
            Platform.parse(options.platform)
        if isinstance(request.source, ContextSource):
            Digest.parse(request.source.context)
    except InvalidReferenceError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    if has_nul(msgspec.json.encode((request.source, request.project, request.pipeline, request.params, options))):
        raise InvalidRequestError("a NUL character in the request")
    return check_labels(request.worker_labels)


def _check_params(request: RunRequest) -> None:
    """What can be said before the pipeline's file is read. Raises InvalidRequestError."""
    if request.params and not request.pipeline:
        raise InvalidRequestError("parameters are those of a pipeline", hint="`pipeline` names it")
    if len(request.params) > _MAX_PARAMS:
        raise InvalidRequestError(f"a pipeline has at most {_MAX_PARAMS} parameters")
    for name, value in request.params.items():
        if not _ARG_NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid name of a parameter: {name[:100]!r}")
        if len(value) > MAX_VALUE:
            raise InvalidRequestError(f"parameter {name[:100]} has more than {MAX_VALUE} characters")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _get(connection: Connection, number: int) -> Run:
    row = connection.execute(_RUN, {"number": number}).first()
    if row is None:
        raise NotFoundError(f"there is no run {number}")
    return run_from_row(row)


def _change(connection: Connection, job: Job, **values: object) -> None:
    connection.execute(update(jobs).where(jobs.c.number == job.number).values(**values))


def _job_of(connection: Connection, run: int, place: int = FIRST_PLACE) -> Job:
    row = connection.execute(select_jobs().where(jobs.c.run == run, jobs.c.place == place)).first()
    if row is None:
        raise NotFoundError(f"there is no run {run}")
    return job_from_row(row)


def _is_pipeline(connection: Connection, run: int) -> bool:
    return bool(connection.execute(select(runs.c.pipeline).where(runs.c.number == run)).scalar())
