"""git push -o follow: the pusher sees the log of what is built, masked, to its end; whoever goes away ends nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from core.settings import ServiceSettings
from pipelines.bare.making import install_hook, make_repository
from pipelines.model import Claim, HookSettings, Project, RunResult
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.git import git
from tests.toolkit.service import eventually
from tests.web.processes import WebProcess, status_of


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    with WebProcess(settings) as web:
        yield web


@pytest.fixture(params=["by path", "over HTTP"])
def clone(
    request: pytest.FixtureRequest, settings: ServiceSettings, service: Service, web: WebProcess, tmp_path: Path
) -> Path:
    """Of a repository as ``project add --bare`` makes it, with a commit that was not pushed."""
    path = make_repository(settings.root, "app")
    service.projects.put(Project("app", hook=HookSettings(forge="plain", repository=f"file://{path}")))
    install_hook(path, f"{web.url}/hooks/app", service.projects.set_webhook_secret("app"))
    git(tmp_path, "clone", "--quiet", str(path), str(tmp_path / "clone"))
    git(tmp_path / "clone", "commit", "--quiet", "--allow-empty", "-m", "one")
    if request.param == "over HTTP":
        token = service.roles.create_token("app", "pusher", "build")[1]
        address = f"http://x:{token}@127.0.0.1:{web.port}/git/app.git"
        git(tmp_path / "clone", "remote", "set-url", "origin", address)
    return tmp_path / "clone"


def pushing(clone: Path, *options: str) -> subprocess.Popen[str]:
    """A push that SIGINT ends: a suite that a shell has started in the background passes on that it is ignored."""
    command = ["env", "--default-signal=INT", "git", "-C", str(clone), "push", *options, "origin", "HEAD:main"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


class Build:
    """Takes the run that was pushed, and writes its log as a worker does."""

    def __init__(self, service: Service) -> None:
        self._service = service
        eventually(lambda: bool(service.runs.list()), why="the push queues a run")
        claim = service.claims.take("fake", ())
        assert claim is not None
        self.claim: Claim = claim
        self._writer = LogWriter(claim, service.database, service.live, Masker([b"hunter22"]), lost=lambda: None)
        self._writer.emit(BuildPlanned((StepInfo(0, "[1/1] RUN make", "", 1),)))
        self._writer.emit(StepStarted(0, time.time()))

    def say(self, text: str) -> None:
        self._writer.emit(StepOutput(0, 1, text.encode() + b"\n", time.time()))

    def end(self) -> None:
        self._writer.emit(StepFinished(0, "done", 1.0, time.time()))
        self._writer.close()
        self._service.claims.finish(self.claim, "succeeded", "", RunResult(), store=self._writer.store)
        self._writer.end()


def test_pusher_sees_the_log_until_the_run_has_ended(service: Service, web: WebProcess, clone: Path) -> None:
    with pushing(clone, "-o", "follow") as push:
        build = Build(service)
        build.say("\x1b[31mthe password is hunter22\x1b[0m \x1b]0;title\x07")
        assert push.stderr is not None
        seen = ""
        while "the password is" not in seen:  # at once, and not when all is over
            seen += push.stderr.readline()
        assert push.poll() is None
        build.say("second line")
        build.end()
        seen += push.stderr.read()
    assert push.returncode == 0
    assert "remote: => [1/1] RUN make" in seen
    assert "hunter22" not in seen
    assert "\x07" not in seen
    assert "[31m" not in seen
    assert "remote: second line" in seen
    assert f"remote: Run {build.claim.number}: succeeded  {web.url}/runs/{build.claim.number}" in seen


def test_push_without_the_option_does_not_wait(service: Service, clone: Path) -> None:
    with pushing(clone, "-o", "other") as push:
        _, said = push.communicate(timeout=stretched(20))
    assert push.returncode == 0
    assert "Shiplap builds it" in said
    assert "Run 1" not in said


def test_whoever_goes_away_ends_nothing(service: Service, clone: Path) -> None:
    with pushing(clone, "-o", "follow") as push:
        build = Build(service)
        build.say("first line")
        assert push.stderr is not None
        while "first line" not in push.stderr.readline():
            pass
        os.killpg(push.pid, signal.SIGINT)
        push.wait(stretched(20))
    eventually(lambda: not group_of(push.pid), why="neither git nor the hook stays")
    eventually(lambda: not served(), why="nor what the service started for it")
    run = service.runs.get(build.claim.number)
    assert (run.state, run.cancel_requested) == ("running", False)
    assert git(clone, "ls-remote", "origin", "refs/heads/main")
    build.end()
    assert service.runs.get(build.claim.number).state == "succeeded"


def served() -> list[str]:
    """The processes of pushes over HTTP."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if b"SHIPLAP_PUSHER=token pusher\0" in path.read_bytes() else []
        except OSError:
            continue
    return found


def group_of(leader: int) -> list[str]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            members = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if members[2] == str(leader) and members[0] != "Z":
            found.append(path.parent.name)
    return found


def ask(web: WebProcess, project: str, secret: str, **wanted: object) -> int:
    """The status of a question for a log."""
    body = json.dumps(wanted).encode()
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["X-Shiplap-Signature"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return status_of(urllib.request.Request(f"{web.url}/hooks/{project}/follow", body, headers))


def test_only_the_runs_of_ones_own_pushes_are_shown(service: Service, web: WebProcess, clone: Path) -> None:
    with pushing(clone) as push:
        push.wait(stretched(20))
    Build(service).end()
    (delivery,) = service.deliveries.list("app")
    secret = service.projects.set_webhook_secret("app")
    service.projects.put(Project("other", hook=HookSettings(forge="plain", repository="https://git.invalid/a.git")))
    service.projects.put(Project("hub", hook=HookSettings(forge="github", repository="https://github.com/a/b.git")))
    others, forges = service.projects.set_webhook_secret("other"), service.projects.set_webhook_secret("hub")
    known = {"delivery": delivery.delivery, "run": 1}
    assert ask(web, "app", secret, **known) == 200
    assert ask(web, "app/plain", secret, **known) == 200
    assert ask(web, "app", "", **known) == 401
    assert ask(web, "app", others, **known) == 403
    assert ask(web, "nothing", secret, **known) == 403
    assert ask(web, "hub", forges, **known) == 403
    assert ask(web, "other", others, **known) == 404
    assert ask(web, "app", secret, delivery=delivery.delivery, run=2) == 404
    assert ask(web, "app", secret, delivery="another", run=1) == 404
    assert ask(web, "app", secret, delivery=delivery.delivery, run="1") == 400
    assert ask(web, "app", secret, repository="x", ref="refs/heads/x", after="y") == 400
