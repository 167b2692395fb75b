"""Runs of any graph, in both databases, with three workers that fail and die: each step is what the rules say.

Jobs are not really done; whatever is written is written by what workers, the reaper and those who cancel call.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection

import pipelines.runs.states
from ci.ends import JobOutcome
from ci.graph import ENDED
from pipelines.errors import ConflictError, StaleAttemptError
from pipelines.model import Claim, RunRequest
from pipelines.runs.graphs import GraphRow, Moved, graph_of, move_on, plans
from pipelines.runs.pipelines import PLANNING, end_late_runs
from pipelines.runs.waking import waiting
from pipelines.schema import jobs, runs
from pipelines.service import Service
from tests.pipelines.test_pipelines import SOURCE, TRIGGER, end, nothing, pipeline
from tests.toolkit.bounds import Deadline
from tests.toolkit.jobgraphs import above, random_graph, settled, signalled, state_of_run

RUNS = {"sqlite": 150, "postgresql": 50}
WAYS = {"cancelled", "error", "failed", "succeeded", "warnings", "always succeeded"}
"""In which runs end, and a job that runs whatever the others did."""
LATE = 1e6
"""How many seconds too late a run is whose time is over."""


class Killed(Exception):
    """A worker is killed in the middle of a transaction."""


def die(connection: Connection) -> NoReturn:
    """Stands for what stores the rest of a log."""
    raise Killed


def named(claim: Claim) -> str:
    return claim.name if claim.kind == "job" else PLANNING


class Rules:
    """Compares each step of each run with the rules, within its transaction. ``move_on`` is what it stands for."""

    def __init__(self, move_on: Callable[[Connection, int, float], Moved]) -> None:
        self._move_on = move_on
        self.steps = 0

    def __call__(self, connection: Connection, run: int, now: float) -> Moved:
        row = connection.execute(select(runs.c.stop, runs.c.plan).where(runs.c.number == run)).one()
        how = {"stop": row.stop, "stop_on_failure": plans.decode(row.plan).stop_on_failure}
        before = [each.node for each in graph_of(connection, run)]
        told = signalled(before, **how)
        moved = self._move_on(connection, run, now)
        after = graph_of(connection, run)
        nodes = [each.node for each in after]
        assert {node.name: node.state for node in nodes} == settled(before, **how), (before, how)
        for node in nodes:
            if node.state == "running":
                assert all(up.state in ENDED for up in above(node, nodes)), (node.name, nodes)
        self._check_signals(connection, after, told)
        flaky = frozenset(each.node.name for each in after if each.is_flaky)
        state = connection.execute(select(runs.c.state).where(runs.c.number == run)).scalar_one()
        assert state == state_of_run(nodes, flaky), nodes
        self.steps += 1
        return moved

    def _check_signals(self, connection: Connection, after: list[GraphRow], told: set[str]) -> None:
        going = [each.number for each in after if each.node.state == "running"]
        asked = select(jobs.c.name).where(jobs.c.number.in_(going), jobs.c.cancel_requested)
        assert told == set(connection.execute(asked).scalars())


class Crew:
    """Three workers, of which each is also whoever cancels and the reaper, now and then. died: claims nobody ends."""

    def __init__(self, service: Service, chance: random.Random) -> None:
        self.service = service
        self.done: Counter[tuple[int, str]] = Counter()
        self.starts: dict[tuple[int, str], list[int]] = {}
        self.died: list[Claim] = []
        self.zombies = 0
        self.broken: list[BaseException] = []
        self._seeds = iter([chance.random() for _ in range(3)])
        self._deadline = Deadline(120.0, "all runs end")

    def work(self, name: str) -> None:
        chance = random.Random(next(self._seeds))
        try:
            while not self.broken and self._is_going():
                self._deadline.check()
                claim = self.service.claims.take(name, ())
                if claim is not None:
                    self.starts.setdefault((claim.run.number, named(claim)), []).append(claim.attempt)
                    self._do(claim, chance)
                self._interfere(claim, name, chance)
        except BaseException as error:
            self.broken.append(error)
            raise

    def _is_going(self) -> bool:
        with self.service.database.read() as connection:
            wanted = select(runs.c.number).where(runs.c.state.in_(("queued", "running"))).limit(1)
            return connection.execute(wanted).first() is not None

    def _do(self, claim: Claim, chance: random.Random) -> None:
        what = chance.random()
        if what < 0.08:
            self.died.append(claim)
        elif what < 0.14:
            with suppress(Killed):
                self._end(claim, chance, die)
                raise AssertionError("it ended although it was killed")
            self.died.append(claim)
        elif what < 0.22 and claim.kind == "job":
            self.service.claims.try_again(claim, "once more", store=nothing)
        else:
            self._end(claim, chance, nothing)
            self.done[claim.run.number, named(claim)] += 1

    def _end(self, claim: Claim, chance: random.Random, store: Callable[[Connection], None]) -> None:
        if claim.kind == "build":
            plan = pipeline(
                *random_graph(chance),
                stop_on_failure=chance.random() < 0.2,
                timeout_s=LATE * chance.choice((-1, 9, 9, 9, 9)),
            )
            self.service.pipelines.write(claim, [plan], mark="", own_secrets={}, store=store)
            return
        states = ["succeeded", "succeeded", "reused", "failed"]
        if self.service.claims.why_cancelled(claim) is not None:
            states += ["cancelled"] * 3
        state: Any = chance.choice(states)
        outcome = JobOutcome("failed" if state == "cancelled" else state)
        self.service.claims.finish(claim, state, "", outcome, store=store)

    def _interfere(self, claim: Claim | None, name: str, chance: random.Random) -> None:
        if self.died and (claim is None or chance.random() < 0.3):
            with suppress(IndexError):  # another one has just taken it
                dead = self.died.pop(chance.randrange(len(self.died)))
                self.service.claims.release(dead.number, dead.attempt, f"worker {dead.worker} stopped answering")
                with pytest.raises(StaleAttemptError):
                    end(self.service, dead)
                self.zombies += 1
        if chance.random() < 0.02:
            end_late_runs(self.service.database, time.time())
        if claim is None or chance.random() > 0.1:
            return
        with suppress(ConflictError):
            if chance.random() < 0.4:
                self.service.runs.cancel(claim.run.number, by=name)
            else:
                for view in self.service.jobs.list(claim.run.number)[1:]:
                    if chance.random() < 0.3:
                        self.service.jobs.cancel(claim.run.number, view.name, by=name)


def ended(service: Service, chance: random.Random, count: int) -> Counter[str]:
    """So many runs are worked off; how they and their jobs ended, each checked."""
    requests = [RunRequest(SOURCE, "app", max_attempts=chance.choice((1, 2, 3))) for _ in range(count)]
    numbers = [service.runs.submit(request, TRIGGER).number for request in requests]
    crew = Crew(service, chance)
    threads = [threading.Thread(target=crew.work, args=(f"w{place}",)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crew.broken == []
    assert waiting(service.database) == {}
    assert crew.zombies > count / 5, "workers that never die show nothing"
    ends: Counter[str] = Counter()
    for number in numbers:
        ends[service.runs.get(number).state] += 1
        for view in service.jobs.list(number):
            its = (number, PLANNING if view.place == 1 else view.name)
            ends[f"{view.after} {view.state}"] += 1
            starts = crew.starts.get(its, [])
            assert sorted(starts) == list(range(1, view.attempt + 1)), "each attempt is one worker's"
            assert view.state in ENDED
            assert crew.done[its] <= 1
            if view.state in ("succeeded", "reused", "failed"):
                assert crew.done[its] == 1
            elif view.state in ("skipped", "error"):
                assert crew.done[its] == 0
    return ends


def test_any_graph_ends_as_the_rules_say_in_the_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(16)
    rules = Rules(move_on)
    monkeypatch.setattr(pipelines.runs.states, "move_on", rules)
    count = RUNS[service.database.engine.dialect.name]
    ends = ended(service, chance, count)
    for _ in range(4):  # threads are chance: in one of a hundred times fifty runs do not end in every way
        if not set(ends) >= WAYS:
            ends += ended(service, chance, count)
    assert rules.steps > count
    assert set(ends) >= WAYS
