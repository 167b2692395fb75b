"""How jobs end: cancelled, late, killed, over a limit; and what is left of them, which is nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.request.limits import StepLimits
from ci.errors import JobCancelledError
from containers.resources import Limits
from containers.spec import ContainerSpec
from tests.ci.execution.jobshop import JobShop
from tests.toolkit.bounds import eventually, stretched

MIB = 1 << 20


@contextmanager
def setting(event: threading.Event, when: Callable[[], bool]) -> Iterator[None]:
    """Set an event once something is so."""

    def wait() -> None:
        eventually(when)
        event.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


TIDY = """
jobs:
  a:
    image: base:1
    grace: 1m
    outputs: {path: "*", optional: true}
    run:
      - echo before
      - |
        trap 'sleep 0.3; echo let go; exit 0' TERM
        sh -c 'trap "sleep 0.5; echo child let go; exit" TERM; while :; do sleep 0.05; done' &
        setsid sh -c 'trap "echo daemon let go; exit" TERM; while :; do sleep 0.05; done' &
        touch made; sleep 0.3; echo ready; while :; do sleep 0.05; done
      - echo after
"""


def test_cancelled_job_gets_a_signal_for_all_and_the_time_to_let_go(shop: JobShop) -> None:
    cancelled = threading.Event()
    with setting(cancelled, lambda: "ready" in shop.last.said), pytest.raises(JobCancelledError):
        shop.run(TIDY, cancelled=cancelled, killed=threading.Event())
    (before, (outcome, said), after) = shop.last.steps.values()
    assert before == ("done", "before\n")
    assert outcome == "cancelled"
    assert {"ready", "let go", "child let go", "daemon let go"} <= set(said.splitlines())
    assert after == ("cancelled", "")
    assert shop.left() == []


def test_job_that_ignores_the_signal_is_killed_after_its_grace(shop: JobShop) -> None:
    text = TIDY.replace("grace: 1m", "grace: 1s").replace("sleep 0.3; echo let go; exit 0", "")
    cancelled = threading.Event()
    began = time.monotonic()
    with setting(cancelled, lambda: "ready" in shop.last.said), pytest.raises(JobCancelledError):
        shop.run(text, cancelled=cancelled)
    assert 1 < time.monotonic() - began < stretched(30)
    assert shop.left() == []


def test_killed_job_has_no_time(shop: JobShop) -> None:
    cancelled, killed = threading.Event(), threading.Event()
    text = TIDY.replace("sleep 0.3; echo let go", "sleep 100; echo never")
    with (
        setting(cancelled, lambda: "ready" in shop.last.said),
        setting(killed, cancelled.is_set),
        pytest.raises(JobCancelledError),
    ):
        shop.run(text, cancelled=cancelled, killed=killed)
    assert "never" not in shop.last.said
    assert shop.left() == []


def test_late_job_is_ended_as_if_it_were_cancelled(shop: JobShop) -> None:
    """What it exits with then says nothing."""
    outcome = shop.run(TIDY.replace("grace: 1m", "grace: 1m\n    timeout: 2s"))
    assert (outcome.state, outcome.failure, outcome.exit_code) == ("failed", "timeout", 0)
    assert outcome.message == "the job ran longer than 2s, its time-out (give it more: `timeout: …`)"
    assert "daemon let go" in shop.last.said
    assert outcome.outputs is None
    assert [outcome for outcome, _ in shop.last.steps.values()] == ["done", "failed", "cancelled"]


@pytest.mark.parametrize("event", ["cancelled", "killed"])
def test_cancelled_before_it_begins_it_begins_nothing(shop: JobShop, event: str) -> None:
    events: dict[str, Any] = {"cancelled": threading.Event(), "killed": threading.Event()}
    events[event].set()
    with pytest.raises(JobCancelledError):
        shop.run(TIDY, **events)
    assert shop.last.said == ""


@pytest.mark.parametrize("script", ["exec >&- 2>&-; sleep 1000", "sleep 1000 & exec sleep 1000", "kill -STOP $$"])
def test_job_that_says_nothing_is_cancelled_all_the_same(shop: JobShop, script: str) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(1, cancelled.set)
    timer.start()
    with pytest.raises(JobCancelledError):
        shop.run(f"jobs: {{a: {{image: 'base:1', grace: 1s, run: '{script}'}}}}", cancelled=cancelled)
    timer.join()
    assert shop.left() == []


@pytest.mark.parametrize(
    ("limits", "script", "message"),
    [
        ("memory: 32m", "head -c 100m /dev/zero | tail", "the job ran out of memory"),
        ("memory: 1m", "true", "the set-up of the container ran out of memory"),
        ("pids: 8", "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done; wait", "the job could not make more processes"),
        ("pids: 50", "b() { b | b; }; b", "the job could not make more processes"),
        ("disk: 20m", "head -c 60m /dev/zero >big; sleep 60", "it wrote more than 20971520 bytes"),
        ("disk: 20m", "head -c 60m /dev/zero >/root/big; sleep 60", "it wrote more than 20971520 bytes"),
        ("disk: 20m", "head -c 60m /dev/zero >$SHIPLAP_EXPORTS; sleep 60", "it wrote more than 20971520 bytes"),
        ("disk: 20m", "head -c 60m /dev/zero >big", "it wrote more than 20971520 bytes"),
    ],
)
def test_job_over_a_limit_of_its_own_fails_by_it(shop: JobShop, limits: str, script: str, message: str) -> None:
    outcome = shop.run(f"""
jobs:
  a:
    image: base:1
    outputs: {{path: "*", optional: true}}
    limits: {{{limits}}}
    run: |
      {script}
""")
    assert (outcome.state, outcome.failure) == ("failed", "limit"), outcome
    assert message in outcome.message
    assert outcome.outputs is None
    assert shop.left() == []


def test_limits_of_the_worker_hold_whatever_the_job_says(shop: JobShop) -> None:
    worker = StepLimits(container=Limits(pids=8), output_bytes=MIB)
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done; wait"
    text = f"jobs: {{a: {{image: 'base:1', limits: {{pids: 4000}}, run: '{script}'}}}}"
    outcome = shop.run(text, limits=worker)
    assert (outcome.state, outcome.failure) == ("failed", "limit")
    outcome = shop.run("jobs: {a: {image: 'base:1', run: 'yes'}}", limits=worker)
    assert (outcome.state, outcome.failure) == ("failed", "limit")
    assert "it printed more than 1048576 bytes" in outcome.message
    outcome = shop.run("jobs: {a: {image: 'base:1', limits: {shm: 1m}, run: 'df -k /dev/shm | tail -n 1'}}")
    assert shop.last.said.split()[1] == "1024"


def test_job_that_removes_its_workspace_harms_nobody(shop: JobShop) -> None:
    text = """
jobs:
  a: {image: "base:1", run: "rm -rf /work /bin 2>/dev/null; echo still here", outputs: {path: "*", optional: true}}
  b: {image: "base:1", needs: a, run: "ls"}
"""
    shop.run(text, files={"f": "", "d/g": ""})
    assert shop.outcomes["a"].state == "failed"  # /work itself cannot be removed
    assert shop.last.said.split() == ["d", "f"]
    assert shop.left() == []


def test_last_words_are_told_and_secrets_among_them_are_not(shop: JobShop) -> None:
    text = "jobs: {a: {image: 'base:1', secrets: [KEY], run: 'printf \"\\033[31mthe key $KEY\\n\\n\"; exit 3'}}"
    outcome = shop.run(text, given={"secrets": {"KEY": b"correct-horse-battery"}})
    assert (outcome.exit_code, outcome.failure) == (3, "failure")
    assert outcome.message.startswith("exit code 3: the key *")
    assert "horse" not in outcome.message
    outcome = shop.run("jobs: {a: {image: 'base:1', run: no-such-command}}")
    assert outcome.message.endswith("(127: the shell did not find the command; is it in the image, and on its PATH?)")
    outcome = shop.run("jobs: {a: {image: 'base:1', run: 'kill -KILL $$'}}")
    assert (outcome.exit_code, outcome.failure) == (137, "failure")
    assert outcome.message.startswith("signal 9 ended the command")


def test_jobs_at_the_same_time_never_meet(shop: JobShop) -> None:
    """Two hold the same lock file, and write the same names."""
    text = """
jobs:
  a:
    image: base:1
    outputs: out
    run: |
      mkdir lock; mkdir -p out; echo $SHIPLAP_RUN >out/$(hostname); n=0
      while [ $n -lt 100 ]; do ls; n=$((n + 1)); done | sort -u
"""
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(shop.run(text).outputs)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert shop.left() == []


def test_somebody_may_look_at_what_failed(shop: JobShop, tmp_path: Path) -> None:
    """On the files as the command left them, those of the workspace and of the image."""
    looked: list[str] = []

    def look(spec: ContainerSpec) -> None:
        said = tmp_path / "said"
        with open("/dev/null", "rb") as null, open(said, "wb") as output:
            wanted = spec._replace(args=("sh", "-c", "cat made /tmp/too; echo more >made"))
            out = output.fileno()
            shop.launcher.start(wanted, stdin=null.fileno(), stdout=out, stderr=out).wait(stretched(60))
        looked.append(said.read_text())

    outcome = shop.run("jobs: {a: {image: 'base:1', run: 'echo here >made; echo there >/tmp/too; false'}}", held=look)
    assert outcome.state == "failed"
    assert looked == ["here\nthere\n"]
    assert shop.left() == []
