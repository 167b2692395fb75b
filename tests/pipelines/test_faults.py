"""Machines' faults: pauses between attempts, other workers first, and workers that take nothing for a while."""

from __future__ import annotations

import pytest

from pipelines.errors import WorkerSickError
from pipelines.model import Claim, ContextSource, Run, RunRequest, RunResult, RunState, WorkerInfo
from pipelines.runs.claims import Claims
from pipelines.runs.faults import Blame, pause_s
from pipelines.runs.waking import waiting
from pipelines.service import Service

SOURCE = ContextSource("sha256:" + "0" * 64)


class Wall:
    """The clock on the wall, as a test sets it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Plant:
    """A service whose clocks a test moves, and whose workers do what it says."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.wall = Wall()
        self.claims = Claims(service.database, service.live, clock=self.wall)
        service.workers._clock = self.wall
        service.runs._clock = self.wall

    def submit(self, count: int = 1, **members: object) -> list[int]:
        made = [RunRequest(SOURCE, **members) for _ in range(count)]  # type: ignore[arg-type]  # a test's shorthand
        return [self.service.runs.submit(request).number for request in made]

    def beat(self, *names: str, labels: tuple[str, ...] = ()) -> None:
        for name in names:
            self.service.workers.beat(name, labels, 4)

    def take(self, worker: str, labels: tuple[str, ...] = ()) -> Claim | None:
        return self.claims.take(worker, labels)

    def taken(self, worker: str) -> Claim:
        claim = self.take(worker)
        assert claim is not None
        return claim

    def fails(self, worker: str, blame: Blame = "worker") -> Run:
        """The worker takes a run, and fails at it by a machine's fault."""
        run = self.claims.fail(self.taken(worker), "no space left on the disk", blame)
        assert run is not None
        return run

    def ends(self, worker: str, state: RunState = "succeeded") -> int:
        claim = self.taken(worker)
        self.claims.finish(claim, state, "", RunResult(), store=lambda connection: None)
        return claim.run.number

    def state(self, worker: str) -> WorkerInfo:
        return next(info for info in self.service.workers.list() if info.name == worker)


@pytest.fixture
def plant(service: Service) -> Plant:
    return Plant(service)


def test_attempts_are_further_apart_each_time(plant: Plant) -> None:
    plant.submit(max_attempts=4)
    pauses = []
    for _ in range(3):
        plant.fails("w")
        began = plant.wall.now
        while (claim := plant.take("w")) is None:
            plant.wall.now += 0.5
            assert plant.wall.now - began < 1000
        plant.claims.release(claim.number, claim.attempt, "the test gives it back")
        pauses.append(plant.wall.now - began)
        if len(pauses) == 2:
            break
    assert pauses == [pause_s(1), pause_s(3)]
    assert pause_s(1) >= 2
    assert pause_s(3) >= 4 * pause_s(1)


def test_run_that_pauses_says_so_and_gets_no_messages(plant: Plant) -> None:
    (number,) = plant.submit()
    plant.beat("w")
    plant.fails("w")
    assert plant.service.runs.get(number).reason == "is tried again in 3 s (attempt 1 came to nothing)"
    assert waiting(plant.service.database, plant.wall.now) == {}
    assert waiting(plant.service.database, plant.wall.now + 3) == {(): [number]}


def test_clock_that_was_set_back_holds_no_run_up(plant: Plant) -> None:
    plant.submit()
    plant.fails("w")
    plant.wall.now -= 7200
    assert plant.take("w") is not None


def test_worker_told_to_stop_makes_no_pause(plant: Plant) -> None:
    plant.submit()
    claim = plant.taken("w")
    plant.claims.release(claim.number, claim.attempt, "its worker was told to stop")
    assert plant.taken("w").attempt == 2


def test_another_worker_has_the_run_first(plant: Plant) -> None:
    (number,) = plant.submit()
    plant.beat("bad", "good")
    plant.fails("bad")
    plant.wall.now += pause_s(1)
    assert plant.take("bad") is None
    assert plant.taken("good").run.number == number


def test_nobody_waits_for_a_colleague_who_cannot_have_the_run(plant: Plant) -> None:
    plant.submit(worker_labels=("gpu",))
    plant.beat("bad", labels=("gpu",))
    plant.beat("plain")
    claim = plant.take("bad", ("gpu",))
    assert claim is not None
    plant.claims.fail(claim, "why", "worker")
    plant.wall.now += pause_s(1)
    assert plant.take("bad", ("gpu",)) is not None


@pytest.mark.parametrize("gone", ["it has tried, too", "it drains", "it is dead", "it is busy for long"])
def test_worker_tries_again_when_no_other_will(plant: Plant, gone: str) -> None:
    (number,) = plant.submit(max_attempts=5)
    plant.beat("bad", "other")
    plant.fails("bad")
    if gone == "it has tried, too":
        plant.wall.now += pause_s(1)
        plant.fails("other")
    plant.wall.now += pause_s(2)
    if gone == "it drains":
        plant.service.workers.beat("other", (), 4, draining=True)
    elif gone == "it is dead":
        plant.service.workers.leave("other")
    elif gone == "it is busy for long":
        assert plant.take("bad") is None
        plant.wall.now += 60
        plant.beat("other")
    assert plant.taken("bad").run.number == number


def test_worker_at_which_three_runs_fail_in_a_row_takes_nothing_and_says_why(plant: Plant) -> None:
    plant.submit(5)
    plant.beat("bad", "good")
    failed = [plant.fails("bad").number for _ in range(3)]
    assert plant.state("bad").state == "sick"
    told = f"3 runs in a row failed by the machine's fault, the last, run {failed[2]}: no space left on the disk"
    assert plant.state("bad").trouble == told
    with pytest.raises(WorkerSickError, match="3 runs in a row"):
        plant.take("bad")
    plant.wall.now += pause_s(1)
    plant.beat("bad", "good")
    assert [plant.ends("good") for _ in range(5)] == [*failed, *range(failed[2] + 1, failed[2] + 3)]
    assert plant.state("bad").state == "sick"
    assert plant.state("good").state == "idle"


def test_one_run_that_fails_three_times_makes_no_worker_sick(plant: Plant) -> None:
    plant.submit(max_attempts=10)
    plant.beat("w")
    for attempt in range(1, 5):
        plant.fails("w")
        plant.wall.now += pause_s(attempt)
    assert plant.state("w").state != "sick"


def test_one_run_that_goes_well_between_makes_no_worker_sick(plant: Plant) -> None:
    plant.submit(6)
    plant.beat("w")
    for _ in range(2):
        plant.fails("w")
        plant.fails("w")
        plant.ends("w", "failed")  # by a step of its own: the machine did its part
    assert plant.state("w").state != "sick"


def test_registry_that_is_away_makes_no_worker_sick(plant: Plant) -> None:
    plant.submit(9)
    plant.beat("one", "two")
    for _ in range(4):
        plant.fails("one", "elsewhere")
        plant.fails("two", "elsewhere")
    assert {plant.state(name).state for name in ("one", "two")} == {"idle"}
    assert plant.take("one") is not None


def test_what_fails_everywhere_makes_nobody_sick(plant: Plant) -> None:
    plant.submit(3, max_attempts=5)
    plant.beat("one", "two")
    for _ in range(3):
        plant.fails("one")
    assert plant.state("one").state == "sick"
    plant.wall.now += pause_s(1)
    plant.beat("one", "two")
    for _ in range(3):
        plant.fails("two")
    assert plant.state("one").state == plant.state("two").state == "idle"


def test_sick_worker_tries_itself_with_one_run_and_is_well_again(plant: Plant) -> None:
    plant.submit(6)
    plant.beat("bad")
    for _ in range(3):
        plant.fails("bad")
    with pytest.raises(WorkerSickError):
        plant.take("bad")
    plant.wall.now += 21
    trial = plant.taken("bad")
    with pytest.raises(WorkerSickError):
        plant.take("bad")
    plant.claims.finish(trial, "succeeded", "", RunResult(), store=lambda connection: None)
    assert plant.take("bad") is not None
    plant.beat("bad")
    assert plant.state("bad").state == "busy"
    assert plant.state("bad").trouble == ""


def test_trial_that_fails_makes_the_next_pause_longer(plant: Plant) -> None:
    plant.submit(6)
    plant.beat("bad")
    for _ in range(3):
        plant.fails("bad")
    plant.wall.now += 21
    plant.fails("bad")
    plant.wall.now += 21
    with pytest.raises(WorkerSickError, match="3 runs in a row"):
        plant.take("bad")
    plant.wall.now += 21
    assert plant.take("bad") is not None


def test_trial_is_not_a_runs_last_attempt_while_others_could_have_it(plant: Plant) -> None:
    plant.submit(3)
    plant.beat("bad", "good")
    for _ in range(3):
        plant.fails("bad")
    (last,) = plant.submit(priority=9, max_attempts=1)
    (spare,) = plant.submit(max_attempts=2)
    plant.wall.now += 21
    plant.beat("bad", "good")
    assert plant.taken("bad").run.number == spare
    assert plant.taken("good").run.number == last


def test_trial_may_be_a_runs_last_attempt_when_nobody_else_could_have_it(plant: Plant) -> None:
    plant.submit(3)
    plant.beat("bad")
    for _ in range(3):
        plant.fails("bad")
    (last,) = plant.submit(priority=9, max_attempts=1)
    plant.wall.now += 21
    assert plant.taken("bad").run.number == last


def test_reason_says_when_all_workers_are_sick(plant: Plant) -> None:
    plant.submit(3)
    plant.beat("bad")
    for _ in range(3):
        plant.fails("bad")
    (number,) = plant.submit()
    assert plant.service.runs.get(number).reason == "all workers are sick, the page of workers says why"


def test_worker_that_leaves_takes_its_record_along(plant: Plant) -> None:
    plant.submit(4)
    plant.beat("bad")
    for _ in range(3):
        plant.fails("bad")
    plant.service.workers.leave("bad")
    plant.beat("bad")
    assert plant.take("bad") is not None


def test_record_goes_with_its_runs(plant: Plant) -> None:
    plant.submit(3, max_attempts=1)
    plant.beat("bad")
    for _ in range(3):
        assert plant.fails("bad").state == "error"
    assert plant.state("bad").state == "sick"
    plant.service.projects.remove("default")
    assert plant.state("bad").state == "idle"
