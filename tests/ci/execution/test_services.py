"""Services of a job: ready before it, reached by name, told apart from others, and never outlived by anything."""

from __future__ import annotations

import threading
import time

import pytest

from ci.errors import JobCancelledError
from ci.execution.reporting import READING
from ci.outcome import MemoryPins
from containers.errors import LimitError
from containers.launcher import Launcher
from core.errors import StorageFullError
from core.events import Event, StepOutput
from images.oci import Healthcheck
from tests.ci.execution.jobshop import JobShop, Seen
from tests.toolkit.bounds import stretched

_SERVE = "while :; do echo $WHO | nc -l -p 7000; done"
_ASK = "nc -w 2 db 7000 </dev/null"
_SECOND_NS = 10**9


@pytest.fixture
def shop(shop: JobShop) -> JobShop:
    """One with an image whose containers run what a service says."""
    shop.bring_service()
    return shop


def _file(script: str = _SERVE, more: str = "", run: str = _ASK, job: str = "") -> str:
    return f"""\
services:
  db: {{image: "service:1", env: {{WHO: hello}}, args: [sh, -c, {script!r}]{more}}}
jobs:
  test: {{image: "base:1", services: [db], run: {run!r}{job}}}
"""


def test_a_job_reaches_its_service_by_name(shop: JobShop) -> None:
    """It begins when the port listens, although the service takes a while."""
    outcome = shop.run(_file(f"echo about to begin; sleep 0.5; {_SERVE}", ", ready: 7000"))
    assert outcome.state == "succeeded", outcome
    assert shop.last.steps == {
        "service db": ("done", "about to begin\n"),
        "[internal] wait until the services are ready": ("done", ""),
        _ASK: ("done", "hello\n"),
    }
    assert shop.left() == []


def test_services_reach_each_other_and_the_job(shop: JobShop) -> None:
    outcome = shop.run("""\
services:
  first: {image: "service:1", args: [sh, -c, "while :; do echo first | nc -l -p 80; done"], ready: 80}
  second:
    image: service:1
    args: [sh, -c, "while :; do nc -l -p 80 -e sh -c 'nc first 80 </dev/null; nc job 90 </dev/null'; done"]
    ready: {port: 80}
jobs:
  test:
    image: base:1
    services: [first, second]
    run: |
      echo mine | nc -l -p 90 >/dev/null &
      nc -w 5 second 80 </dev/null
""")
    assert outcome.state == "succeeded", outcome
    assert "first\nmine\n" in shop.last.said


def test_without_a_network_services_are_reached_all_the_same(shop: JobShop) -> None:
    run = f"{_ASK}; ip -o link | grep -c eth"
    assert shop.run(_file(more=", ready: 7000", run=run, job=", network: none")).state == "succeeded"
    assert shop.last.steps[run] == ("done", "hello\n1\n")


def test_each_job_has_fresh_ones_of_its_own(shop: JobShop) -> None:
    """Two at once, on one port and one address, each with what its own has written."""
    run = f"{_ASK}; sleep 0.3; {_ASK}"
    text = _file("echo $RANDOM >/mine; while :; do nc -l -p 7000 -e cat /mine; done", ", ready: 7000", run=run)
    seen = [Seen(), Seen()]
    threads = [threading.Thread(target=shop.attempt, args=(text, each), kwargs={"files": {}}) for each in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(stretched(30))
    said = [each.steps[run] for each in seen]
    assert [outcome for outcome, _ in said] == ["done", "done"]
    numbers = [text.split() for _, text in said]
    assert numbers[0][0] == numbers[0][1] != numbers[1][0] == numbers[1][1]


@pytest.mark.parametrize(
    ("script", "more", "message"),
    [
        (
            "echo one; echo two; sleep 100", ", ready: {port: 7001, timeout: 1s}",
            'the service "db" was not ready within 1s: nothing listens on its port 7001; its last lines: one | two',
        ),
        (
            "sleep 100", ', ready: {command: "echo not yet; exit 4", timeout: 1s}',
            'the service "db" was not ready within 1s: its check ends with exit code 4: not yet',
        ),
        (
            "echo cannot read my configuration >&2; exit 3", ", ready: 7000",
            'the service "db" ended with exit code 3 before the job did; its last lines: cannot read my configuration',
        ),
        ("exit 0", "", 'the service "db" ended with exit code 0 before the job did'),
    ],
    ids=["port", "command", "ends", "ends well"],
)  # fmt: skip
def test_a_service_that_never_gets_ready(shop: JobShop, script: str, more: str, message: str) -> None:
    outcome = shop.run(_file(script, more, run="sleep 5"))
    assert (outcome.state, outcome.failure, outcome.message) == ("failed", "failure", message)
    assert shop.last.steps["service db"][0] == "failed"
    assert shop.left() == []


def test_a_service_that_dies_half_way_fails_the_job_at_once(shop: JobShop) -> None:
    began = time.monotonic()
    outcome = shop.run(_file("sleep 0.5; echo out of disk; exit 9", run="echo begun; sleep 600"))
    message = 'the service "db" ended with exit code 9 before the job did; its last lines: out of disk'
    assert (outcome.state, outcome.message) == ("failed", message)
    assert shop.last.steps["echo begun; sleep 600"] == ("failed", "begun\n")
    assert time.monotonic() - began < stretched(5)


def test_what_hinders_whoever_gets_its_output_ends_the_attempt(shop: JobShop) -> None:
    class Full(Seen):
        def emit(self, event: Event) -> None:
            if isinstance(event, StepOutput) and b"begins" in event.data:
                raise StorageFullError("there is no room for the log")
            super().emit(event)

    with pytest.raises(StorageFullError, match="no room for the log"):
        shop.attempt(_file(f"echo begins; {_SERVE}", ", ready: 7000", run="sleep 600"), Full(), files={})
    assert shop.left() == []


def test_a_program_that_is_not_there(shop: JobShop) -> None:
    text = _file().replace("sh, -c,", "no-such, -c,", 1)
    message = shop.run(text).message
    assert message.startswith('the service "db" could not be started: ')
    assert "no-such" in message


def test_a_command_in_the_service_says_when_it_is_ready(shop: JobShop) -> None:
    """It runs in the service's container, with its variables."""
    outcome = shop.run(_file(f"sleep 0.3; touch /$WHO; {_SERVE}", ", ready: test -e /$WHO"))
    assert (outcome.state, outcome.message) == ("succeeded", "")
    outcome = shop.run(_file(f"sleep 0.3; touch /hello; {_SERVE}", ", ready: {command: [test, -e, /hello]}"))
    assert (outcome.state, outcome.message) == ("succeeded", "")


def test_the_images_health_check_says_when_it_is_ready(shop: JobShop) -> None:
    """Early looks come before its interval of 30 seconds."""
    check = Healthcheck(test=("CMD-SHELL", "test -e /ready"), interval_ns=30 * _SECOND_NS)
    shop.bring_service("checked:1", healthcheck=check, exposed_ports={"9/tcp": {}})
    began = time.monotonic()
    outcome = shop.run(_file(f"sleep 0.3; touch /ready; {_SERVE}").replace("service:1", "checked:1"))
    assert (outcome.state, outcome.message) == ("succeeded", "")
    assert time.monotonic() - began < stretched(10)


def test_a_health_check_that_fails_too_often(shop: JobShop) -> None:
    check = Healthcheck(test=("CMD-SHELL", "echo no tables; exit 1"), interval_ns=_SECOND_NS // 5, retries=2)
    shop.bring_service("checked:1", healthcheck=check)
    outcome = shop.run(_file("sleep 100", job=", reports: {junit: a.xml}").replace("service:1", "checked:1"))
    assert READING not in shop.last.steps, "the command that reports has not run"
    message = 'the service "db" is unhealthy: 2 times in a row its check ends with exit code 1: no tables (`ready` of'
    assert (outcome.state, outcome.message.startswith(message)) == ("failed", True)


def test_the_images_lowest_port_says_when_it_is_ready(shop: JobShop) -> None:
    shop.bring_service("exposing:1", exposed_ports={"15671/tcp": {}, "7000": {}, "8000-8010/tcp": {}})
    outcome = shop.run(_file(f"sleep 0.3; {_SERVE}").replace("service:1", "exposing:1"))
    assert (outcome.state, outcome.message) == ("succeeded", "")


def test_an_image_that_says_nothing_is_ready_when_it_runs(shop: JobShop) -> None:
    assert shop.run(_file("sleep 100", run="echo begun")).state == "succeeded"


def test_an_image_without_a_command(shop: JobShop) -> None:
    text = _file().replace(f", args: [sh, -c, {_SERVE!r}]", "")
    message = 'the service "db": service:1 has no command (say which: `args: [PROGRAM, …]`)'
    assert shop.run(text).message == message


def test_one_that_cannot_be_started_is_shown_as_failed(shop: JobShop) -> None:
    shop.bring_service("own:1", user="ghost")
    outcome = shop.run(_file().replace("service:1", "own:1"))
    assert outcome.state == "failed"
    assert outcome.message.startswith('the service "db": '), outcome.message
    assert shop.last.steps["service db"] == ("failed", "")


def test_limits_that_this_machine_has_not_are_the_jobs_fault_only_where_it_asks(
    shop: JobShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accompany(self: Launcher, *_: object, **__: object) -> None:
        raise LimitError("no cgroups here")

    monkeypatch.setattr(Launcher, "accompany", accompany)
    with pytest.raises(LimitError):
        shop.run(_file())
    assert shop.last.steps["service db"][0] == "failed"
    outcome = shop.run(_file(more=", limits: {memory: 64m}"))
    assert (outcome.state, outcome.failure) == ("failed", "limit")
    assert outcome.message == 'the service "db": no cgroups here'


def test_entrypoint_user_and_directory_are_the_images(shop: JobShop) -> None:
    shop.bring_service("own:1", entrypoint=("sh", "-c"), cmd=("id -u; pwd; sleep 100",), user="7:7", working_dir="/tmp")
    text = _file(run="sleep 0.3").replace("service:1", "own:1").replace(f", args: [sh, -c, {_SERVE!r}]", "")
    assert shop.run(text).state == "succeeded"
    assert shop.last.steps["service db"] == ("done", "7\n/tmp\n")


def test_images_of_services_come_in_three_forms(shop: JobShop) -> None:
    """Built from the commit's files, and by a job of the run, which is a need."""
    files = {
        "ci/Dockerfile": f"FROM service:1\nENV WHO=built\nCMD {_SERVE}\n",
        "Dockerfile": f"FROM service:1\nENV WHO=made\nCMD {_SERVE}\n",
    }
    outcome = shop.run(
        """\
services:
  one: {image: {build: ci}, ready: 7000}
  two: {image: {job: app}, ready: 7000}
jobs:
  app: {build: {context: ., tags: [app:1], push: false}}
  test:
    image: base:1
    services: [one, two]
    run: nc one 7000 </dev/null; nc two 7000 </dev/null
""",
        files=files,
    )
    assert outcome.state == "succeeded", outcome
    assert "built\nmade\n" in shop.last.said


def test_secrets_of_a_service_are_its_own_and_masked(shop: JobShop) -> None:
    text = _file("echo $KEY $(cat /run/key); sleep 100", ", secrets: [KEY, {name: TOKEN, file: /run/key}]",
                 run="sleep 0.3; echo ${KEY:-none}")  # fmt: skip
    given = {"secrets": {"KEY": b"hunter2000", "TOKEN": b"correct horse"}}
    assert shop.run(text, given=given).state == "succeeded"
    assert shop.last.steps["service db"] == ("done", "*** ***\n")
    assert shop.last.steps["sleep 0.3; echo ${KEY:-none}"] == ("done", "none\n")
    outcome = shop.run(text, given={"secrets": {"KEY": b"hunter2000"}})
    assert outcome.message.startswith('the service "db" needs the secret TOKEN, which this run has not')


def test_limits_are_within_the_jobs(shop: JobShop) -> None:
    """What a service has no use for is not the job's."""
    text = _file("dd if=/dev/zero of=/big bs=1M count=64; sleep 100", ", limits: {disk: 8m}", run="sleep 100")
    outcome = shop.run(text)
    assert (outcome.state, outcome.failure) == ("failed", "limit")
    assert outcome.message.startswith('the service "db" was ended: it wrote more than 8388608 bytes')


def test_the_jobs_limits_hold_for_it_and_its_services_together(shop: JobShop) -> None:
    """Each would have enough by itself."""
    for fill, told in (
        ("dd if=/dev/zero of=/dev/shm/x bs=1M count=48 &&", "the job and its services ran out of memory together"),
        ("dd if=/dev/zero of=/x bs=1M count=16;", "it and what runs beside it wrote more than 25165824 bytes"),
    ):
        service, job = f"{fill} touch /full; {_SERVE}", ", limits: {memory: 80m, disk: 24m}"
        outcome = shop.run(_file(service, ", ready: test -e /full", run=f"{fill} sleep 100", job=job))
        assert (outcome.state, outcome.failure) == ("failed", "limit")
        assert told in outcome.message


def test_a_cancelled_job_waits_for_no_service(shop: JobShop) -> None:
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    with pytest.raises(JobCancelledError):
        shop.run(_file("sleep 100", ", ready: 7000"), cancelled=cancelled)
    assert shop.last.steps["service db"][0] == "cancelled"
    assert shop.left() == []


def test_a_jobs_time_out_counts_while_it_waits(shop: JobShop) -> None:
    outcome = shop.run(_file("sleep 100", ", ready: 7000", job=", timeout: 1s"))
    assert (outcome.state, outcome.failure) == ("failed", "timeout")


def test_a_service_takes_part_in_the_key_of_its_job(shop: JobShop) -> None:
    job = ", inputs: [Makefile]"
    files = {"files": {"Makefile": "all:"}}
    text = _file(more=", ready: 7000", job=job)

    def ran(text: str) -> str:
        outcome = shop.run(text, **files)
        reasons = [getattr(event, "reason", None) for event in shop.last.events]
        return outcome.state if outcome.state == "reused" else f"{outcome.state}: {next(filter(None, reasons))}"

    assert ran(text) == "succeeded: it has not succeeded before"
    assert ran(text) == "reused"
    assert ran(text.replace("ready: 7000", "ready: {port: 7000, timeout: 5s}, limits: {pids: 50}")) == "reused"
    changed = text.replace("WHO: hello", "WHO: you")
    assert ran(changed).startswith("succeeded: the variables of the service db changed")
    assert ran(text.replace("-l -p 7000", "-p 7000 -l")).startswith("succeeded: the service db changed")
    shop.bring_service(cmd=("true",))
    shop.pins = MemoryPins()  # another run, which asks anew what the name means
    assert "the image of the service db changed" in ran(text)
