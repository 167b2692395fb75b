"""The terminals of shells in jobs, before there is a connection. With one: tests/worker/test_worker_shells.py."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from core.trust import of_branch, protected
from core.websocket import Reader, frame, new_key
from pipelines.runs.shellpipes import Kind, Said
from pipelines.runs.shells import Asker, ShellTerms
from pipelines.service import Service
from tests.pipelines.test_shells import PLACE, failed, set_domain
from tests.toolkit.bounds import eventually, stretched
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from web.shellstreams import ShellStream, TerminalStream
from web.views import shells


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


def test_page_has_a_terminal_for_who_may_and_its_terminal_is_of_that_page_alone(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a session: whichever page asks has the browser's cookie, so its address and the session's token count."""
    run = failed(service)
    set_domain(service, run, protected("app").label)
    page, ask = f"/runs/{run}/jobs/{PLACE}/shell", f"/api/v1/runs/{run}/jobs/{PLACE}/shells"
    sign_in(client, service, "mia", "member")
    refused = client.get(page)
    assert "for who maintains project app" in refused.text
    assert "data-terminal" not in refused.text
    assert client.post(ask, json={}, headers={"X-CSRF-Token": csrf(client)}).status_code == 403, "the same function"
    sign_in(client, service, "ada", "admin")
    shown = client.get(page)
    assert f'data-ask="{ask}"' in shown.text
    assert "style-src 'self' 'unsafe-inline'" in shown.headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in client.get(f"/runs/{run}").headers["Content-Security-Policy"]
    assert client.post(ask, json={}).status_code == 403, "without the session's token"
    made = client.post(ask, json={}, headers={"X-CSRF-Token": csrf(client)})
    assert made.status_code == 201
    terminal = f"/api/v1/runs/{run}/shells/{msgspec.json.decode(made.data)['id']}/terminal"
    upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": new_key()}
    ours = {"Origin": "http://localhost", "Sec-WebSocket-Protocol": f"shiplap-terminal, csrf.{csrf(client)}"}
    for wrong in (
        {},
        {**ours, "Origin": "http://evil.test"},
        {**ours, "Origin": "null"},
        {**ours, "Origin": "http://[localhost"},
        {**ours, "Sec-WebSocket-Protocol": "shiplap-terminal, csrf.x"},
        {**ours, "Sec-Fetch-Site": "same-site"},
        {"Sec-WebSocket-Protocol": ours["Sec-WebSocket-Protocol"]},
    ):
        assert client.get(terminal, headers={**upgrade, **wrong}).status_code == 403, wrong
    over: list[Callable[[], str]] = []

    def stream(*given: Any, is_paced: bool) -> ShellStream:
        over.append(given[-1])
        return ShellStream(*given, is_paced=is_paced)

    monkeypatch.setattr(shells, "ShellStream", stream)
    taken = client.get(terminal, headers={**upgrade, **ours})
    assert "cannot hand a connection over" in taken.text, "the tests' server has none"
    assert over[0]() == ""
    service.sessions.end_all("ada")
    assert over[0]() == "you have signed out"


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


class Talks:
    """Shows twenty pieces, one at a time, and ends: more than a page draws at once."""

    def __init__(self) -> None:
        self.rest = [Said("data", b"x" * 60_000)] * 20 + [Said("ended", b"{}")]

    def hear(self, wait_s: float) -> list[Said]:
        return [self.rest.pop(0)]

    def say(self, kind: Kind, data: bytes = b"", *, gives_up: Callable[[], bool] = lambda: False) -> bool:
        return True

    def is_silent(self) -> bool:
        return False


@pytest.mark.parametrize("is_paced", [False, True])
def test_only_who_draws_is_waited_for(is_paced: bool) -> None:
    end = Talks()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(stretched(10))
        TerminalStream("x", end, lambda _code, _why: None, lambda: "", is_paced=is_paced).serve(
            {"gunicorn.socket": theirs}, b""
        )
        reader, shown = Reader(is_server=False), 0
        while shown < 20 * 60_000:
            for message in reader.feed(ours.recv(1 << 16)):
                shown += len(message.data)
                if is_paced and shown == 18 * 60_000:
                    assert len(end.rest) == 3
                    ours.sendall(frame("text", b'{"shown":%d}' % shown, is_masked=True))
