"""Terminals in pages: a shell in a job, a shell in a container.

Each is a page of its own, and the only one whose policy lets scripts set styles: xterm.js does. What a shell in a job
is opened by, and who may, is the API's, as for the command line; who may have one in a container is asked here.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, g, request

from pipelines.accounts.users import User
from pipelines.errors import ConflictError, DatabaseUnreachableError
from web.backing import hub, service
from web.engines.entering import SHELL, Entered
from web.errors import ForbiddenError
from web.guard import note, require
from web.guard.cookies import session_text
from web.guard.csrf import check_terminal
from web.pages.containers import the_engine
from web.pages.frame import POLICY, number_argument, page
from web.shellstreams import TerminalStream, answer_of

of_runs: Final = Blueprint("run_shell_pages", __name__)
of_containers: Final = Blueprint("container_shell_pages", __name__)

_POLICY: Final = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_ROWS: Final = 24
_COLUMNS: Final = 80


@of_runs.get("/runs/<int:number>/jobs/<int:place>/shell")
@require("member")
def show_job_shell(number: int, place: int) -> Response:
    """A terminal in a job that runs, or in what a failed one left; else why there is none."""
    job = service().jobs.get(number, str(place))
    run = service().runs.get(number)
    why_not = ""
    try:
        needed = service().shells.needed(number, place)
        if not g.rights.may(run.project, needed):
            why_not = f"this is for who maintains project {run.project}: `shiplap project member set` gives it"
    except ConflictError as error:
        why_not = f"{error.message}. {error.hint}" if error.hint else error.message
    return _shell_page(
        name=job.name,
        kind="job",
        of=f"run #{number}, {run.project}",
        above=f"/runs/{number}/jobs/{place}",
        ask=f"/api/v1/runs/{number}/jobs/{place}/shells",
        terminal=f"/api/v1/runs/{number}/shells/SHELL/terminal",
        why_not=why_not,
        about=(
            "The job runs: from the first shell on, its result is reused by no other run."
            if job.state == "running"
            else "This is what the failed job left, kept for an hour. What is done here changes nothing of the run."
        ),
    )


@of_containers.get("/containers/<ref>/shell")
@require("admin")
def show_container_shell(ref: str) -> Response:
    """A terminal in a container that runs; else why there is none."""
    container = the_engine().facts(ref).container
    return _shell_page(
        name=container.name,
        kind="container",
        of=container.image,
        above=f"/containers/{container.short}",
        ask="",
        terminal=f"/containers/{container.short}/terminal",
        why_not="" if container.state == "running" else f"the container is {container.state}: start it first",
        about="The shell is the container's user, with all that the container has. It ends with this page.",
    )


@require("admin")
def attach_container_terminal(ref: str) -> Response:
    """Be the terminal of a shell in a container: a WebSocket of the page above."""
    head = answer_of(request.headers)
    check_terminal()
    known, user, text = the_engine(), g.user, session_text()
    container = known.facts(ref).container
    if container.state != "running":
        raise ConflictError(f"container {container.name} is {container.state}", hint="start it first")
    assert isinstance(user, User)
    name, streams, sessions, roles = user.name, hub(), service().sessions, service().roles

    def why_over() -> str:
        if streams.stopping:
            return "the service's web process ends"
        try:
            if sessions.find(text) is None:
                return "you have signed out"
            return "" if roles.now(name, None).may_everywhere("admin") else "you may not have it any more"
        except DatabaseUnreachableError:  # asked again in a few seconds
            return ""

    if why := why_over():
        raise ForbiddenError(why)
    rows, columns = number_argument("rows") or _ROWS, number_argument("columns") or _COLUMNS
    note(service(), "open shell", f"container {container.name} ({container.short})", " ".join(SHELL[:1]))
    end = Entered(known.client, container.id, rows, columns)
    TerminalStream(f"container {container.short}", end, lambda _code, _why: None, why_over, is_paced=True).serve(
        request.environ, head
    )
    return Response()


for _is_websocket in (False, True):  # without the second one it is not found by whoever asks for a WebSocket
    of_containers.add_url_rule(
        "/containers/<ref>/terminal", "attach", attach_container_terminal, methods=["GET"], websocket=_is_websocket
    )


def _shell_page(**shown: str) -> Response:
    response = page("shell.html", **shown)
    response.headers["Content-Security-Policy"] = _POLICY
    return response
