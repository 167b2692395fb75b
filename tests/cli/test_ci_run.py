"""``shiplap ci run`` as somebody types it: from the working tree, with containers, to the summary and the exit code."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.git import git
from tests.toolkit.host import command_lines
from tests.toolkit.registries import debian_registry
from tests.toolkit.shiplap import Shiplap
from tests.toolkit.terminals import read_until

pytestmark = pytest.mark.usefixtures("privileged")

FIRST = """
jobs:
  lint:
    image: {build: ci}
    inputs: ["src/**", ruff.toml]
    run: tool src

  test:
    image: "busybox:${VERSION}"
    matrix: {VERSION: [1.36, 1.37]}
    inputs: ["src/**"]
    run:
      - sh -n src/app.sh
      - echo "tested with $VERSION"

  app:
    needs: [lint, test]
    build: {context: ., tags: ["app:${SHIPLAP_SHORT_COMMIT}"]}

  deploy:
    needs: app
    when: {branch: main, event: push}
    image: {job: app}
    env: {IMAGE: "${app.IMAGE}"}
    secrets: [DEPLOY_KEY]
    run: ./deploy.sh
"""


@pytest.fixture(scope="module")
def store(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Shiplap:
    """The command on a root with two busyboxes. Tests do not share results: each has names and files of its own."""
    found = Shiplap(tmp_path_factory.mktemp("ci-run") / "root")
    found("image", "import", busybox_tar, "busybox:1.37")
    found("image", "tag", "busybox:1.37", "busybox:1.36")
    return found


class Repository:
    """A git repository, and ``shiplap ci run`` in it."""

    def __init__(self, shiplap: Shiplap, directory: Path) -> None:
        self.shiplap = shiplap
        self.directory = directory
        directory.mkdir()
        git(directory, "init", "-q", "-b", "main")

    def write(self, pipeline: str | None, files: Mapping[str, str]) -> None:
        """pipeline: for ``.shiplap.yml``; None: it stays. files: contents by path; what begins with #! is a program."""
        pipelines = {} if pipeline is None else {".shiplap.yml": pipeline}
        for name, text in {**files, **pipelines}.items():
            path = self.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)

    def commit(self, pipeline: str | None, files: Mapping[str, str] = MappingProxyType({})) -> None:
        self.write(pipeline, files)
        git(self.directory, "add", "-A")
        git(self.directory, "commit", "-q", "-m", "something", "--allow-empty")

    def run(self, *words: str, check: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``ci run``; its exit code has to be ``check``."""
        done = self.shiplap("ci", "run", *words, cwd=self.directory, check=False, **options)
        assert done.returncode == check, f"exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def states(self, *words: str, check: int = 0, **options: Any) -> dict[str, str]:
        """Run, and give the state of each job."""
        end = self.end(*words, check=check, **options)
        return {name: job["state"] for name, job in end["jobs"].items()}

    def end(self, *words: str, check: int = 0, **options: Any) -> dict[str, Any]:
        """Run, and give the last object."""
        done = self.run(*words, "--progress", "json", check=check, **options)
        found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
        assert found["event"] == "run-end"
        return found


@pytest.fixture
def repository(store: Shiplap, tmp_path: Path) -> Repository:
    return Repository(store, tmp_path / "repository")


def first_example(repository: Repository) -> None:
    repository.commit(
        FIRST,
        {
            "src/app.sh": f"echo app of {repository.directory}\n",
            "ruff.toml": "",
            "ci/Dockerfile": "FROM busybox:1.36\n"
            "RUN printf '#!/bin/sh\\nls $1 && test ! -e deploy.sh\\n' >/bin/tool && chmod +x /bin/tool\n",
            "Dockerfile": "FROM busybox:1.36\nCOPY src /src\n",
            "deploy.sh": '#!/bin/sh\necho "deploying $IMAGE with $DEPLOY_KEY"\n',
        },
    )


def test_first_example_runs_and_what_has_inputs_is_reused(repository: Repository) -> None:
    first_example(repository)
    ran = {"lint": "succeeded", "test (1.36)": "succeeded", "test (1.37)": "succeeded", "app": "succeeded"}
    end = repository.end()
    assert {name: job["state"] for name, job in end["jobs"].items()} == ran
    assert end["left_out"] == {"deploy": "it is not for local"}
    reused = {**ran, "lint": "reused", "test (1.36)": "reused", "test (1.37)": "reused"}
    assert repository.states() == reused
    repository.write(None, {"ruff.toml": "# changed, and not committed\n"})
    assert repository.states() == {**reused, "lint": "succeeded"}
    assert repository.states("--no-reuse") == ran
    assert repository.states("test") == {"test (1.36)": "reused", "test (1.37)": "reused"}


def test_deploys_for_an_event_and_shows_no_secret(repository: Repository, tmp_path: Path) -> None:
    first_example(repository)
    (tmp_path / "key").write_text("s3cr3t-of-ours")
    done = repository.run(
        "--event", "push", "--branch", "main", "--secret", f"DEPLOY_KEY={tmp_path}/key", "--progress", "plain"
    )
    commit = git(repository.directory, "rev-parse", "--short=12", "HEAD")
    assert re.search(
        rf"^deploy \| deploying \S*app(:{commit})?@sha256:[0-9a-f]{{64}} with \*\*\*$", done.stderr, re.MULTILINE
    )
    assert "s3cr3t" not in done.stderr
    named = repository.run(
        "deploy", "--event", "push", "--secret", "DEPLOY_KEY", "--progress", "plain", env={"DEPLOY_KEY": "another-one"}
    )
    assert "with ***" in named.stderr
    failed = repository.run("--event", "push", check=1)
    assert "DEPLOY_KEY" in failed.stderr
    assert re.search(r"^deploy +failed ", failed.stderr, re.MULTILINE)


def test_image_is_pushed_for_an_event_where_its_name_says_so(repository: Repository, tmp_path: Path) -> None:
    directory = tmp_path / "registry"
    directory.mkdir()
    with debian_registry(directory) as registry:
        repository.commit(
            f"""
jobs:
  app: {{build: {{context: ., tags: ["{registry.host}/pushed:1", "stays:here"]}}}}
  next: {{needs: app, image: "busybox:1.37", env: {{IMAGE: "${{app.IMAGE}}"}}, run: "echo is $IMAGE"}}
""",
            {"Dockerfile": "FROM busybox:1.37\nCOPY Dockerfile /\n"},
        )
        repositories = registry.storage / "docker" / "registry" / "v2" / "repositories"
        repository.run()
        assert not repositories.exists()
        done = repository.run("--event", "push", "--progress", "plain")
        assert [path.name for path in repositories.iterdir()] == ["pushed"]
        found = re.search(r"^next \| is (\S+)@(sha256:[0-9a-f]{64})$", done.stderr, re.MULTILINE)
        assert found is not None
        assert found[1] == f"{registry.host}/pushed"
        revision = found[2].replace(":", "/")
        assert (repositories / "pushed" / "_manifests" / "revisions" / revision).exists()


def test_files_of_the_working_tree_count_and_ignored_ones_do_not(repository: Repository) -> None:
    repository.commit(
        "jobs: {look: {image: 'busybox:1.37', run: 'ls; cat changed; test ! -e ignored; test ! -e gone'}}\n",
        {".gitignore": "ignored\n", "changed": "before\n", "gone": ""},
    )
    repository.write(None, {"changed": "after\n", "new": "", "ignored": ""})
    (repository.directory / "gone").unlink()
    done = repository.run("--progress", "plain")
    assert re.findall(r"^look \| (changed|new|after|before)$", done.stderr, re.MULTILINE) == ["changed", "new", "after"]
    assert not (repository.directory / ".git" / "index.lock").exists()
    assert git(repository.directory, "status", "--porcelain") == "M changed\n D gone\n?? new"


def test_job_sees_the_history_of_the_repository(repository: Repository) -> None:
    repository.commit(
        """
source: {history: SHOWN}
jobs: {look: {image: "busybox:1.37", run: "ls -A; cat .git/HEAD || true; echo $SHIPLAP_SHORT_COMMIT $SHIPLAP_TITLE"}}
""".replace("SHOWN", "all")
    )
    done = repository.run("--progress", "plain")
    assert "look | ref: refs/heads/main\n" in done.stderr
    assert f"look | {git(repository.directory, 'rev-parse', '--short=12', 'HEAD')} something\n" in done.stderr
    repository.write((repository.directory / ".shiplap.yml").read_text().replace("all", "0"), {})
    assert "look | .git\n" not in repository.run("--progress", "plain").stderr


def test_submodules_are_there_as_they_are_here(repository: Repository) -> None:
    inner = Repository(repository.shiplap, repository.directory.parent / "inner")
    inner.commit(None, {"x": "committed\n"})
    look = 'jobs: {look: {image: "busybox:1.37", run: "ls sub; test ! -f sub/x || cat sub/x"}}\n'
    repository.commit(f"source: {{submodules: true}}\n{look}")
    git(
        repository.directory,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(inner.directory),
        "sub",
    )
    git(repository.directory, "commit", "-q", "-m", "submodule")
    repository.write(None, {"sub/x": "changed\n"})
    assert "look | changed\n" in repository.run("--progress", "plain").stderr
    repository.write(look, {})
    assert "look | x\n" not in repository.run("--progress", "plain").stderr


def test_job_that_fails_is_told_with_its_last_lines(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  bad:
    image: busybox:1.37
    run:
      - echo first
      - |
        echo last words
        exit 3
      - echo never
  next: {needs: bad, image: "busybox:1.37", run: "true"}
  free: {image: "busybox:1.37", run: "true"}
"""
    )
    done = repository.run(check=1)
    end = done.stderr[done.stderr.index("------ bad failed:") :]
    assert "last words\n" in end
    assert "never" not in done.stderr.replace("echo never", "")
    assert re.search(r"^bad +failed .*3", end, re.MULTILINE)
    assert re.search(r"^next +skipped +bad, which has to succeed before it, failed$", end, re.MULTILINE)
    assert re.search(r"^free +succeeded ", end, re.MULTILINE)


def test_what_is_wrong_with_the_file_or_the_words_exits_with_2(repository: Repository) -> None:
    repository.commit("jobs:\n  a: {imag: b, run: x}\n")
    done = repository.run(check=2)
    assert '.shiplap.yml:2:7: error: no key of a job is called "imag" (did you mean "image"?)' in done.stderr
    repository.write("jobs: {test: {image: 'busybox:1.37', run: 'true', when: {event: push}}}\n", {})
    for words, message in {
        ("tset",): 'error: there is no job "tset"\nhint: did you mean "test"?\n',
        ("test",): '"test" is left out: it is not for local',
        ("--secret", "A=/none"): "cannot read /none",
        ("--pipeline", "x"): 'there is no pipeline "x"',
        ("-f", "none.yml"): "there is no file none.yml",
        ("--event", "tag"): "--tag",
        ("--event", "pull_request"): "--target",
        ("--event", "pish"): "pish",
        ("--parallel", "0"): "--parallel",
    }.items():
        assert message in repository.run(*words, check=2).stderr
    done = repository.run()
    assert done.stderr == "nothing is run: no job of the pipeline is for this\ntest is left out: it is not for local\n"


def test_event_that_the_pipeline_does_not_listen_to_runs_nothing(repository: Repository) -> None:
    repository.commit('on: tag\njobs: {ship: {image: "busybox:1.37", secrets: [DEPLOY_KEY], run: "true"}}\n')
    done = repository.run("--event", "push", "--secret", "DEPLOY_KYE", env={"DEPLOY_KYE": "value"})
    assert done.stderr == (
        "warning: no job names the secret DEPLOY_KYE (did you mean DEPLOY_KEY?)\n"
        "nothing is run: the pipeline does not listen to push\n"
    )


def test_one_of_several_pipelines_is_named(repository: Repository) -> None:
    repository.commit(
        None,
        {
            ".shiplap/a.yml": "jobs: {one: {image: 'busybox:1.37', run: 'true'}}\n",
            ".shiplap/b.yml": "jobs: {two: {image: 'busybox:1.37', run: 'true'}}\n",
        },
    )
    assert "there are several pipelines: a, b" in repository.run(check=2).stderr
    assert repository.states("--pipeline", "b") == {"two": "succeeded"}
    assert repository.states("-f", ".shiplap/a.yml") == {"one": "succeeded"}


def test_outputs_go_to_jobs_after_it_and_nothing_else_does(repository: Repository, tmp_path: Path) -> None:
    repository.commit(
        """
jobs:
  make:
   {image: "busybox:1.37", outputs: [{path: out, name: made}], run: "mkdir out; echo made > out/it; echo thrown > away"}
  take: {needs: make, image: "busybox:1.37", run: "cat out/it; test ! -e away"}
  apart: {image: "busybox:1.37", run: "test ! -e out"}
"""
    )
    (tmp_path / "key").write_text("of-nobodys-job")
    words = ("--outputs", str(tmp_path / "left"), "--secret", f"NOBODY={tmp_path}/key", "--progress", "json")
    warned, *_, written, end = map(json.loads, repository.run(*words).stderr.splitlines())
    assert warned == {"event": "warning", "message": "no job names the secret NOBODY"}
    place = tmp_path / "left" / "make" / "made"
    where = {"event": "output-written", "job": "make", "name": "made", "path": str(place)}
    assert written == {**where, "files": 1, "size": len("made\n")}
    assert (place / "out" / "it").read_text() == "made\n"
    assert {name: job["state"] for name, job in end["jobs"].items()} == dict.fromkeys(
        ("make", "take", "apart"), "succeeded"
    )
    assert end["jobs"]["make"]["outputs"].startswith("sha256:")
    assert repository.end()["jobs"]["make"]["outputs"] == end["jobs"]["make"]["outputs"]
    assert not (repository.directory / "out").exists()


def test_outputs_are_the_same_on_another_root(
    repository: Repository, shiplap: Shiplap, busybox_tar: Path, tmp_path: Path
) -> None:
    """And of another clone, with other times and another owner's habits."""
    repository.commit(
        """
jobs:
  make:
    image: busybox:1.37
    inputs: [src]
    outputs: [out]
    run: "mkdir -p out/deep; cp src/* out/deep; ln -s deep/a out/link; chmod 700 out/deep; date > out/when; rm out/when"
  all: {image: "busybox:1.37", outputs: ["*.txt"], run: "ls src > list.txt"}
""",
        {"src/a": "a", "src/b": "b"},
    )
    first = repository.end()["jobs"]
    shiplap("image", "import", busybox_tar, "busybox:1.37")
    git(tmp_path, "clone", "-q", str(repository.directory), "another")
    other = shiplap("ci", "run", "--progress", "json", "--event", "push", "--parallel", "1", cwd=tmp_path / "another")
    second = json.loads(other.stderr.splitlines()[-1])["jobs"]
    for name in ("make", "all"):
        assert first[name]["outputs"] == second[name]["outputs"], name
        assert first[name]["outputs"] is not None


def test_failure_that_is_allowed_and_a_flaky_job_are_no_failure(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  shaky: {image: "busybox:1.37", may_fail: true, run: "exit 5"}
  flaky: {image: "busybox:1.37", retry: 2, run: "test $SHIPLAP_ATTEMPT = 2"}
  next: {needs: [shaky, flaky], image: "busybox:1.37", run: "true"}
"""
    )
    done = repository.run("--progress", "plain")
    assert re.search(r"^shaky +failed \(may\) ", done.stderr, re.MULTILINE)
    assert re.search(r"^flaky +flaky +\S+ +succeeded at attempt 2$", done.stderr, re.MULTILINE)
    assert re.search(r"^next +succeeded ", done.stderr, re.MULTILINE)


def test_parallel_jobs_hold_the_same_lock_file(repository: Repository) -> None:
    """Nobody lets go of it: a job that saw the other's workspace would fail, however the two follow each other."""
    script = "set -C; echo mine > lock; sleep 1"
    repository.commit(
        f"""
jobs:
  a: {{image: "busybox:1.37", run: "{script}"}}
  b: {{image: "busybox:1.37", run: "{script}"}}
"""
    )
    done = repository.run("--parallel", "2", "--progress", "json")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events.index("job-end") > max(at for at, event in enumerate(events) if event == "job-start")
    assert [job["state"] for job in json.loads(done.stderr.splitlines()[-1])["jobs"].values()] == ["succeeded"] * 2


class Going:
    """A ``ci run`` that goes on, and the lines that it has printed. A context manager: nothing of it is left behind."""

    def __init__(self, repository: Repository, *words: str) -> None:
        self.lines: list[str] = []
        self._process = repository.shiplap.start(
            "ci", "run", "--progress", "plain", *words, cwd=repository.directory, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(str(line))

    def until(self, line: str) -> None:
        eventually(lambda: f"{line}\n" in self.lines, why=line)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Its exit code."""
        code = self._process.wait(stretched(60))
        self._reading.join()
        return code

    def __enter__(self) -> Going:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def test_ctrl_c_ends_what_runs_and_runs_what_cleans_up(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  work: {image: "busybox:1.37", run: "trap 'echo let go; exit 1' TERM; echo begun; while :; do sleep 0.1; done"}
  clean: {needs: work, after: always, image: "busybox:1.37", run: "echo cleaned"}
  more: {needs: work, image: "busybox:1.37", run: "true"}
"""
    )
    with Going(repository) as going:
        going.until("work | begun")
        going.interrupt()
        assert going.end() == 130
    text = "".join(going.lines)
    assert "work | let go\n" in text
    assert "clean | cleaned\n" in text
    assert re.search(r"^work +cancelled ", text, re.MULTILINE)
    assert re.search(r"^clean +succeeded ", text, re.MULTILINE)
    assert re.search(r"^more +cancelled ", text, re.MULTILINE)


def test_second_ctrl_c_kills_and_leaves_nothing(repository: Repository) -> None:
    mine = f"sleep {1_000_000 + os.getpid()}"
    repository.commit(
        """
jobs:
  deaf:
    image: busybox:1.37
    grace: 5m
    run: "trap 'echo no' TERM; SECONDS_OF_MINE & echo begun; while :; do sleep 0.1 || :; done"
  clean: {needs: deaf, after: always, image: "busybox:1.37", run: "echo cleaned"}
""".replace("SECONDS_OF_MINE", mine)
    )
    with Going(repository) as going:
        going.until("deaf | begun")
        going.interrupt()
        going.until("deaf | no")
        going.interrupt()
        assert going.end() == 130
    assert "clean | cleaned\n" not in going.lines
    assert mine not in command_lines().values()


def test_run_ends_with_its_terminal(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  work: {image: "busybox:1.37", run: "echo begun; sleep 1000"}
  clean: {needs: work, after: always, image: "busybox:1.37", outputs: [left], run: "touch left"}
"""
    )
    user, program = os.openpty()
    process = repository.shiplap.start(
        "ci", "run", cwd=repository.directory, stdin=program, stdout=program, stderr=program, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(program, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(program)
    try:
        read_until(user, b"begun")
        os.close(user)
        assert process.wait(stretched(60)) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()


def test_shell_in_a_failed_job_has_its_workspace(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  bad: {image: "busybox:1.37", env: {COLOUR: green}, run: "cd src; echo half > done; false"}
  next: {needs: bad, image: "busybox:1.37", run: "true"}
""",
        {"src/file": ""},
    )
    done = repository.run("--shell-on-failure", check=1, stdin="pwd; cat src/done; echo $COLOUR; rm src/done\n")
    assert done.stdout.splitlines() == ["/work", "half", "green"]
    assert "/bin/sh in bad, which failed" in done.stderr


def test_shell_on_a_terminal_is_a_terminal_and_the_rows_come_back(repository: Repository) -> None:
    repository.commit('jobs: {bad: {image: "busybox:1.37", run: "echo half > done; echo last words; false"}}')
    user, program = os.openpty()
    process = repository.shiplap.start(
        "ci", "run", "--shell-on-failure", "--progress", "tty", cwd=repository.directory, stdin=program, stdout=program,
        stderr=program,
    )  # fmt: skip
    os.close(program)
    try:
        read_until(user, b"/work # ")
        os.write(user, b"tty; cat done; echo at-$(pwd)\r")
        assert b"half" in read_until(user, b"at-/work")
        os.write(user, b"exit\r")
        assert b"last words" in read_until(user, b"1 job: 1 failed")
        assert process.wait(timeout=stretched(60)) == 1
    finally:
        process.kill()
        process.wait()
        os.close(user)


GATED = """
jobs:
  make: {image: "busybox:1.37", exports: [V], run: "echo V=7 >> $SHIPLAP_EXPORTS"}
  go: {needs: make, approve: "Ship ${make.V}?"}
  deploy: {needs: go, image: "busybox:1.37", run: "echo shipped"}
"""


def test_gate_without_a_terminal_is_an_error_before_anything_has_run(repository: Repository) -> None:
    repository.commit(GATED)
    done = repository.run(check=2, stdin="y\n")
    assert "error: go asks whether the run may go on, and there is no terminal to ask on" in done.stderr
    assert "hint: --yes answers" in done.stderr
    assert "make" not in done.stderr.replace("make.V", "")
    assert repository.run("make").returncode == 0, "what the gate is not for runs"


def test_yes_answers_gates(repository: Repository) -> None:
    repository.commit(GATED)
    end = repository.end("--yes")
    assert {name: job["state"] for name, job in end["jobs"].items()} == dict.fromkeys(
        ("make", "go", "deploy"), "succeeded"
    )
    assert end["jobs"]["go"]["message"] == "approved by --yes"


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        (b"perhaps\ryes\r", 0, b"go +succeeded +approved here"),
        (b"\r", 1, b"go +failed +refused here"),
        (b"\x04", 1, b"go +failed +refused here"),
        (b"\x03", 130, b"go +cancelled"),
    ],
)
def test_gate_asks_on_the_terminal(repository: Repository, typed: bytes, code: int, told: bytes) -> None:
    repository.commit(GATED)
    user, program = os.openpty()
    process = repository.shiplap.start(
        "ci", "run", cwd=repository.directory, stdin=program, stdout=program, stderr=program, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(program, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(program)
    try:
        assert b"go: Ship 7?" in read_until(user, b"Go on? [y/N] ")
        for line in re.findall(rb"[^\r]+\r|.", typed):
            os.write(user, line)
        shown = read_until(user, b"3 jobs: ")
        assert re.search(told, shown), shown
        assert process.wait(timeout=stretched(60)) == code
    finally:
        process.kill()
        process.wait()
        os.close(user)


def test_result_counts_for_the_secret_that_it_saw(repository: Repository) -> None:
    repository.commit(
        'jobs: {t: {image: "busybox:1.37", inputs: [src], secrets: [TOKEN], run: "test $TOKEN"}}\n',
        {"src/a": f"{repository.directory}\n"},
    )
    one, two = {"TOKEN": "value-of-one"}, {"TOKEN": "value-of-two"}
    given = ("--secret", "TOKEN")
    assert repository.states(*given, env=one) == {"t": "succeeded"}
    assert repository.states(*given, env=one) == {"t": "reused"}
    asked = repository.shiplap("ci", "why", "t", *given, cwd=repository.directory, env=two)
    assert "TOKEN changed" in asked.stdout
    assert "value" not in asked.stdout + asked.stderr
    assert repository.states(*given, env=two) == {"t": "succeeded"}
    key = repository.shiplap.root / "ci" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_why_says_what_changed(repository: Repository) -> None:
    repository.commit(
        """
jobs:
  test: {image: "busybox:1.37", inputs: ["src/**"], run: "cat src/*"}
  ship: {needs: test, image: "busybox:1.37", run: "true"}
  make: {image: "busybox:1.37", inputs: [src], outputs: [out], run: "cp -r src out"}
  pack: {needs: make, image: "busybox:1.37", inputs: [out], run: "cat out/*"}
""",
        {"src/a": f"{repository.directory}\n"},
    )

    def why(job: str) -> str:
        return repository.shiplap("ci", "why", job, cwd=repository.directory).stdout

    assert why("test") == "test: it would run: it has not succeeded before\n"
    assert why("ship") == "ship: it would run: it has no `inputs`, so it always runs\n"
    assert why("pack") == "pack: it would run after make, which would run: what that leaves is not known before\n"
    done = repository.run("--progress", "plain")
    assert re.search(r"^test +succeeded +\S+ +it has not succeeded before$", done.stderr, re.MULTILINE)
    assert re.search(r"^ship +succeeded +\S+ +it has no `inputs`, so it always runs$", done.stderr, re.MULTILINE)
    for job in ("test", "make", "pack"):
        assert why(job) == f"{job}: it would be reused: the result of an earlier run here\n"
    repository.write(None, {"src/a": "changed\n"})
    assert why("test") == "test: it would run: src/a changed\n"
    assert why("pack") == "pack: it would run after make, which would run: what that leaves is not known before\n"
    done = repository.run("test", "--progress", "plain")
    assert re.search(r"^test +succeeded +\S+ +src/a changed$", done.stderr, re.MULTILINE)
    done = repository.shiplap("ci", "why", "tset", cwd=repository.directory, check=False)
    assert (done.returncode, done.stderr) == (2, 'error: there is no job "tset"\nhint: did you mean "test"?\n')
