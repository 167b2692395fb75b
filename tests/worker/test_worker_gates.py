"""A gate between jobs of real workers: what people see, and that a run goes on a week later as if it were at once."""

from __future__ import annotations

import time

import pytest

from core.settings import ServiceSettings
from images.store import Store
from pipelines.runs.gates import Approver
from pipelines.runs.pipelines import PLANNING
from pipelines.service import Service
from tests.toolkit.bounds import eventually
from tests.toolkit.git import git
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log, states
from worker.keptrows import settle_kept

ANA = Approver("ana", "ana")
DAY_S = 86400.0
SHIP = """
jobs:
  make:
    image: base
    outputs: [out]
    exports: [VERSION]
    run:
      - mkdir out
      - cat README > out/copy
      - echo VERSION=7 >> $SHIPLAP_EXPORTS
  go-live: {needs: make, approve: "Ship ${make.VERSION} of ${SHIPLAP_BRANCH}?"}
  deploy: {needs: go-live, image: base, run: "cat out/copy; test ! -e broken"}
  tell: {needs: go-live, after: failure, image: base, secrets: [KEY], run: "true"}
"""


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def blocked(service: Service, number: int) -> int:
    """Wait until the run's gate asks; its place."""
    eventually(lambda: states(service, number).get("go-live") == "blocked", why="the gate's turn comes")
    return service.jobs.get(number, "go-live").place


def test_run_waits_a_week_while_others_fill_and_prune_the_disk_and_goes_on(
    service: Service,
    settings: ServiceSettings,
    workers: Workforce,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = workers.start("--concurrency", "1")
    number = repository.push({".shiplap.yml": SHIP, "README": "a week old\n"})
    place = blocked(service, number)
    worker.stop()
    began = time.time()
    for day in range(1, 15):  # twice as long as a row is kept that nobody prolongs
        now = began + day * DAY_S / 2.0001
        with monkeypatch.context() as clock, Store.open(settings.root) as store:
            clock.setattr(time, "time", lambda now=now: now)
            settle_kept(service.database, store.kept, now)
            store.images.prune(cache=True)
    with monkeypatch.context() as clock, Store.open(settings.root) as store:
        clock.setattr(time, "time", lambda: began + 30 * DAY_S)
        settle_kept(service.database, store.kept, time.time())
        store.images.prune(cache=True)
        assert store.kept.names(f"run/{number}/"), "as long as the run goes on"
    view = service.gates.view(number, place)
    assert view is not None
    assert view.message == "Ship 7 of main?"
    bring = "shiplap secret set --project app KEY FILE"
    (missing,) = view.missing
    assert missing.endswith(f": tell needs the secret KEY, which this run has not (`{bring}` brings it)")
    assert f"warning: when the run was planned, {missing}" in log(service, number, "go-live")
    monkeypatch.setattr(service.gates, "_clock", lambda: began + 7 * DAY_S - 60)
    service.gates.answer(number, place, ANA, is_yes=True)
    workers.start("--concurrency", "1")
    run = finished(service, number)
    assert run.state == "succeeded", run.reason
    assert "a week old" in log(service, number, "deploy")


def test_approver_sees_what_changed_since_the_last_time(
    service: Service, workers: Workforce, repository: Repository
) -> None:
    workers.start("--concurrency", "1")
    first = repository.push({".shiplap.yml": SHIP, "README": "one\n"})
    place = blocked(service, first)
    view = service.gates.view(first, place)
    assert view is not None
    assert view.changes is None
    service.gates.answer(first, place, ANA, is_yes=True)
    assert finished(service, first).state == "succeeded"
    for title in ("Round up", "Round \x1b[31mdown"):
        (repository.path / title[:8]).write_text(title)
        git(repository.path, "add", ".")
        git(repository.path, "commit", "--quiet", "--author=Eva <eva@example.org>", "-m", title)
    second = repository.push({"README": "two\n"})
    view = service.gates.view(second, blocked(service, second))
    assert view is not None
    assert view.changes is not None
    assert (view.changes.run, view.changes.count, view.changes.files) == (first, 3, 3)
    told = [(commit.author, commit.title) for commit in view.changes.commits]
    assert told[1:] == [("Eva", "Round  [31mdown"), ("Eva", "Round up")]
    service.gates.answer(second, place, ANA, is_yes=False)
    assert finished(service, second).state == "failed"


def test_retry_of_what_failed_takes_an_approval_over_and_of_other_content_asks_again(
    service: Service, workers: Workforce, repository: Repository, settings: ServiceSettings
) -> None:
    workers.start("--concurrency", "1")
    number = repository.push({".shiplap.yml": SHIP, "README": "x\n", "broken": ""})
    place = blocked(service, number)
    service.gates.answer(number, place, ANA, is_yes=True)
    assert finished(service, number).state == "failed"
    again = finished(service, service.runs.retry(number, failed=True).number)
    assert states(service, again.number) == {
        PLANNING: "succeeded", "make": "reused", "go-live": "reused", "deploy": "failed", "tell": "skipped",
    }  # fmt: skip
    assert service.jobs.get(again.number, "go-live").reason == f"approved by ana in run {number}"
    with Store.open(settings.root) as store:
        store.kept.drop(store.kept.names(f"run/{again.number}/"))
    third = service.runs.retry(again.number, redo=("deploy",))
    run = finished(service, third.number)  # what is made again is the same, so nobody is asked
    assert states(service, run.number)["go-live"] == "succeeded"
    assert "with the same content" in service.jobs.get(run.number, "go-live").reason
