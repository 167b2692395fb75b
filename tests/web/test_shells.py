"""The terminals of shells in jobs, before there is a connection. With one: tests/worker/test_worker_shells.py."""

from __future__ import annotations

import socket

from flask.testing import FlaskClient

from core.trust import of_branch
from core.websocket import new_key
from pipelines.runs.shells import Asker, ShellTerms
from pipelines.service import Service
from tests.pipelines.test_shells import PLACE, failed, set_domain
from tests.toolkit.bounds import eventually
from tests.web.conftest import Api
from web.shellstreams import ShellStream


def test_terminal_is_for_who_may_have_the_shell_when_it_comes(client: FlaskClient, service: Service) -> None:
    """And not only for who might when they asked for it."""
    run = failed(service)
    set_domain(service, run, of_branch("app", "x").label)
    token, text = service.roles.create_token("app", "robot", "maintain")
    robot = Api(client, text)
    shell = robot("POST", f"/runs/{run}/jobs/{PLACE}/shells", {}, status=201)
    assert shell["has_secrets"]
    service.roles.set("app", "token", str(token.id), "build")
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": new_key()}
    answer = robot("GET", f"/runs/{run}/shells/{shell['id']}/terminal", headers=headers, status=403)
    assert answer["error"]["message"] == "you may not have it any more"
    service.roles.set("app", "token", str(token.id), "maintain")
    answer = robot("GET", f"/runs/{run}/shells/{shell['id']}/terminal", headers=headers, status=422)
    assert "cannot hand a connection over" in answer["error"]["message"], "the tests' server has none"


def test_terminal_that_goes_ends_its_shell_also_when_no_worker_hears_of_it(service: Service) -> None:
    """One whose program takes nothing that is typed reads nothing of what follows; one that was killed neither."""
    run = failed(service)
    shell = service.shells.ask(run, PLACE, Asker("ana", "", may_maintain=True), ShellTerms()).id
    ours, theirs = socket.socketpair()
    with theirs:
        ShellStream(service.shells, service.shell_pipes, shell, lambda: "").serve({"gunicorn.socket": theirs}, b"")
    ours.close()
    eventually(lambda: service.shells.get(run, shell).state == "ended")
    assert service.shells.get(run, shell).reason == "whoever opened it has gone"
