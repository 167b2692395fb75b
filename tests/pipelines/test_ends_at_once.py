"""Workers that end jobs of one run at the same moment on PostgreSQL: nobody waits for ever, and nothing is lost.

``SHIPLAP_TRIES=1000`` tries it a thousand times, as was asked for; usually it is fewer.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import pytest

from ci.graph import ENDED
from core.settings import ServiceSettings
from pipelines.errors import ConflictError, StaleAttemptError
from pipelines.model import Claim, RunRequest
from pipelines.runs.waking import waiting
from pipelines.service import Service
from tests.pipelines.test_pipelines import SOURCE, TRIGGER, claimed, end, node, nothing, pipeline, states, write

TRIES = int(os.environ.get("SHIPLAP_TRIES", "60"))
End = Callable[[Service, Claim], object]
ENDS: tuple[tuple[str, End], ...] = (
    ("succeeded", lambda service, claim: end(service, claim)),
    ("failed", lambda service, claim: end(service, claim, "failed", message="no")),
    ("tried again", lambda service, claim: service.claims.try_again(claim, "no", store=nothing)),
    ("released", lambda service, claim: service.claims.release(claim.number, claim.attempt, "it died")),
    ("pinned", lambda service, claim: service.pipelines.keep_image(claim, f"image {claim.number}", "x")),
    ("cancelled", lambda service, claim: service.runs.cancel(claim.run.number, by="ana")),
    ("job cancelled", lambda service, claim: service.jobs.cancel(claim.run.number, claim.name, by="ana")),
    ("renewed", lambda service, claim: service.claims.renew(claim)),
    ("topped up", lambda service, _: waiting(service.database)),
)


def at_once(service: Service, another: Service, claims: tuple[Claim, Claim], ends: list[tuple[str, End]]) -> None:
    """Let both services end their claims at the same moment. A deadlock is an error of one of them."""
    start = threading.Barrier(len(claims))
    broken: list[tuple[str, BaseException]] = []

    def work(own: Service, claim: Claim, how: str, act: End) -> None:
        start.wait()
        try:
            act(own, claim)
        except (ConflictError, StaleAttemptError):
            return  # the other one has ended the run, or taken the job
        except BaseException as error:
            broken.append((how, error))

    threads = [
        threading.Thread(target=work, args=(own, claim, *how))
        for own, claim, how in zip((service, another), claims, ends, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_two_workers_that_end_jobs_of_one_run_never_wait_for_each_other(
    service: Service, settings: ServiceSettings
) -> None:
    chance = random.Random(16)
    with Service.open(settings) as another:
        for _ in range(TRIES):
            run = service.runs.submit(RunRequest(SOURCE, "app", max_attempts=10), TRIGGER).number
            nodes = (node("a"), node("b"), node("c", "a", "b"), node("down", "a", after="always"))
            write(service, claimed(service), pipeline(*nodes, stop_on_failure=chance.random() < 0.7, statuses="jobs"))
            claims = claimed(service, "one"), claimed(another, "other")
            chosen = [chance.choice(ENDS) for _ in claims]
            at_once(service, another, claims, chosen)
            _do_the_rest(service, run, claims)
            assert all(state in ENDED for state in states(service, run).values()), (chosen, states(service, run))
            assert service.runs.get(run).is_final, chosen


def _do_the_rest(service: Service, run: int, claims: tuple[Claim, ...]) -> None:
    """End what is left of a run, as workers do."""
    for claim in claims:
        service.claims.release(claim.number, claim.attempt, "it died")
    while (left := service.claims.take("rest", ())) is not None:
        assert left.run.number == run
        end(service, left)
