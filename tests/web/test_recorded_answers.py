"""What the service says of runs without a pipeline file, word by word: ``recorded_answers.json`` was recorded at 0.2.0.

The API, the pages' JSON, metrics, the audit trail and the marks of commits. A change in the file is a change that users
see, or a program of theirs.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from core.events import BuildPlanned, StepFinished, StepInfo, StepOutcome, StepOutput, StepProgress, StepStarted, Warned
from core.masking import Masker
from pipelines.model import Claim, HookSettings, Project, RunResult, RunState
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from pipelines.sources.git import reach
from pipelines.statuses.sending import StatusSender
from pipelines.statuses.transport import HttpTransport
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import SECRET, Hook
from tests.toolkit.forgeserver import ForgeServer, forge_server
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from tests.web.test_api import upload

RECORDED = Path(__file__).with_name("recorded_answers.json")
COMMITS = ("1" * 40, "2" * 40, "3" * 40)
_TIMES = ("created_at", "queued_at", "started_at", "finished_at", "at", "heartbeat_at", "received_at", "decided_at",
          "due_at", "sent_at")  # fmt: skip
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b\d{10}\.\d+(?:e\+\d+)?\b|\b1\.\d+e\+09\b"), "SECONDS"),
    (re.compile(r"(?<=_seconds_sum )\S+"), "SECONDS"),
    (re.compile(r"(?<=_waiting_seconds\{labels=\"\"\} )\S+"), "SECONDS"),
    (re.compile(r"is tried again in \d+ s"), "is tried again in N s"),
    (re.compile(r"127\.0\.0\.1:\d+"), "FORGE"),
)


class Recorder:
    """Asks as an administrator, by the API and on pages, and keeps the answers without what differs each time."""

    def __init__(self, api: Api, service: Service, forge: ForgeServer) -> None:
        self.said: list[dict[str, Any]] = []
        self.service = service
        self.api = api
        self._forge = forge
        transport = HttpTransport(reach(("127.0.0.1",)))
        self._sender = StatusSender(service.database, service.projects, transport, lambda run: f"https://ci/{run}")

    def ask(self, *questions: str, body: Any = None) -> None:
        """Each ``METHOD PATH``, of the API or, with ``page:`` in front of the path, of pages."""
        for question in questions:
            method, _, path = question.partition(" ")
            if path.startswith("page:"):
                headers = {"HX-Request": "true", "X-CSRF-Token": csrf(self.api.client)}
                answer = self.api.client.open(path.removeprefix("page:"), method=method, headers=headers)
            else:
                answer = self.api.send(method, path, body)
            found = answer.get_json(silent=True)
            lines = answer.get_data(as_text=True).splitlines()
            told = usual(found) if found is not None else [usual(line) for line in lines if line.strip()]
            place = answer.headers.get("Location", "")
            self.said.append({"asked": question, "status": answer.status_code, "said": told}
                             | ({"location": place} if place else {}))  # fmt: skip

    def marks(self) -> None:
        """Send what the outbox has, and keep what the forge got."""
        while self._sender.send_due():
            pass
        self.said += [{"marked": usual(call.path), "as": usual(call.body)} for call in self._forge.calls]
        self._forge.calls.clear()

    def push(self, hook: Hook, delivery: str) -> None:
        headers, body = Hook(hook.forge, hook.event, hook.document, delivery).request(SECRET)
        answer = self.api.client.post("/hooks/app", headers=headers, data=body)
        self.said.append({"pushed": delivery, "status": answer.status_code, "said": usual(answer.get_json())})
        self.marks()


def usual(value: Any) -> Any:
    """The same value with one word for whatever a clock or chance decides."""
    if isinstance(value, dict):
        return {
            name: "TIME" if name in _TIMES and isinstance(each, int | float) else usual(each)
            for name, each in value.items()
        }
    if isinstance(value, float) and round(value, 1) != value:
        return "MEASURED"
    if isinstance(value, list):
        return [usual(each) for each in value]
    if isinstance(value, str):
        for pattern, word in _VARYING:
            value = pattern.sub(word, value)
        return re.sub(r'"at":[\d.]+', '"at":TIME', re.sub(r'("\w+_at"):[\d.]+', r"\1:TIME", value))
    return value


def taken(service: Service) -> Claim:
    claim = service.claims.take("w", ("linux",))
    assert claim is not None
    return claim


def built(
    service: Service, claim: Claim, outcome: StepOutcome, state: RunState, reason: str, result: RunResult
) -> None:
    """Write a log of two steps as a worker does, and end the run."""
    writer = LogWriter(claim, service.database, service.live, Masker([b"hunter22"]), lost=lambda: None)
    now = time.time()
    writer.status(f"attempt {claim.attempt} of {claim.run.max_attempts} on worker {claim.worker}")
    writer.emit(BuildPlanned((StepInfo(0, "[1/2] FROM base", "", 1), StepInfo(1, "[2/2] RUN make", "app", 2))))
    writer.emit(StepFinished(0, "cached", 0.0, now))
    writer.emit(Warned("it is old", 2, "Old"))
    writer.emit(StepStarted(1, now))
    writer.emit(StepProgress(1, "fetching", 5, 10))
    writer.emit(StepOutput(1, 1, b"make it\n\x1b[31mwith hunter22\x1b[0m\n", now))
    writer.emit(StepOutput(1, 2, b"and an end without a newline", now))
    writer.emit(StepFinished(1, outcome, 1.5, now, "exit code: 2" if outcome == "failed" else ""))
    writer.sizes({1: 1234})
    writer.close()
    writer.add_last(f"{state}: {reason}" if reason else state)
    service.claims.finish(claim, state, reason, result, store=writer.store)
    writer.end()


@pytest.fixture
def recorder(api: Api, client: FlaskClient, service: Service) -> Iterator[Recorder]:
    with forge_server() as forge:
        hook = HookSettings("https://github.com/octo-org/hello.git", "github", api_url=f"{forge.url}/api")
        service.projects.put(Project("app", hook=hook))
        service.projects.set_webhook_secret("app", SECRET)
        service.projects.set_status_token("app", "ghp_secret")
        sign_in(client, service, "ada", "admin")
        with service.database.write() as connection:  # so that no job's number is taken for its run's, or shown
            connection.execute(text("UPDATE sqlite_sequence SET seq = 1000 WHERE name = 'jobs'"))
        yield Recorder(api, service, forge)


def by_hand(recorder: Recorder) -> None:
    """Run 1, with a secret of its own: it waits, goes, and succeeds."""
    context = upload(recorder.api, Dockerfile=b"FROM scratch\n")
    recorder.ask("POST /runs", body={
        "source": {"type": "context", "context": context}, "project": "app", "priority": 5, "worker_labels": ["linux"],
        "max_attempts": 2, "options": {"tags": ["app:1"], "build_args": {"A": "1"}, "secrets": ["stored"]},
        "secrets": {"own": base64.b64encode(b"hunter22").decode()},
    })  # fmt: skip
    recorder.ask("GET /runs/1", "GET /runs/1/steps", "GET /runs/1/log")
    recorder.service.workers.beat("w", ("linux",), 1)
    recorder.ask("GET /runs/1")
    claim = taken(recorder.service)
    recorder.ask("GET /runs/1", "GET /workers", "POST /runs/1/retry")
    result = RunResult(f"sha256:{'a' * 64}", f"sha256:{'b' * 64}", ("ci:5000/app:1",), 1, 1, 2.5)
    built(recorder.service, claim, "done", "succeeded", "", result)
    whole = ("", "/steps", "/log", "/log?first=3&limit=2", "/log/text", "/log/text?offset=10&limit=20",
             "/log/search?text=MAKE", "/events", "/events?after=5")  # fmt: skip
    recorder.ask(*(f"GET /runs/1{part}" for part in whole))
    recorder.ask("GET page:/runs/1/log/matches?text=make", "GET page:/runs/1/log/steps")
    recorder.ask("POST /runs/1/cancel", "POST /runs/1/retry")


def pushed(recorder: Recorder) -> None:
    """Run 2 waits and is superseded by run 3, which fails; run 4 repeats that and is cancelled while it goes."""
    for commit in COMMITS[:2]:
        recorder.push(sent.github_push(after=commit, before=sent.BEFORE), f"delivery-{commit[0]}")
    recorder.ask("GET /runs/2", "GET /runs/2/log")
    claim = taken(recorder.service)
    recorder.marks()
    error = RunResult(error="error: Dockerfile:2:1: RUN make: exit code: 2\n 2 | RUN make\n   | ^^^")
    built(recorder.service, claim, "failed", "failed", "RUN make: exit code: 2", error)
    recorder.marks()
    recorder.ask("GET /runs/3", "GET /runs/3/steps")
    recorder.ask("POST /runs/3/retry")
    recorder.marks()
    claim = taken(recorder.service)
    recorder.ask("POST /runs/4/cancel", "POST /runs/4/cancel")
    told = recorder.service.claims.why_cancelled(claim)
    built(recorder.service, claim, "cancelled", "cancelled", told or "", RunResult(duration_s=1.0))
    recorder.marks()
    recorder.ask("GET /runs/4", "GET /runs/4/log/text")


def faulty(recorder: Recorder) -> None:
    """Run 5 is tried by a machine that fails, and is cancelled while it waits for another; run 6 uses its attempts."""
    recorder.ask("POST page:/runs/4/retry")
    recorder.service.claims.fail(taken(recorder.service), "no space left", "worker")
    recorder.marks()
    recorder.ask("GET /runs/5", "GET /runs/5/log", "POST page:/runs/5/cancel", "GET /runs/5")
    recorder.ask("GET /runs/5/events")
    source = {"type": "git", "url": "https://git.example/a.git", "ref": "main"}
    recorder.ask("POST /runs", body={"source": source, "project": "other", "max_attempts": 1})
    recorder.service.claims.fail(taken(recorder.service), "no space left", "elsewhere")
    recorder.ask("GET /runs/6", "GET /runs/6/log/text")
    recorder.push(sent.github_push(after=COMMITS[2], before=COMMITS[1]), "delivery-3")


def lists(recorder: Recorder) -> None:
    """What is said of all runs together, and of those that are not there."""
    recorder.ask("GET /runs", "GET /runs?state=cancelled&limit=1", "GET /runs?project=app&before=3")
    for part in ("", "/steps", "/log", "/log/text", "/log/search?text=x", "/events"):
        recorder.ask(f"GET /runs/99{part}")
    recorder.ask("POST /runs/99/cancel", "POST /runs/99/retry")
    recorder.ask("GET /projects/app/history", "GET /projects/app/statuses", "GET /projects/app/deliveries")
    recorder.ask("GET page:/badge/app.svg?branch=main", "GET page:/metrics")
    recorder.ask("DELETE /projects/app", "POST /runs/7/cancel", "DELETE /projects/app", "GET /runs")
    recorder.ask("GET page:/metrics", "GET /audit")


def test_what_is_said_of_runs_is_what_was_recorded(recorder: Recorder) -> None:
    for part in (by_hand, pushed, faulty, lists):
        part(recorder)
    if not RECORDED.exists():
        lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in recorder.said)
        RECORDED.write_text(f"[\n{lines}\n]\n")
        pytest.fail(f"recorded anew: look whether {RECORDED.name} is as it should be")
    before = json.loads(RECORDED.read_text())
    assert [answer.get("asked") for answer in recorder.said] == [answer.get("asked") for answer in before]
    for answer, expected in zip(recorder.said, before, strict=True):
        assert answer == expected
