"""Takes a forge's request: checks first who sent it, then what it is about, and only then writes anything.

A delivery and the runs that it starts are one transaction, guarded by the delivery's unique id. So a forge that sends
it again, or twice at once, starts nothing again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from pipelines.database import Database
from pipelines.errors import ArchivedError, ConflictError, DeniedError, InvalidRequestError, NotFoundError
from pipelines.forges.base import Forge
from pipelines.forges.errors import MissingSignatureError, WebhookError, WrongSignatureError
from pipelines.forges.events import Ignored, Payload, Ping
from pipelines.forges.known import FORGES, detect
from pipelines.hooks.approvals import Approvals
from pipelines.hooks.deliveries import Deliveries, Delivery
from pipelines.hooks.planning import Await, Build, Close, Hold, Skip, is_about, lane, plan
from pipelines.model import Project, Run, RunRequest, Trigger
from pipelines.projects.projects import TAKES_NOTHING, Projects
from pipelines.runs.ownpulls import judge
from pipelines.runs.runs import Runs

_NO_SECRET: Final = b"what is signed with this is refused all the same"
_MAX_ID: Final = 200
_MAX_ACTIVE: Final = 500
_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The answer to a forge.

    repeated: the delivery came before, and nothing was done now.
    """

    delivery: Delivery
    repeated: bool = False


class Receiver:
    """The receiver of webhooks. Thread-safe."""

    def __init__(
        self, database: Database, projects: Projects, runs: Runs, deliveries: Deliveries, approvals: Approvals
    ) -> None:
        self._database = database
        self._projects = projects
        self._runs = runs
        self._deliveries = deliveries
        self._approvals = approvals

    def receive(self, name: str, headers: Mapping[str, str], body: bytes, *, forge: str = "") -> Answer:
        """Act on a request for project ``name``. headers: with names in lower case. forge: the only one to be accepted.

        Raises WebhookError for a request that is no webhook, MissingSignatureError and WrongSignatureError. The last
        one also comes when the project does not exist or takes no webhooks, so that strangers learn nothing of it.
        """
        project, secret = self._find(name)
        chosen = _forge(project, forge, headers)
        event = chosen.event_name(headers)
        try:
            chosen.verify(secret or _NO_SECRET, headers, body)
            if project is None or secret is None:
                raise WrongSignatureError("the signature does not fit", hint="is the project's name right?")
            payload = self._read(project, chosen, headers, body)
        except WebhookError as error:
            if project is not None:
                status = 401 if isinstance(error, MissingSignatureError) else 403
                status = status if isinstance(error, MissingSignatureError | WrongSignatureError) else 400
                self._deliveries.refuse(project.name, chosen.name, event, headers, status, error.message)
            raise
        delivery = chosen.delivery_id(headers)[:_MAX_ID] or f"sha256:{hashlib.sha256(body).hexdigest()}"
        try:
            return Answer(self._act(project, chosen, headers, body, payload, delivery=delivery))
        except IntegrityError:
            return Answer(self._deliveries.repeat(project.name, delivery), repeated=True)

    def started(self, name: str, headers: Mapping[str, str], body: bytes, delivery: str) -> tuple[int, ...]:
        """The runs that a bare repository's push started, for its hook, which signed ``body`` to ask for them.

        Raises MissingSignatureError and WrongSignatureError as ``receive``; NotFoundError when no such delivery came.
        """
        project, secret = self._find(name)
        plain = FORGES["plain"]
        plain.verify(secret or _NO_SECRET, headers, body)
        if project is None or secret is None or project.hook.forge != plain.name:
            raise WrongSignatureError("the signature does not fit", hint="is the project's name right?")
        return self._deliveries.runs_of(name, delivery)

    def redeliver(self, name: str, number: int) -> Delivery:
        """Act again on a stored delivery, by today's settings. Raises NotFoundError and ConflictError."""
        received = self._deliveries.get(name, number)
        if received.body is None:
            raise ConflictError(f"delivery {number} was refused, and its body not kept", hint="redeliver at the forge")
        project = self._projects.get(name)
        chosen = FORGES[received.delivery.forge]
        try:
            payload = self._read(project, chosen, received.headers, received.body)
        except WebhookError as error:
            raise ConflictError(f"delivery {number}: {error.message}", hint=error.hint) from error
        return self._act(project, chosen, received.headers, received.body, payload, delivery=None, redelivery_of=number)

    def _find(self, name: str) -> tuple[Project | None, bytes | None]:
        try:
            return self._projects.get(name), self._projects.webhook_secret(name)
        except NotFoundError:
            return None, None

    def _read(self, project: Project, forge: Forge, headers: Mapping[str, str], body: bytes) -> Payload:
        """The payload, if it is about the project's repository."""
        payload = forge.parse(headers, body)
        if payload.repository is None:
            if all(isinstance(event, Ping | Ignored) for event in payload.events):
                return payload
            raise WebhookError("the request names no repository")
        if not is_about(project.hook, payload.repository):
            raise WrongSignatureError(
                f"the request is about {payload.repository.name[:200]}, which is not the project's repository",
                hint="the project's repository URL must be one of those that the forge shows for it",
            )
        return payload

    def _act(
        self,
        project: Project,
        forge: Forge,
        headers: Mapping[str, str],
        body: bytes,
        payload: Payload,
        *,
        delivery: str | None,
        redelivery_of: int | None = None,
    ) -> Delivery:
        with self._database.write() as connection:
            number = self._deliveries.open(
                connection, project.name, forge.name, forge.event_name(headers), headers, body,
                delivery=delivery, redelivery_of=redelivery_of,
            )  # fmt: skip
            done = self._apply(connection, project, payload, number)
            reason = "; ".join(dict.fromkeys(done.reasons))
            numbers = tuple(run.number for run in done.runs)
            self._deliveries.close(connection, number, "queued" if numbers else "ignored", reason, numbers)
        for run in done.runs:
            self._runs.announce(run)
            if project.hook.cancel_superseded:
                self._cancel_lane(project.name, run.trigger, superseded_by=run.number)
        if project.hook.cancel_superseded:
            for trigger in done.awaited:
                why = f"superseded by commit {trigger.commit[:12]}, which waits for approval"
                self._cancel_lane(project.name, trigger, why=why, but=trigger.commit)
        for pull_request in done.closed:
            trigger = Trigger("pull_request", pull_request=pull_request)
            self._cancel_lane(project.name, trigger, why=f"pull request {pull_request} was closed")
        return self._deliveries.get(project.name, number).delivery

    def _apply(self, connection: Connection, project: Project, payload: Payload, delivery: int) -> _Done:
        done = _Done([], [], [], [])
        if project.archived_at is not None:
            done.reasons.append(f"project {project.name} is archived: {TAKES_NOTHING}")
            return done
        for action in plan(project, payload):
            match action:
                case Build(request=request, trigger=trigger, before=before):
                    self._begin(connection, done, request, _of(trigger, delivery), before)
                case Hold(request=request, trigger=trigger, reason=reason):
                    if judge(connection, request, _of(trigger, delivery)) == "run":
                        self._begin(connection, done, request, _of(trigger, delivery))
                    else:
                        done.reasons.append(reason)
                case Await(request=request, trigger=trigger):
                    waits, told = self._approvals.ask(connection, request, _of(trigger, delivery))
                    done.reasons.append(told)
                    done.awaited.extend([trigger] if waits else [])
                case Close(pull_request=pull_request):
                    self._approvals.outdate(connection, project.name, pull_request)
                    done.closed.append(pull_request)
                    done.reasons.append(f"pull request {pull_request} was closed: its runs are cancelled")
                case Skip(reason=reason):
                    done.reasons.append(reason)
        return done

    def _begin(
        self, connection: Connection, done: _Done, request: RunRequest, trigger: Trigger, before: str = ""
    ) -> None:
        try:
            run = self._runs.insert(connection, request, trigger, before=before)
        except (
            ArchivedError,
            InvalidRequestError,
            DeniedError,
        ) as error:  # a setting that does not suit runs is no fault of the forge's
            done.reasons.append(f"no run: {error.message}")
            return
        done.runs.append(run)
        done.reasons.append(f"run {run.number}")

    def _cancel_lane(
        self, project: str, trigger: Trigger, *, superseded_by: int = 0, why: str = "", but: str = ""
    ) -> None:
        """End the older runs of the same branch or pull request: nobody waits for them any more.

        superseded_by: the run that takes their place; only older ones end.
        why: the reason, where no run takes their place.
        but: spare runs of this commit.
        """
        wanted = lane(trigger)
        if wanted is None:
            return
        for state in ("queued", "running", "blocked"):
            for run in self._runs.list(project=project, state=state, before=superseded_by or None, limit=_MAX_ACTIVE):
                stays = run.cancel_requested or (but and run.trigger.commit == but)
                if lane(run.trigger) == wanted and not stays:
                    with contextlib.suppress(ConflictError, NotFoundError):
                        ended = self._runs.cancel(run.number, superseded_by=superseded_by, why=why)
                        _log.info("run %d: %s", run.number, ended.reason)


class _Done(NamedTuple):
    runs: list[Run]
    awaited: list[Trigger]
    closed: list[int]
    reasons: list[str]


def _of(trigger: Trigger, delivery: int) -> Trigger:
    return msgspec.structs.replace(trigger, delivery=delivery)


def _forge(project: Project | None, wanted: str, headers: Mapping[str, str]) -> Forge:
    """Whose request it is: as the project, the address or the headers say. Raises WebhookError."""
    settled = (project.hook.forge if project else "") or wanted
    if wanted and settled != wanted:
        raise WebhookError(f"the project takes no webhooks of {wanted}")
    if settled:
        forge = FORGES.get(settled)
        if forge is None:
            raise WebhookError(f"unknown forge {settled[:40]!r}", hint=f"one of {', '.join(FORGES)}")
        if not forge.event_name(headers):
            raise WebhookError("the request has no headers of the project's forge", hint="is the right forge chosen?")
        return forge
    found = detect(headers)
    if found is None:
        raise WebhookError("the request has no headers of a forge's webhooks", hint=f"known: {', '.join(FORGES)}")
    return found
