"""``shiplap ci lint``, ``graph`` and ``schema``, as somebody types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.toolkit.bounds import stretched
from tests.toolkit.git import git

_CHECKOUT = Path(__file__).resolve().parents[2]
_GOOD = """jobs:
  test: {image: "busybox:1", run: "true", matrix: {P: [3.10, 3.11]}}
  ship: {build: ., needs: test, when: {branch: main}}
"""


def shiplap(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
    return subprocess.run(
        [sys.executable, "-m", "cli", "ci", *words], cwd=directory, env=environment, capture_output=True, text=True,
        timeout=stretched(60), check=False,
    )  # fmt: skip


def test_lint_says_what_is_wrong_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / ".shiplap.yml").write_text("jobs:\n  a: {imag: b, run: x}\n")
    done = shiplap(tmp_path, "lint")
    assert done.returncode == 2
    assert '.shiplap.yml:2:7: error: no key of a job is called "imag" (did you mean "image"?)\n' in done.stdout
    assert "  2 |   a: {imag: b, run: x}\n    |       ^^^^\n" in done.stdout
    (tmp_path / ".shiplap.yml").write_text(_GOOD)
    done = shiplap(tmp_path, "lint")
    assert (done.returncode, done.stdout) == (0, ".shiplap.yml: in order: 2 jobs\n")


def test_lint_reads_the_files_that_there_are(tmp_path: Path) -> None:
    done = shiplap(tmp_path, "lint")
    assert done.returncode == 2
    assert done.stderr == "error: there is neither .shiplap.yml nor .shiplap/NAME.yml here\n"
    (tmp_path / ".shiplap").mkdir()
    (tmp_path / ".shiplap" / "b.yml").write_text(_GOOD)
    (tmp_path / ".shiplap" / "a.yml").write_text("jobs: {}\n")
    (tmp_path / ".shiplap" / "note.txt").write_text("")
    done = shiplap(tmp_path, "lint")
    assert done.returncode == 2
    assert done.stdout.startswith(".shiplap/a.yml:1:7: error: ")
    assert done.stdout.endswith(".shiplap/b.yml: in order: 2 jobs\n")
    (tmp_path / ".shiplap.yml").write_text(_GOOD)
    done = shiplap(tmp_path, "lint")
    assert done.returncode == 2
    assert "there are both .shiplap.yml and .shiplap/a.yml" in done.stderr
    assert "hint: move .shiplap.yml to .shiplap/main.yml" in done.stderr
    assert shiplap(tmp_path, "lint", ".shiplap/b.yml").returncode == 0


def test_lint_of_what_is_no_file_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("missing", "there is no file missing"), ("pipe", "pipe is no file"), (".", ". is no file")):
        done = shiplap(tmp_path, "lint", name)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_graph_shows_which_jobs_an_event_would_run(tmp_path: Path) -> None:
    (tmp_path / ".shiplap.yml").write_text(_GOOD)
    done = shiplap(tmp_path, "graph")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "JOB           DOES   NEEDS", "test (3.10)   run", "test (3.11)   run", "ship is left out: there is no branch",
    ]  # fmt: skip
    done = shiplap(tmp_path, "graph", "--event", "push", "--branch", "main", "--json")
    shown = json.loads(done.stdout)
    assert [job["needs"] for job in shown["jobs"]] == [[], [], ["test (3.10)", "test (3.11)"]]
    assert shown["left_out"] == {}
    git(tmp_path, "init", "-q", "-b", "main")
    taken = shiplap(tmp_path, "graph", "--event", "push", "--json").stdout
    assert json.loads(taken) == shown, "the branch that is checked out"


def test_graph_shows_the_services_of_jobs(tmp_path: Path) -> None:
    services = "services: {db: {image: 'b:1'}, web: {image: 'b:1'}}\n"
    text = (
        f"{services}jobs: {{a: {{image: 'b:1', run: x, services: [db, web]}}, b: {{image: 'b:1', run: y, needs: a}}}}"
    )
    (tmp_path / ".shiplap.yml").write_text(text)
    assert [line.split() for line in shiplap(tmp_path, "graph").stdout.splitlines()] == [
        ["JOB", "DOES", "NEEDS", "SERVICES"], ["a", "run", "db,", "web"], ["b", "run", "a"],
    ]  # fmt: skip
    shown = json.loads(shiplap(tmp_path, "graph", "--json").stdout)
    assert [job["services"] for job in shown["jobs"]] == [["db", "web"], []]


def test_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(shiplap(tmp_path, "schema").stdout)["title"] == "Shiplap pipeline"
