"""Commit statuses reach a forge: in order, once, and again after it was down."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput
from core.masking import Masker
from pipelines.model import Claim, ContextSource, HookSettings, Project, RunRequest, RunResult, RunState, Trigger
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from pipelines.sources.git import reach
from pipelines.statuses.outbox import SentStatus, list_statuses
from pipelines.statuses.sending import StatusSender
from pipelines.statuses.transport import HttpTransport
from tests.toolkit.forgepayloads import AFTER
from tests.toolkit.forgeserver import ForgeServer, forge_server

on_one_database = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""For what asks nothing new of the database."""

SOURCE = ContextSource("sha256:" + "0" * 64)
URLS = {
    "github": "https://github.com/octo-org/hello.git", "gitlab": "https://gitlab.com/mike/diaspora.git",
    "gitea": "https://gitea.example/gitea/webhooks", "forgejo": "https://codeberg.example/gitea/webhooks",
    "bitbucket": "https://bitbucket.org/team/widgets.git",
}  # fmt: skip


@pytest.fixture
def forge() -> Iterator[ForgeServer]:
    with forge_server() as server:
        yield server


class Clock:
    """now: seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(float(int(time.time()) + 60))  # after all that the service notes by its own clock


@pytest.fixture
def sender(service: Service, clock: Clock) -> StatusSender:
    transport = HttpTransport(reach(("127.0.0.1",)), clock=clock)
    return StatusSender(
        service.database, service.projects, transport, lambda run: f"https://ci.example/runs/{run}", clock=clock
    )


def set_up(service: Service, forge: ForgeServer, name: str = "github", project: str = "app") -> None:
    hook = HookSettings(repository=URLS[name], forge=name, api_url=f"{forge.url}/api")  # type: ignore[arg-type]  # a name
    service.projects.put(Project(project, hook=hook))
    service.projects.set_status_token(project, "t0ken")


def begin(service: Service, project: str = "app", commit: str = AFTER) -> Claim:
    trigger = Trigger("push", branch="main", commit=commit, context="shiplap")
    number = service.runs.submit(RunRequest(SOURCE, project), trigger).number
    claim = service.claims.take("w", ())
    assert claim is not None
    assert claim.run.number == number
    return claim


def finish(service: Service, claim: Claim, state: RunState = "succeeded", reason: str = "") -> None:
    service.claims.finish(claim, state, reason, RunResult(), store=lambda connection: None)


def send_all(sender: StatusSender) -> int:
    total = 0
    while sent := sender.send_due():
        total += sent
    return total


def outcomes(service: Service) -> list[tuple[str, str]]:
    return [(one.state, one.outcome) for one in reversed(list_statuses(service.database, "app"))]


def newest(service: Service) -> SentStatus:
    return list_statuses(service.database, "app")[0]


PENDING = ["pending", "pending", "success"]
CALLS = {
    "github": ("/api/repos/octo-org/hello/statuses/{}", "authorization", "Bearer t0ken", PENDING),
    "gitlab": ("/api/projects/mike%2Fdiaspora/statuses/{}", "private-token", "t0ken",
               ["pending", "running", "success"]),
    "gitea": ("/api/repos/gitea/webhooks/statuses/{}", "authorization", "token t0ken", PENDING),
    "forgejo": ("/api/repos/gitea/webhooks/statuses/{}", "authorization", "token t0ken", PENDING),
    "bitbucket": ("/api/repositories/team/widgets/commit/{}/statuses/build", "authorization", "Bearer t0ken",
                  ["INPROGRESS", "INPROGRESS", "SUCCESSFUL"]),
}  # fmt: skip


@on_one_database
@pytest.mark.parametrize("name", list(CALLS))
def test_each_forge_is_told_in_its_words(service: Service, forge: ForgeServer, sender: StatusSender, name: str) -> None:
    set_up(service, forge, name)
    claim = begin(service)
    finish(service, claim)
    assert send_all(sender) == 3
    path, header, credentials, states = CALLS[name]
    assert forge.states() == states
    for call in forge.calls:
        assert (call.method, call.path) == ("POST", path.format(AFTER))
        assert call.headers[header] == credentials
        assert call.headers["content-type"] == "application/json"
        assert f"https://ci.example/runs/{claim.run.number}" in (call.body.get("target_url"), call.body.get("url"))
    assert send_all(sender) == 0


@on_one_database
@pytest.mark.parametrize(
    ("state", "told"),
    [("failed", "failure"), ("error", "error"), ("cancelled", "error")],
)
def test_ends_are_told_apart(
    service: Service, forge: ForgeServer, sender: StatusSender, state: RunState, told: str
) -> None:
    set_up(service, forge)
    finish(service, begin(service), state, "because")
    send_all(sender)
    assert forge.calls[-1].body["state"] == told
    assert forge.calls[-1].body["description"] == "because"


def fail(service: Service, claim: Claim, reason: str, *output: bytes, secret: bytes = b"hunter2-hunter2") -> None:
    """End the run as one whose second step failed, after it printed ``output``."""
    writer = LogWriter(claim, service.database, service.live, Masker([secret]), lost=lambda: None)
    writer.emit(BuildPlanned((StepInfo(0, "RUN noise"), StepInfo(1, "RUN much"))))
    for data in output:
        writer.emit(StepOutput(1, 1, data, 0.0))
    writer.emit(StepOutput(0, 1, b"of another step\n", 0.0))
    writer.emit(StepFinished(1, "failed", 1.0, 0.0, "exit code: 1"))
    writer.close()
    service.claims.finish(claim, "failed", reason, RunResult(), store=writer.store)


LONG_REASON = "RUN " + "x" * 300


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize(
    ("reason", "output", "told"),
    [
        ("RUN much: exit code: 1", [b"one\n", b"no such file\n"], "RUN much: exit code: 1: no such file"),
        ("failed", [b"\x1b[31merror\x1b[0m:\tdisk \x00full\n", b"\n \x1b[0m\n"], "failed: error: disk full"),
        ("failed", [b"10 %\r99 %\n"], "failed: 99 %"),
        ("failed", [b"key is hunter2-hunter2\n"], "failed: key is ***"),
        ("failed", ["\u202egnp.exe\u2066 \x1b]0;title\x07ü".encode()], "failed: gnp.exe ü"),
        ("failed\nat length", [], "failed"),
        ("failed", [b"y" * 900], "failed: " + "y" * 131 + "…"),
        (LONG_REASON, [b"y" * 900], LONG_REASON[:59] + "…: " + "y" * 77 + "…"),
        (LONG_REASON, [b"short"], LONG_REASON[:132] + "…: short"),
        (LONG_REASON, [], LONG_REASON[:139] + "…"),
    ],
    ids=range(10),
)
@on_one_database
def test_failure_is_told_with_one_line_of_what_the_step_printed(
    service: Service, forge: ForgeServer, sender: StatusSender, name: str, reason: str, output: list[bytes], told: str
) -> None:
    set_up(service, forge, name)
    fail(service, begin(service), reason, *output)
    send_all(sender)
    assert forge.calls[-1].body["description"] == told
    assert len(told) <= 140


@on_one_database
def test_a_forge_is_told_what_superseded_a_run_and_what_one_repeats(
    service: Service, forge: ForgeServer, sender: StatusSender
) -> None:
    set_up(service, forge)
    claim = begin(service)
    service.runs.cancel(claim.run.number, superseded_by=6)
    finish(service, claim, "cancelled", "cancelled: superseded by #6")
    send_all(sender)
    assert forge.calls[-1].body["description"] == "superseded by #6"
    service.runs.retry(claim.run.number, by="ana")
    send_all(sender)
    assert forge.calls[-1].body["description"] == f"waits for a worker (retry of #{claim.run.number} by ana)"


def test_forge_that_is_down_is_asked_again_later_and_told_the_newest(
    service: Service, forge: ForgeServer, sender: StatusSender, clock: Clock
) -> None:
    set_up(service, forge)
    claim = begin(service)
    forge.answers = [(503, {}, b"down for a moment")]
    assert sender.send_due() == 0
    assert len(forge.calls) == 1
    finish(service, claim)
    clock.now += 4.0
    assert send_all(sender) == 0  # not yet
    assert len(forge.calls) == 1
    clock.now += 30.0
    send_all(sender)
    assert outcomes(service) == [("pending", "superseded"), ("running", "sent"), ("success", "sent")]


@on_one_database
def test_pauses_grow_and_end(service: Service, forge: ForgeServer, sender: StatusSender, clock: Clock) -> None:
    set_up(service, forge)
    trigger = Trigger("push", commit=AFTER, context="shiplap")
    service.runs.submit(RunRequest(SOURCE, "app"), trigger)
    pauses = []
    for _ in range(10):
        forge.answers = [(500, {}, b"")]
        assert sender.send_due() == 0
        pauses.append(newest(service).due_at - clock.now)
        clock.now = newest(service).due_at
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert pauses[-1] == 1800.0
    assert newest(service).outcome == "waiting"
    clock.now += 86400.0
    forge.answers = [(500, {}, b"")]
    sender.send_due()
    assert newest(service).outcome == "failed"


@on_one_database
@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {"Retry-After": "120"}, 120.0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+90"}, 90.0),
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "+30"}, 30.0),
    ],
)
def test_rate_limits_are_kept(
    service: Service, forge: ForgeServer, sender: StatusSender, clock: Clock, status: int, headers: dict[str, str],
    pause: float,
) -> None:  # fmt: skip
    set_up(service, forge)
    service.runs.submit(RunRequest(SOURCE, "app"), Trigger("push", commit=AFTER, context="shiplap"))
    at = {name: f"{clock.now + int(value):.0f}" if "+" in value else value for name, value in headers.items()}
    forge.answers = [(status, at, b"slow down")]
    sender.send_due()
    assert newest(service).due_at == clock.now + pause
    clock.now += pause
    assert sender.send_due() == 1


@on_one_database
@pytest.mark.parametrize("status", [401, 403, 404, 422, 302])
def test_refusals_are_final_and_told(service: Service, forge: ForgeServer, sender: StatusSender, status: int) -> None:
    set_up(service, forge)
    service.runs.submit(RunRequest(SOURCE, "app"), Trigger("push", commit=AFTER, context="shiplap"))
    forge.answers = [(status, {"Location": "/elsewhere"}, b"Bad credentials")]
    send_all(sender)
    assert newest(service).outcome == "failed"
    assert newest(service).error == f"127.0.0.1 answered {status}: Bad credentials"
    assert len(forge.calls) == 1


@on_one_database
def test_gitlab_s_complaint_about_a_state_that_is_there_is_no_failure(
    service: Service, forge: ForgeServer, sender: StatusSender
) -> None:
    set_up(service, forge, "gitlab")
    service.runs.submit(RunRequest(SOURCE, "app"), Trigger("push", commit=AFTER, context="shiplap"))
    forge.answers = [(400, {}, b'{"message":"Cannot transition status via :enqueue from :pending"}')]
    assert sender.send_due() == 1


def test_other_projects_are_told_while_one_forge_is_down(
    service: Service, forge: ForgeServer, sender: StatusSender
) -> None:
    set_up(service, forge)
    set_up(service, forge, project="other")
    for project in ("app", "app", "other"):
        trigger = Trigger("push", commit=f"{len(service.runs.list())}" * 40, context="shiplap")
        service.runs.submit(RunRequest(SOURCE, project), trigger)
    forge.answers = [(502, {}, b"")]
    assert sender.send_due() == 1
    assert [outcome for _, outcome in outcomes(service)] == ["waiting", "waiting"]
    assert len(forge.calls) == 2  # the second of the project that is down was not tried


def test_two_senders_send_each_status_once(
    service: Service, forge: ForgeServer, sender: StatusSender, clock: Clock
) -> None:
    set_up(service, forge)
    begin(service)
    assert len(sender._take()) == 1
    assert sender.send_due() == 0  # another has it
    clock.now += 91.0
    assert sender.send_due() == 1  # that one must have died


@on_one_database
def test_hosts_that_may_not_be_reached_are_not(service: Service, forge: ForgeServer, clock: Clock) -> None:
    set_up(service, forge)
    begin(service)
    sender = StatusSender(service.database, service.projects, HttpTransport(reach(())), str, clock=clock)
    sender.send_due()
    assert forge.calls == []
    assert "not a public one" in next(one.error for one in list_statuses(service.database, "app") if one.error)


@on_one_database
def test_without_a_token_nothing_is_told(service: Service, forge: ForgeServer, sender: StatusSender) -> None:
    set_up(service, forge)
    begin(service)
    service.projects.set_status_token("app", "")
    assert [sender.send_due() for _ in range(2)] == [0, 0]
    assert forge.calls == []
    assert {outcome for _, outcome in outcomes(service)} == {"failed"}
