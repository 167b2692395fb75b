"""The jobs of a run on a service, as a user has to do with them: ``git push``, then ``shiplap runs …``."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.git import git
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap, start_service
from tests.toolkit.terminals import read_until

ENDED = ("succeeded", "warnings", "failed", "cancelled", "error")


class Clone:
    """Somebody's clone of a project's repository, and the command on the service's machine."""

    def __init__(self, shiplap: Shiplap, path: Path, url: str) -> None:
        self.shiplap = shiplap
        self.url = url
        self.path = path
        shiplap("project", "add", "app", "--bare")
        path.mkdir()
        git(path, "init", "--quiet", "--initial-branch=main")
        git(path, "remote", "add", "origin", str(shiplap.root / "git" / "app.git"))
        self._last = 0

    def push(self, *options: str, **jobs: str) -> tuple[int, str]:
        """Push a pipeline of these jobs, in one of YAML's lines each. The number of its run; what the push printed."""
        lines = [f"  {name}: {{image: {BUSYBOX_NAME}, {members}}}" for name, members in jobs.items()]
        (self.path / ".shiplap.yml").write_text("\n".join(["jobs:", *lines, ""]))
        git(self.path, "add", ".")
        git(self.path, "commit", "--quiet", "--allow-empty", "-m", "one")
        done = subprocess.run(
            ["git", "push", *options, "origin", "main"], cwd=self.path, capture_output=True, text=True, check=True,
            timeout=stretched(120),
        )  # fmt: skip
        self._last += 1
        return self._last, done.stderr

    def again(self, *words: str) -> int:
        """The number of the run that ``runs retry`` began."""
        self._last += 1
        assert self.run("retry", *words) == f"{self._last}\n"
        return self._last

    def skip(self) -> None:
        """Another run was begun."""
        self._last += 1

    def run(self, *words: str | int | Path, **options: Any) -> str:
        return self.shiplap("runs", *map(str, words), **options).stdout

    def states(self, run: int) -> dict[str, str]:
        return {job["name"]: job["state"] for job in self.shiplap.json("runs", "jobs", "--json", str(run))[1:]}

    def ended(self, run: int) -> str:
        """The state in which a run ended."""

        def state() -> str:
            return str(self.shiplap.json("runs", "show", "--json", str(run))["state"])

        eventually(lambda: state() in ENDED, why="the run ends", timeout_s=stretched(60))
        return state()


@pytest.fixture(scope="module")
def clone(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Clone]:
    directory = tmp_path_factory.mktemp("clone")
    shiplap = Shiplap(directory / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    url, process = start_service(shiplap)
    try:
        yield Clone(shiplap, directory / "work", url)
    finally:
        process.terminate()
        assert process.wait(stretched(60)) == 0


TEST = "matrix: {N: [1, 2]}, run: echo test-$N"


def test_jobs_are_listed_and_their_logs_have_their_names_in_front(clone: Clone) -> None:
    run, _ = clone.push(lint="run: echo linted", test=TEST, app="needs: [lint, test], run: exit 3")
    live = clone.run("logs", "-f", run).splitlines()
    assert clone.ended(run) == "failed"
    table = [line.split() for line in clone.run("jobs", run).splitlines()]
    assert table[0] == ["JOB", "NAME", "STATE", "TOOK", "WORKER", "WHY"]
    assert [row[:2] for row in table[1:3]] == [["1", ".plan"], ["2", "lint"]]
    assert table[-1][:3] == ["5", "app", "failed"]
    assert "exit code 3" in " ".join(table[-1])
    stored = clone.run("logs", run).splitlines()
    assert sorted(live) == sorted(stored)
    assert {"lint | linted", "test (1) | test-1", "test (2) | test-2"} <= set(stored)
    assert ".shiplap.yml: 4 jobs" in stored
    of_lint = clone.run("logs", run, "lint").splitlines()
    assert "linted" in of_lint
    assert of_lint == clone.run("logs", "-f", run, "2").splitlines()
    of_test = clone.run("logs", run, "test").splitlines()
    assert "test (1) | test-1" in of_test
    assert sorted(of_test) == sorted(clone.run("logs", "-f", run, "test").splitlines())
    assert clone.run("logs", "--search", "TEST-2", run, "test").splitlines()[-1] == "test (2) | test-2"
    assert clone.run("logs", run, "test (2)").count("test-2")
    assert clone.run("jobs", run).splitlines()[-1] in clone.run("show", run).splitlines()
    wrong = clone.shiplap("runs", "logs", str(run), "lnt", check=False)
    assert (wrong.returncode, wrong.stderr) == (1, f"error: run {run} has no job 'lnt'\nhint: did you mean lint?\n")


def test_part_of_a_log_is_chosen(clone: Clone) -> None:
    run, _ = clone.push(
        good="run: echo fine",
        bad='run: [echo one, echo two, "false"]',
        may="may_fail: true, run: exit 4",
    )
    assert clone.shiplap("runs", "logs", "-f", "--exit-status", str(run), check=False).returncode == 1
    failed = clone.run("logs", "--failed", run).splitlines()
    assert {line.split(" | ")[0] for line in failed} == {"bad", "may"}
    assert "bad | two" not in clone.run("logs", "--failed", "--step", "echo", run)
    assert "bad | two" in clone.run("logs", "--step", "ECHO t", run).splitlines()
    assert "one" not in clone.run("logs", "--step", "echo t", run, "bad").splitlines()
    whole = clone.run("logs", run, "bad").splitlines()
    assert clone.run("logs", "--tail", "2", run, "bad").splitlines() == whole[-2:]
    assert clone.run("logs", "--tail", "0", run, "bad") == ""
    assert clone.run("logs", "-f", "--tail", "3", run, "--job", "bad").splitlines() == whole[-3:]
    timed = clone.run("logs", "--timestamps", run, "bad").splitlines()
    assert [line.split(" ", 1)[1] for line in timed] == whole
    assert all(re.match(r"20\d\d-\d\d-\d\dT[\d:.]+Z ", line) for line in timed)
    wrong = clone.shiplap("runs", "logs", str(run), "bad", "--step", "ecko one", check=False)
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (1, "error: there is no step 'ecko one'")
    for words in (("--exit-status",), ("-f", "--failed"), ("bad", "--job", "good")):
        assert clone.shiplap("runs", "logs", str(run), *words, check=False).returncode == 2
    assert clone.shiplap("runs", "logs", "-f", "--exit-status", str(run), "good", check=False).returncode == 0
    assert clone.shiplap("runs", "logs", "-f", "--exit-status", str(run), "bad", check=False).returncode == 1
    assert clone.shiplap("runs", "logs", "-f", "--exit-status", str(run), "may", check=False).returncode == 0


def test_run_is_watched_to_its_end(clone: Clone) -> None:
    run, _ = clone.push(slow="run: sleep 2", bad="needs: slow, run: exit 3")
    watched = clone.shiplap("runs", "watch", "--exit-status", str(run), check=False)
    assert watched.returncode == 1
    lines = watched.stdout.splitlines()
    assert lines.index("slow: succeeded") < lines.index("bad: failed (exit code 3)")
    assert lines[-1] == f"run {run}: failed"
    assert clone.shiplap("runs", "watch", str(run), check=False).returncode == 0


def test_run_is_watched_on_a_terminal(clone: Clone) -> None:
    run, _ = clone.push(**{f"job{number}": "run: 'true'" for number in range(12)}, last="run: sleep 3")
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 60, 0, 0))
    process = clone.shiplap.start("runs", "watch", str(run), stdout=theirs, env={"TERM": "xterm", "NO_COLOR": "1"})
    os.close(theirs)
    said = read_until(terminal, f"run {run}: succeeded".encode()).decode()
    assert process.wait(stretched(60)) == 0
    os.close(terminal)
    shown = Terminal(columns=60, lines=8)
    shown.write(said)
    assert "… and 9 more" in shown.text
    assert max(map(len, shown.text.splitlines())) <= 60
    assert shown.text.count("STATE") == 1, "each is written over the one before"
    assert re.search(r"\n14 +last +running", said.replace("\r", "")), "what runs stands before what is done"
    assert re.search(r"\n +└ sleep 3 +running", said.replace("\r", "")), "with its step"


def test_address_of_a_run_and_of_a_job(clone: Clone) -> None:
    run, _ = clone.push(one="run: 'true'")
    clone.ended(run)
    assert clone.run("open", "--print", run) == f"{clone.url}/runs/{run}\n"
    assert clone.run("open", "--print", run, "one") == f"{clone.url}/runs/{run}/jobs/2\n"
    with urllib.request.urlopen(f"{clone.url}/runs/{run}/jobs/2", timeout=stretched(60)) as page:
        assert page.status == 200


def test_runs_are_listed_by_branch_starter_and_words(clone: Clone) -> None:
    run, _ = clone.push(one="run: 'true'")
    clone.ended(run)
    first = clone.shiplap.json("runs", "ls", "--json", "--branch", "main", "-n", "1")[0]
    assert first["number"] == run
    form = "{{.Number}} {{.State}} {{.Branch}} {{.URL}}"
    assert clone.run("ls", "-n", "1", "--format", form) == f"{run} succeeded main {clone.url}/runs/{run}\n"
    assert clone.run("ls", "-q", "-n", "1") == f"{run}\n"
    assert clone.run("jobs", "--format", "table {{.Name}}\\t{{.State}}", run).split()[-2:] == ["one", "succeeded"]
    assert clone.shiplap("project", "ls", "--format", "{{json .Name}}").stdout.splitlines()[0] == '"app"'
    assert clone.shiplap("workers", "--format", "{{.State}} {{.Slots}}").stdout.startswith(("idle 0/", "busy "))
    wrong = clone.shiplap("runs", "ls", "--format", "{{.Titel}}", check=False)
    assert (wrong.returncode, "can't evaluate field Titel in type run" in wrong.stderr) == (1, True)
    assert clone.shiplap.json("runs", "ls", "--json", "--branch", "mai") == []
    by = first["trigger"]["by"]
    assert first in clone.shiplap.json("runs", "ls", "--json", "--by", by)
    assert clone.shiplap.json("runs", "ls", "--json", "--by", f"{by}x") == []
    assert clone.shiplap.json("runs", "ls", "--json", "--search", f"#{run}")[0] == first
    assert clone.shiplap.json("runs", "ls", "--json", "--search", "no such words", "--project", "app") == []


def test_job_is_cancelled_with_what_needs_it_and_no_other(clone: Clone) -> None:
    run, _ = clone.push(
        slow="grace: 1s, run: \"trap 'echo asked; sleep 100' TERM; while true; do sleep 0.1; done\"",
        after="needs: slow, run: 'true'",
        other="run: sleep 1; echo done",
    )
    eventually(lambda: clone.states(run).get("slow") == "running", why="the job runs")
    assert clone.run("cancel", run, "slow") == f"{run}/slow\n"
    assert clone.ended(run) == "cancelled"
    assert clone.states(run) == {"slow": "cancelled", "after": "cancelled", "other": "succeeded"}
    refused = clone.shiplap("runs", "cancel", str(run), "slow", check=False)
    assert (refused.returncode, refused.stderr) == (1, f"error: job slow of run {run} has ended: cancelled\n")


def test_second_cancel_of_a_job_kills_it(clone: Clone) -> None:
    run, _ = clone.push(
        stubborn="grace: 5m, run: \"trap 'echo asked' TERM; echo ready; while true; do sleep 0.1 || true; done\"",
        down="needs: stubborn, after: always, run: 'true'",
    )
    eventually(lambda: "ready" in clone.run("logs", run, "stubborn", check=False), why="the job runs")
    clone.run("cancel", f"{run}/2")
    eventually(lambda: "asked" in clone.run("logs", run, "stubborn"), why="it got SIGTERM")
    clone.run("cancel", run, "stubborn")
    assert clone.ended(run) == "cancelled"  # long before its grace is over
    assert clone.states(run) == {"stubborn": "cancelled", "down": "cancelled"}


def test_number_that_may_be_a_run_or_a_job_ends_neither(clone: Clone) -> None:
    run, _ = clone.push(lint="run: sleep 2")
    eventually(lambda: "lint" in clone.states(run), why="it is planned")
    asked = clone.shiplap("runs", "cancel", str(run), "2", check=False)
    assert (asked.returncode, asked.stderr.splitlines()[0]) == (1, f"error: is 2 a run, or a job of run {run}?")
    assert clone.ended(run) == "succeeded"
    wrong = clone.shiplap("runs", "cancel", "lint", check=False)
    assert wrong.returncode == 2


def test_name_that_is_none_ends_nothing_and_is_said(clone: Clone) -> None:
    run, _ = clone.push(lint="run: while true; do sleep 0.1; done")
    eventually(lambda: clone.states(run).get("lint") == "running", why="it runs")
    for name in ("", "..", "../..", "lint/../../..", "/", "%2e%2e", "x" * 700, "9" * 5000):
        for command in ("cancel", "retry", "logs"):
            done = clone.shiplap("runs", command, str(run), name, check=False)
            assert (done.returncode, done.stdout) == (1, ""), (command, name)
            assert done.stderr.startswith("error: "), done.stderr
    assert clone.states(run) == {"lint": "running"}
    clone.run("cancel", run)
    assert clone.ended(run) == "cancelled"


CHAIN = {
    "make": "outputs: [out], run: 'mkdir out; cat /proc/sys/kernel/random/uuid > out/made; cat out/made'",
    "use": "needs: make, run: cat out/made",
    "last": "needs: use, run: 'true'",
    "other": "run: 'true'",
}


def made(clone: Clone, run: int, job: str) -> str:
    """What the job ``make`` wrote, as a job of a run printed it."""
    return next(line for line in clone.run("logs", run, job).splitlines() if re.fullmatch(r"[0-9a-f-]{36}", line))


def test_retry_of_failed_jobs_takes_over_what_succeeded(clone: Clone) -> None:
    run, _ = clone.push(**{**CHAIN, "use": "needs: make, run: 'cat out/made; exit 3'"})
    assert clone.ended(run) == "failed"
    assert clone.states(run) == {"make": "succeeded", "use": "failed", "last": "skipped", "other": "succeeded"}
    again = clone.again("--failed", str(run))
    assert clone.ended(again) == "failed"
    assert clone.states(again) == {"make": "reused", "use": "failed", "last": "skipped", "other": "reused"}
    assert made(clone, again, "use") == made(clone, run, "make")
    assert f"taken over of run {run}: make, other" in clone.run("logs", again, ".plan")
    assert f"retry of #{run}" in clone.run("show", again)
    assert clone.run("jobs", again).count(f"taken over from run {run}") == 2
    third = clone.again("--failed", str(again))
    assert clone.ended(third) == "failed"
    assert made(clone, third, "use") == made(clone, run, "make")
    assert clone.run("jobs", third).count(f"taken over from run {again}") == 2


def test_one_job_is_done_again_with_what_comes_after_it_and_what_failed_beside_it_is_left_out(clone: Clone) -> None:
    run, _ = clone.push(**{**CHAIN, "other": "run: exit 3"})
    assert clone.ended(run) == "failed"
    again = clone.again(str(run), "use")
    assert clone.ended(again) == "succeeded"
    assert clone.states(again) == {"make": "reused", "use": "succeeded", "last": "succeeded"}
    assert f"left out of run {run}: other" in clone.run("logs", again, ".plan")
    assert made(clone, again, "use") == made(clone, run, "make")
    whole = clone.again(str(run), "make")
    assert clone.ended(whole) == "succeeded"
    assert clone.states(whole) == {"make": "succeeded", "use": "succeeded", "last": "succeeded"}
    assert made(clone, whole, "use") == made(clone, whole, "make") != made(clone, run, "make")
    refused = clone.shiplap("runs", "retry", "--failed", str(whole), check=False)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (1, f"error: no job of run {whole} has failed")
    assert clone.shiplap("runs", "retry", str(run), "mak", check=False).stderr.endswith("did you mean make?\n")


def test_followed_push_shows_the_lines_of_all_jobs_with_their_names(clone: Clone) -> None:
    run, said = clone.push("-o", "follow", lint="run: echo linted", test=TEST, app="needs: test, run: exit 3")
    told = [line.removeprefix("remote: ").rstrip() for line in said.splitlines()]
    assert {".shiplap.yml: 4 jobs", "lint | linted", "test (1) | test-1", "test (2) | test-2"} <= set(told)
    assert told.index("lint | => echo linted") < told.index("lint | linted")
    assert any(line.startswith(f"Run {run}: failed: app: exit code 3  http://") for line in told)
    assert told.count("lint | linted") == 1


def test_followed_push_shows_the_jobs_of_all_pipelines_and_how_each_run_ended(clone: Clone) -> None:
    text = f"jobs:\n  a: {{image: {BUSYBOX_NAME}, run: 'echo of NAME; exit CODE'}}\n"
    (clone.path / ".shiplap").mkdir()
    for name, code in (("build", "0"), ("deploy", "3")):
        (clone.path / ".shiplap" / f"{name}.yml").write_text(text.replace("NAME", name).replace("CODE", code))
    (clone.path / ".shiplap" / "wrong.yml").write_text("jobs: {a: {imagee: x, run: x}}\n")
    (clone.path / ".shiplap.yml").unlink(missing_ok=True)
    git(clone.path, "add", "--all")
    git(clone.path, "commit", "--quiet", "-m", "several")
    done = subprocess.run(
        ["git", "push", "-o", "follow", "origin", "main"], cwd=clone.path, capture_output=True, text=True, check=True,
        timeout=stretched(120),
    )  # fmt: skip
    told = [line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines()]
    (run,) = (int(line.rpartition("/")[2]) for line in told if line.startswith("Shiplap builds it:"))
    clone.skip()
    clone.skip()
    clone.skip()
    shutil.rmtree(clone.path / ".shiplap")
    assert told.count("build/a | of build") == told.count("deploy/a | of deploy") == 1
    ends = [line.rpartition("  ")[0] for line in told if line.startswith("Run ")]
    assert ends[0] == f"Run {run + 1}: failed: a: exit code 3: of deploy"
    assert ends[1].startswith(f"Run {run + 2}: failed: .shiplap/wrong.yml:1:")
    assert ends[2:] == [f"Run {run}: succeeded"]
    context = f"file://{clone.shiplap.root}/git/app.git#main"
    shown = clone.shiplap("--host", clone.url, "build", "--project", "app", context, check=False)
    lines = shown.stderr.splitlines()
    first = run + 3
    for _ in range(3):
        clone.skip()
    assert lines.count("build/a | of build") == lines.count("deploy/a | of deploy") == 1
    titles = [line for line in lines if line.startswith("run ")]
    assert titles == [
        f"run {first}, pipeline build: succeeded",
        f"run {first + 1}, pipeline deploy: failed",
        f"run {first + 2}, pipeline wrong: failed",
    ]
    assert (shown.returncode, lines[-1]) == (1, "error: a: exit code 3: of deploy"), "that of the first one that failed"


def test_pipeline_is_run_by_its_name_and_shown_to_its_end(clone: Clone) -> None:
    run, _ = clone.push(lint="run: echo linted", bad="when: {event: manual}, run: exit 3")
    assert clone.ended(run) == "succeeded"
    assert clone.states(run) == {"lint": "succeeded"}

    def build(
        *options: str, context: str = f"file://{clone.shiplap.root}/git/app.git#main"
    ) -> subprocess.CompletedProcess[str]:
        return clone.shiplap("--host", clone.url, "build", "--project", "app", *options, context, check=False)

    done = build("--pipeline", "main")
    assert done.returncode == 1, done.stderr
    assert "\nlint | linted\n" in done.stderr
    assert "exit code 3" in done.stderr.splitlines()[-1]
    clone.skip()
    missing = build("--pipeline", "mian")
    assert missing.returncode == 1
    assert "has no pipeline 'mian'" in missing.stderr
    clone.skip()
    here = build("--pipeline", "main", context=str(clone.path))
    assert (here.returncode, here.stderr.splitlines()[0]) == (
        1,
        f"error: --pipeline: '{clone.path}' is no git repository",
    )


def test_outputs_for_people_come_here_whole_and_nowhere_else(clone: Clone, tmp_path: Path) -> None:
    made = "mkdir -p out/deep; echo app >out/app; chmod 755 out/app; ln -s /etc/passwd out/away; echo x >out/deep/x"
    run, _ = clone.push(
        make=f"outputs: [{{path: out, name: dist}}], run: '{made}'",
        shots="outputs: [{path: shot, name: shots, on: failure}], may_fail: true, run: 'echo png >shot; exit 3'",
        last="needs: make, run: cat out/app",
    )
    assert clone.ended(run) == "warnings"
    table = [line.split()[:4] for line in clone.run("outputs", run).splitlines()]
    assert table == [["JOB", "NAME", "FILES", "SIZE"], ["make", "dist", "3", "6B"], ["shots", "shots", "1", "4B"]]
    place = tmp_path / "here"
    clone.run("outputs", run, "make", "-o", place)
    assert (place / "out/app").read_text() == "app\n"
    assert (place / "out/app").stat().st_mode & 0o777 == 0o755
    assert (place / "out/away").is_symlink()
    assert (place / "out/deep/x").read_text() == "x\n"
    again = clone.shiplap("runs", "outputs", str(run), "make", "-o", str(place), check=False)
    assert (again.returncode, again.stderr.splitlines()[0]) == (1, f"error: {place} is there already")
    clone.run("outputs", run, "-o", tmp_path / "all")
    assert (tmp_path / "all/shots/shots/shot").read_text() == "png\n"
    assert (tmp_path / "all/make/dist/out/app").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "here"], "nothing is left aside"
    wrong = clone.shiplap("runs", "outputs", str(run), "make", "dits", check=False)
    assert (wrong.returncode, wrong.stderr) == (1, "error: there is no output 'dits'\nhint: did you mean dist?\n")
