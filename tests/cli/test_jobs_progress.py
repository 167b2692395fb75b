"""Several jobs at once, as lines, on a terminal and as JSON; and the summary of a run."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from ci.ends import JobOutcome
from ci.graph import RunOutcome
from ci.local.watching import JobEnd, RunEnd
from ci.model import Job
from ci.planning import PlannedJob
from cli.errors import CommandError
from cli.jobs.happening import Began, Ended, Ending, FailedOnce, Happened
from cli.jobs.joblog import JobLog
from cli.jobs.plain import PlainJobs
from cli.jobs.report import JobsReport
from cli.jobs.summary import failure_lines, summary_lines
from cli.jobs.tty import TtyJobs
from cli.progress.choose import Mode
from cli.progress.screen import Screen
from core.digests import DiffID
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from tests.cli.terminal import Terminal

PLAN = BuildPlanned((StepInfo(0, "ruff check"), StepInfo(1, "pytest")))
DIFF = DiffID("sha256:" + "a" * 64)


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def plain(*, colours: bool = False, secrets: tuple[bytes, ...] = ()) -> tuple[PlainJobs, Callable[[], str]]:
    sink = io.StringIO()
    logs = {name: JobLog(Masker(secrets)) for name in ("lint", "test (3.11)")}
    return PlainJobs(sink, logs, colours=colours), sink.getvalue


def test_each_line_has_its_job_in_front() -> None:
    display, text = plain()
    for job in ("lint", "test (3.11)"):
        display.handle(Began(job, 1, 0.0))
        display.handle(Happened(job, PLAN))
        display.handle(Happened(job, StepStarted(0, 0.0)))
    display.handle(Happened("lint", StepOutput(0, 1, b"half ", 0.1)))
    display.handle(Happened("test (3.11)", StepOutput(0, 2, b"a\r\nb\n", 0.1)))
    display.handle(Happened("lint", StepOutput(0, 1, b"a line\nno end", 0.2)))
    display.handle(Happened("lint", StepFinished(0, "done", 1.25, 1.3)))
    display.handle(FailedOnce("test (3.11)", "exit code 1"))
    display.handle(Began("test (3.11)", 2, 2.0))
    display.handle(Ended("lint", JobEnd("succeeded", "", 1.4, 1, JobOutcome("succeeded"))))
    display.handle(Ended("test (3.11)", JobEnd("failed", "exit code 2\nmore", 61.0, 2)))
    display.handle(Ending("what still runs is ended"))
    display.close()
    assert (
        text()
        == golden("""
        lint | => ruff check
        test (3.11) | => ruff check
        test (3.11) | a
        test (3.11) | b
        lint | half a line
        lint | no end
        lint | => DONE 1.2s
        test (3.11) | failed, and is tried again: exit code 1
        test (3.11) | attempt 2
        lint | succeeded in 1.4s
        test (3.11) | failed in 1m 01s: exit code 2
        what still runs is ended
        """)
        + "\n"
    )


def test_lines_are_written_as_they_end() -> None:
    class Flushed(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.seen = ""

        def flush(self) -> None:
            self.seen = self.getvalue()

    sink = Flushed()
    display = PlainJobs(sink, {"a": JobLog(Masker())}, colours=False)
    display.handle(Happened("a", StepOutput(0, 1, b"one\ntw", 0.0)))
    assert sink.seen == "a | one\n"


def test_programs_keep_their_colours_on_a_terminal_alone() -> None:
    for colours, expected in ((True, "lint | \x1b[32mgreen\x1b[0m\n"), (False, "lint | green\n")):
        display, text = plain(colours=colours)
        display.handle(Happened("lint", StepOutput(0, 1, b"\x1b[32mgreen\x1b[2J\n", 0.0)))
        assert text() == expected


def test_secrets_are_masked_across_pieces_of_a_line() -> None:
    display, text = plain(secrets=(b"hunter2-hunter2",))
    display.handle(Happened("lint", StepOutput(0, 1, b"x hunter2-hun", 0.0)))
    display.handle(Happened("lint", StepOutput(0, 1, b"ter2 y\n", 0.0)))
    assert text() == "lint | x *** y\n"


class Seen:
    """A display on a terminal whose clock the test sets."""

    def __init__(self, *jobs: str, columns: int = 60, lines: int = 24, secrets: tuple[bytes, ...] = ()) -> None:
        self.now = 100.0
        self.sink = io.StringIO()
        self.terminal = Terminal(columns, lines)
        screen = Screen(self.sink, size=lambda: (columns, lines), colours=False)
        self.display = TtyJobs(screen, {job: JobLog(Masker(secrets)) for job in jobs}, clock=lambda: self.now)

    def begin(self, job: str, step: str = "") -> None:
        self.display.handle(Began(job, 1, self.now))
        if step:
            self.display.handle(Happened(job, BuildPlanned((StepInfo(0, step),))))
            self.display.handle(Happened(job, StepStarted(0, self.now)))

    def out(self, job: str, data: bytes) -> None:
        self.display.handle(Happened(job, StepOutput(0, 1, data, self.now)))

    def look(self, after_s: float = 1.0) -> str:
        self.now += after_s
        self.display.refresh()
        return self.update()

    def update(self) -> str:
        self.terminal.write(self.sink.getvalue())
        self.sink.truncate(0)
        self.sink.seek(0)
        return self.terminal.text


def test_terminal_has_what_ended_above_what_runs() -> None:
    seen = Seen("lint", "test (3.11)", "test (3.13)", "app", columns=50)
    seen.begin("lint", "ruff check")
    seen.begin("test (3.11)", "pytest")
    seen.out("test (3.11)", b"".join(b"line %d\n" % number for number in range(9)) + b"unfinished")
    seen.display.handle(Ended("lint", JobEnd("succeeded", "", 1.4, 1, JobOutcome("succeeded"))))
    seen.begin("test (3.13)")
    assert seen.look(2.5) == golden("""
        [+] Running 2.5s (1/4)
         => lint: succeeded in 1.4s
         => test (3.11): pytest                      2.5s
         => => # line 4
         => => # line 5
         => => # line 6
         => => # line 7
         => => # line 8
         => => # unfinished
         => test (3.13)                              2.5s
        """)


def test_terminal_shows_no_secret_that_has_begun() -> None:
    seen = Seen("a", secrets=(b"hunter2-hunter2",))
    seen.begin("a", "deploy")
    seen.out("a", b"key: hunter2-hun")
    assert "hun" not in seen.look()
    seen.out("a", b"ter2")
    assert "key: ***" in seen.look()


@pytest.mark.parametrize("lines", [3, 5, 8, 12])
def test_terminal_never_scrolls(lines: int) -> None:
    names = [f"j{number}" for number in range(20)]
    seen = Seen(*names, lines=lines)
    for number, name in enumerate(names):
        seen.begin(name, "make")
        seen.out(name, b"a\nb\nc\n")
        if number % 2:
            seen.display.handle(Ended(name, JobEnd("reused", "", 0.1, 1, JobOutcome("reused", reused_from="7"))))
        assert len(seen.look().splitlines()) < lines


def test_rows_go_when_somebody_else_writes_and_come_back_below() -> None:
    seen = Seen("a")
    seen.begin("a", "make")
    seen.look()
    seen.display.step_aside()
    seen.sink.write("# ls\nfile\n")
    assert seen.look() == "# ls\nfile\n[+] Running 2.0s (0/1)\n => a: make" + " " * 44 + "2.0s"
    seen.display.close()
    assert seen.update() == "# ls\nfile"


def test_json_has_an_object_for_each_thing_that_happens() -> None:
    sink = io.StringIO()
    with JobsReport("json", sink, ["a"], [b"hunter2-hunter2"]) as report:
        report.started("a", 1)
        monitor = report.monitor("a")
        monitor.emit(StepOutput(0, 1, "hunter2-hunter2 é".encode()[:-1], 1.0))
        monitor.emit(StepOutput(0, 1, "é".encode()[-1:], 2.0))
        report.ended("a", JobEnd("failed", "hunter2-hunter2", 1.5, 1, JobOutcome("failed", "x", "failure", 3)))
    objects: list[dict[str, Any]] = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [found["event"] for found in objects] == ["job-start", "output", "job-end"]
    assert objects[1]["text"] == "*** é\n"
    assert all(found["job"] == "a" for found in objects)
    ended = {"state": "failed", "message": "***", "duration_s": 1.5, "attempts": 1, "exit_code": 3}
    assert objects[2].items() >= ended.items()


def test_jobs_that_print_much_wait_while_somebody_else_has_the_terminal() -> None:
    sink = io.StringIO()
    with JobsReport("plain", sink, ["a"], []) as report:
        monitor = report.monitor("a")

        def talk() -> None:
            for number in range(3000):
                monitor.emit(StepOutput(0, 1, b"%d\n" % number, 0.0))

        thread = threading.Thread(target=talk)
        with report.aside():
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
            assert not sink.getvalue()
        thread.join()
    assert sink.getvalue().splitlines() == [f"a | {number}" for number in range(3000)]


def test_last_line_of_a_job_has_an_error_without_its_hint() -> None:
    sink = io.StringIO()
    with JobsReport("plain", sink, ["a"], []) as report:
        report.ended("a", JobEnd("failed", "no", 0.1, 1, error=CommandError("no image", hint="name one")))
    assert sink.getvalue() == "a | failed in 0.1s: no image\n"


def planned(name: str, **members: Any) -> PlannedJob:
    return PlannedJob(name, name, Job(run=("true",), **members), (), {})


def test_summary_has_a_line_for_each_job_and_what_was_left_out() -> None:
    jobs = [planned(name, may_fail=name == "shaky") for name in ("lint", "test", "shaky", "again", "app", "tell")]
    ends = {
        "lint": JobEnd("reused", "", 0.1, 1, JobOutcome("reused", outputs=DIFF, reused_from="local-3")),
        "test": JobEnd("failed", "exit code 1", 2.0, 1, JobOutcome("failed", "exit code 1", "failure", 1)),
        "shaky": JobEnd("failed", "exit code 9", 0.5, 1, JobOutcome("failed", "exit code 9", "failure", 9)),
        "again": JobEnd("succeeded", "", 3.0, 2, JobOutcome("succeeded", outputs=DIFF)),
        "app": JobEnd("succeeded", "", 4.0, 1, JobOutcome("succeeded", image="sha256:image")),
        "tell": JobEnd("skipped", "test, which has to succeed before it, failed"),
    }
    end = RunEnd(ends, RunOutcome("failed", True), 75.2)
    lines = summary_lines(jobs, {"deploy": "it is not for local"}, end, {"app": "it has no `inputs`"}, colours=False)
    assert "\n".join(lines) == golden("""
        lint    reused        0.1s  the result of run local-3
        test    failed        2.0s  exit code 1
        shaky   failed (may)  0.5s  exit code 9
        again   flaky         3.0s  succeeded at attempt 2
        app     succeeded     4.0s  it has no `inputs`
        tell    skipped             test, which has to succeed before it, failed
        deploy  left out            it is not for local
        outputs of lint, again: in the local store
        app: image sha256:image
        6 jobs: 2 succeeded, 1 reused, 2 failed, 1 skipped, 1m 15s
        """)
    coloured = list(summary_lines(jobs, {"deploy": "why"}, end, {}, colours=True))
    assert coloured[6] == "\x1b[2mdeploy  left out            why\x1b[0m"


def test_last_lines_of_what_failed_are_shown_again() -> None:
    log = JobLog(Masker())
    for number in range(60):
        log.lines(StepOutput(0, 1, b"\x1b[31mline %d\x1b[0m\n" % number, 0.0))
    ends = {"a": JobEnd("failed", "exit code 1\nhint", 1.0, 1), "b": JobEnd("succeeded", "", 1.0, 1)}
    end = RunEnd(ends, RunOutcome("failed"), 1.0)
    lines = list(failure_lines(end, {"a": log, "b": JobLog(Masker())}, colours=False))
    assert lines == [
        "------ a failed:",
        *(f"line {number}" for number in range(10, 60)),
        "exit code 1",
        "hint",
        "------",
        "",
    ]
    assert "\x1b[31mline 59\x1b[0m" in list(failure_lines(end, {"a": log}, colours=True))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("sink", "mode", "no_color", "coloured"),
    [
        (_Terminal, "plain", "", True), (_Terminal, "plain", "1", False), (_Terminal, "json", "", False),
        (io.StringIO, "plain", "", False),
    ],
)  # fmt: skip
def test_colours_are_for_terminals_of_people_who_want_them(
    monkeypatch: pytest.MonkeyPatch, sink: type[io.StringIO], mode: Mode, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    with JobsReport(mode, sink(), ["a"], []) as report:
        assert report.colours == coloured
