"""Shells in jobs: who asks for one, their terminals, and who had one."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pipelines.accounts.roles import Level
from pipelines.errors import DatabaseUnreachableError, NotFoundError
from pipelines.runs.shells import DEFAULT_COMMAND, Asker, ShellTerms, ShellView
from web.calls import Call, Streamed
from web.endpoints import Api
from web.errors import ForbiddenError, InvalidRequestError
from web.guard.cookies import session_text
from web.guard.csrf import check_terminal
from web.shellstreams import ShellStream, answer_of, is_of_a_page
from web.views.jobs import Name
from web.views.runs import Number

api: Final = Api("shells")

_NO_JOB: Final = {404: "There is no such run or job"}
_TERM: Final = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$"


class ShellRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a shell is to be.

    command: with its arguments; without a slash it is searched in PATH.
    term: the kind of terminal, as TERM has it. rows, columns: its size.
    """

    command: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(min_length=1, max_length=100)
    ] = msgspec.field(default_factory=lambda: list(DEFAULT_COMMAND))
    term: Annotated[str, msgspec.Meta(pattern=_TERM)] = "xterm"
    rows: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 24
    columns: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 80


class ShellList(msgspec.Struct, frozen=True):
    """The oldest first."""

    shells: list[ShellView]


@api.endpoint("GET", "/runs/{run}/jobs/{job}/shells", scope="read", errors=_NO_JOB)
def list_shells(call: Call, run: Number, job: Name) -> ShellList:
    """List the shells that people had in a job."""
    return ShellList(list(call.service.shells.list(run, call.service.jobs.get(run, job).place)))


@api.endpoint(
    "POST", "/runs/{run}/jobs/{job}/shells", scope="build", status=201, noted=False,
    errors={**_NO_JOB, 409: "Nobody can have a shell in the job now"},
)  # fmt: skip
def open_shell(call: Call, run: Number, job: Name, body: ShellRequest) -> ShellView:
    """Ask for a shell in a job that runs, or in what a failed job left; its terminal is to come within seconds.

    A job that runs is open to who maintains the project; its result is then reused by nobody. What a failed job left is
    kept for an hour where the project's ``keep_failed`` is set. Who may build opens it; but who maintains the project
    where the run is protected, or the job may have had secrets. Only who maintains the project gets the job's secrets.
    """
    place = call.service.jobs.get(run, job).place
    project = call.service.roles.project_of_run(run)
    if project is None:
        raise NotFoundError(f"there is no run {run}")
    call.require(call.service.shells.needed(run, place), project)
    if any("\0" in part for part in body.command):
        raise InvalidRequestError("a command has no NUL")
    who = Asker(call.actor, call.request.remote_addr or "", call.rights.may(project, "maintain"))
    terms = ShellTerms(tuple(body.command), body.term, body.rows, body.columns)
    return call.service.shells.ask(run, place, who, terms)


@api.endpoint(
    "GET", "/runs/{run}/shells/{shell}/terminal", scope="build", media="application/octet-stream", is_websocket=True,
    errors={404: "You asked for no such shell", 409: "It has a terminal, or has ended"},
)  # fmt: skip
def attach_terminal(call: Call, run: Number, shell: Number) -> Streamed:
    """Be the terminal of a shell that you asked for: a WebSocket, with an API token or of the service's pages.

    Binary messages are what is typed, and what is shown. Text messages are JSON: ``{"rows": 24, "columns": 80}`` of the
    terminal; ``{"opened": true}`` and ``{"exit_code": 0, "reason": ""}`` of the shell, the last one before the end.
    """
    session = ""
    if call.caller is None or call.caller.token is None:  # a page of another site could use a browser's session
        check_terminal()
        session = session_text()
    head = answer_of(call.request.headers)
    service, hub = call.service, call.hub
    view = service.shells.get(run, shell)
    project = service.roles.project_of_run(run) or ""
    level: Level = "maintain" if view.has_secrets or view.kind == "running" else "build"

    def why_over() -> str:
        if hub.stopping:
            return "the service's web process ends"
        try:
            if session and service.sessions.find(session) is None:
                return "you have signed out"
            return "" if call.still_may(level, project) else "you may not have it any more"
        except DatabaseUnreachableError:  # asked again in a few seconds
            return ""

    if why := why_over():  # it may be another one's right by now than it was when the shell was asked for
        raise ForbiddenError(why)
    service.shells.attach(run, shell, call.actor)
    is_paced = is_of_a_page(call.request.headers)
    stream = ShellStream(service.shells, service.shell_pipes, shell, why_over, is_paced=is_paced)
    stream.serve(call.request.environ, head)
    return Streamed(iter(()))
