"""Building on a service, as a user does it: ``shiplap serve`` with all its processes, and commands that talk to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap, start_service


@dataclass(frozen=True, slots=True)
class Serving:
    """A running service. shiplap: the command on its root. url: where it listens."""

    shiplap: Shiplap
    url: str
    process: subprocess.Popen[str]

    def build(self, *args: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        return self.shiplap("--host", self.url, "build", "--progress", "plain", *args, check=check, **options)  # type: ignore[arg-type]

    def runs(self) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = self.shiplap.json("runs", "ls", "--json")
        return listed


def start(shiplap: Shiplap, *args: str | Path) -> subprocess.Popen[str]:
    process: subprocess.Popen[Any] = shiplap.start(*args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process


def start_serving(shiplap: Shiplap, listen: str = "127.0.0.1:0") -> Serving:
    return Serving(shiplap, *start_service(shiplap, listen))


@pytest.fixture(scope="module")
def serving(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("serving")
    shiplap = Shiplap(directory / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    serving = start_serving(shiplap)
    yield serving
    serving.process.terminate()
    assert serving.process.wait(stretched(60)) == 0


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "name").write_text(f"{tmp_path}\n")
    (directory / "ignored").write_text("not to be seen")
    (directory / ".dockerignore").write_text("ignored\n")
    (directory / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nCOPY . /context\nRUN cat /context/name; ls -A /context\n"
    )
    return directory


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + stretched(60)
    while not condition():
        assert time.monotonic() < deadline, f"waited for long, and not yet: {what}"
        time.sleep(0.05)


def wait_for_line(stream: IO[str], pattern: str) -> None:
    seen = []
    for line in stream:
        seen.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError("".join(seen))


def test_build_on_a_server_looks_like_one_here(serving: Serving, context: Path, tmp_path: Path) -> None:
    metadata, iid = tmp_path / "metadata.json", tmp_path / "iid"
    result = serving.build("-t", "app", "--metadata-file", metadata, "--iidfile", iid, context)
    assert result.stdout == ""
    assert re.search(r"^#4 \[3/3\] RUN cat", result.stderr, re.MULTILINE)
    assert re.search(rf"^#4 \d+\.\d{{3}} {tmp_path}$", result.stderr, re.MULTILINE)
    assert "ignored" not in result.stderr.replace(".dockerignore", "")
    assert "2 steps: 2 executed, 0 cached" in result.stderr
    assert json.loads(metadata.read_text())["containerimage.config.digest"] == iid.read_text()
    name = serving.url.removeprefix("http://") + "/app:latest"
    assert f"naming to {name}" in result.stderr
    assert serving.shiplap("run", "--rm", name, "cat", "/context/name").stdout == f"{tmp_path}\n"


def test_second_build_sends_nothing_and_runs_nothing(serving: Serving, context: Path) -> None:
    assert "sending files" in serving.build(context).stderr
    again = serving.build(context).stderr
    assert "sending files" not in again
    assert "2 steps: 0 executed, 2 cached" in again


def test_image_that_was_built_is_pulled_by_another_root(serving: Serving, context: Path, tmp_path: Path) -> None:
    serving.build("-t", "pulled", context)
    name = serving.url.removeprefix("http://") + "/pulled:latest"
    other = Shiplap(tmp_path / "other")
    login = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    assert other("pull", name, check=False, env=login).returncode == 1
    token = (serving.shiplap.root / "serve" / "admin.token").read_text()
    host = serving.url.removeprefix("http://")
    other("login", "-u", "me", "--password-stdin", host, stdin=token, env=login)
    other("pull", name, env=login)
    assert other("run", "--rm", name, "cat", "/context/name").stdout == f"{tmp_path}\n"


def test_step_that_fails_is_shown_with_its_place(serving: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo before; ls /nope\n")
    result = serving.build(context, check=False)
    assert result.returncode == 1
    assert "error: Dockerfile:2:" in result.stderr
    assert "2 | >>> RUN echo before" in result.stderr
    assert serving.runs()[0]["state"] == "failed"


def test_last_lines_of_the_failed_step_are_told_with_its_failure(serving: Serving, context: Path) -> None:
    (context / "token").write_text("hunter2-hunter2")
    step = "RUN --mount=type=secret,id=token seq 100; cat /run/secrets/token; echo; exit 3\n"
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\n{step}")
    asked = ("--secret", f"id=token,src={context / 'token'}", context)
    quiet = serving.shiplap("--host", serving.url, "build", "-q", *asked, check=False)
    assert quiet.stderr.index("\n100\n") < quiet.stderr.index("error: Dockerfile:2:")
    shown = serving.shiplap("runs", "show", str(serving.runs()[0]["number"])).stdout
    between = shown.partition("------\n")[2].partition("\n------\n")
    assert between[0].splitlines()[1:] == [*map(str, range(87, 101)), "***"]
    assert "hunter2" not in shown + quiet.stderr
    assert "Dockerfile:2:" in between[2]
    assert shown.count("exit code: 3") == 1, shown
    assert "reason:" not in shown


def test_quiet_build_prints_just_the_id(serving: Serving, context: Path) -> None:
    result = serving.shiplap("--host", serving.url, "build", "-q", context)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", result.stdout)
    assert result.stderr == ""


def test_interrupted_build_is_cancelled_there(serving: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo started {context}; sleep 100\n")
    process = start(serving.shiplap, "--host", serving.url, "build", "--progress", "plain", context)
    assert process.stderr is not None
    with process.stderr:
        wait_for_line(process.stderr, r"\d started")
        process.send_signal(signal.SIGINT)
        assert process.wait(stretched(30)) == 130
    run = serving.runs()[0]
    assert (run["state"], run["reason"]) == ("cancelled", f"cancelled by {run['cancelled_by']}")
    assert f"cancelled by {run['cancelled_by']}" in serving.shiplap("runs", "ls").stdout
    number = str(run["number"])
    assert f"cancelled by {run['cancelled_by']}" in serving.shiplap("runs", "show", number).stdout
    again = serving.shiplap("runs", "retry", number).stdout.strip()
    assert f"retry of #{number} by {run['cancelled_by']}" in serving.shiplap("runs", "show", again).stdout
    serving.shiplap("runs", "cancel", again)


def test_detached_build_prints_its_address_and_can_be_followed(serving: Serving, context: Path) -> None:
    address = serving.shiplap("--host", serving.url, "build", "--detach", context).stdout.strip()
    assert re.fullmatch(re.escape(serving.url) + r"/runs/\d+", address), "the page's address"
    number = address.rpartition("/")[2]
    log = serving.shiplap("runs", "logs", "-f", number).stdout.splitlines()
    assert str(context.parent) in log
    assert serving.shiplap("runs", "logs", number).stdout.splitlines() == log
    numbered = serving.shiplap("runs", "logs", "-fn", "--search", str(context.parent), number).stdout
    assert numbered.split()[0] == str(log.index(str(context.parent)) + 1)
    shown = serving.shiplap("runs", "show", number).stdout
    assert re.search(r"state: +succeeded", shown)
    assert re.search(r"^2 +\[2/3\] COPY \. /context", shown, re.MULTILINE)


def test_run_is_cancelled_and_retried_by_number(serving: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo {context}; sleep 100\n")
    address = serving.shiplap("--host", serving.url, "build", "--detach", context).stdout.strip()
    number = address.rpartition("/")[2]
    for cancelled in (number, None):
        run = cancelled or serving.shiplap("runs", "retry", number).stdout.strip()
        wait_until(lambda: serving.shiplap.json("runs", "show", "--json", run)["state"] == "running", "it runs")  # noqa: B023
        serving.shiplap("runs", "cancel", run)
        wait_until(lambda: serving.shiplap.json("runs", "show", "--json", run)["state"] == "cancelled", "it ended")  # noqa: B023
    again = serving.shiplap("runs", "cancel", number, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")


def test_dockerfile_may_be_elsewhere_or_ignored(serving: Serving, context: Path, tmp_path: Path) -> None:
    text = f"FROM {BUSYBOX_NAME}\nCOPY . /context\nRUN ls -A /context\n"
    elsewhere = tmp_path / "other.Dockerfile"
    elsewhere.write_text(text)
    (context / ".dockerignore").write_text("ignored\nDockerfile\n")
    for arguments, stdin in (((context,), None), (("-f", elsewhere, context), None), (("-f", "-", context), text)):
        (context / "Dockerfile").write_text(text)
        log = serving.build("--no-cache", *arguments, stdin=stdin).stderr
        shown = re.findall(r"^#4 \d+\.\d{3} (\S+)$", log, re.MULTILINE)
        assert sorted(shown) == [".dockerignore", "name"]


def test_dockerfile_on_standard_input_needs_no_context(serving: Serving) -> None:
    log = serving.build("-", stdin=f"FROM {BUSYBOX_NAME}\nRUN echo from-stdin\n").stderr
    assert "from-stdin" in log


def test_worker_that_is_killed_is_replaced_and_the_run_completes(serving: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo started {context}; sleep 3; echo ended\n")
    process = start(serving.shiplap, "--host", serving.url, "build", "--progress", "plain", context)
    assert process.stderr is not None
    wait_for_line(process.stderr, r"\d started")
    children = Path(f"/proc/{serving.process.pid}/task/{serving.process.pid}/children").read_text().split()
    worker = [pid for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(worker) == 1
    os.killpg(int(worker[0]), signal.SIGKILL)
    with process.stderr:
        rest = process.stderr.read()
    assert process.wait(stretched(120)) == 0, rest
    assert "ended" in rest
    run = serving.runs()[0]
    assert (run["state"], run["attempt"]) == ("succeeded", 2)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--network", "host"], "--network host does not work with a server"),
        (["-o", "type=tar,dest=x"], "--output does not work with a server"),
    ],
)
def test_options_that_only_work_here_are_refused(
    serving: Serving, context: Path, arguments: list[str], fragment: str
) -> None:
    result = serving.build(*arguments, context, check=False)
    assert result.returncode == 1
    assert fragment in result.stderr


def test_context_of_two_gigabytes_passes_through_little_memory(serving: Serving, context: Path) -> None:
    with (context / "big").open("wb") as file:
        file.truncate(2 << 30)
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nCOPY name /\nRUN cat /name\n")
    assert str(context.parent) in serving.build(context).stderr
    assert max(map(peak_memory_bytes, descendants(serving.process.pid))) < 300 << 20


def test_sending_says_how_far_it_is_and_ends_with_ctrl_c(serving: Serving, context: Path) -> None:
    with (context / "big").open("wb") as file:
        file.truncate((1 << 30) + 1)  # no other test has sent that
    process = start(serving.shiplap, "--host", serving.url, "build", "--progress", "json", context)
    assert process.stderr is not None
    with process.stderr:
        wait_for_line(process.stderr, r'"what":"sending files","current_bytes":[1-9]')
        process.send_signal(signal.SIGINT)
        assert "cancelled before the run was queued" in process.stderr.read()
    assert process.wait(stretched(60)) == 130


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(found for child in children for found in descendants(child))]


def peak_memory_bytes(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 if match else 0


def test_secrets_sent_with_a_build_and_stored_ones_reach_its_steps(serving: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN --mount=type=secret,id=own --mount=type=secret,id=KEPT "
        "cat /run/secrets/own; cat /run/secrets/* | tr a-z A-Z\n"
    )
    told = serving.shiplap("--host", serving.url, "secret", "set", "KEPT", stdin="kept there\n").stderr
    assert told == "hint: no project has it yet: shiplap grant add PROJECT secret KEPT\n"
    refused = serving.build("--secret", "id=KEPT,type=stored", context, check=False)
    assert "project default was not given the secret KEPT" in refused.stderr
    serving.shiplap("grant", "add", "default", "secret", "KEPT")
    refused = serving.build("--secret", "id=KEPT,type=stored", context, check=False)
    assert "the secret KEPT is not for this run: it is for protected branches and tags" in refused.stderr
    serving.shiplap("grant", "add", "default", "secret", "KEPT", "--events", "manual,sent")
    policy = {"events": ["manual", "sent"]}
    assert serving.shiplap.json("grant", "ls", "--json") == [
        {"project": "default", "kind": "secret", "name": "KEPT", "may_push": False, "policy": policy}
    ]
    assert "protected branches and tags; events manual sent" in serving.shiplap("grant", "ls").stdout
    assert re.search("KEPT .* protected branches and tags$", serving.shiplap("secret", "ls").stdout, re.MULTILINE)
    (context.parent / "own").write_text("sent along\n")
    secrets = ["--secret", f"id=own,src={context.parent / 'own'}", "--secret", "id=KEPT,type=stored"]
    log = serving.build("--no-cache", *secrets, context).stderr
    assert re.findall(r"^#3 \d+\.\d{3} (.+)$", log, re.MULTILINE) == ["***", "KEPT THERE", "SENT ALONG"]
    serving.shiplap("secret", "rm", "KEPT")
    refused = serving.build(*secrets, context, check=False)
    assert refused.returncode == 1
    assert "there is no secret KEPT" in refused.stderr


def test_policy_of_a_secret_is_set_shown_and_kept(serving: Serving) -> None:
    def policy() -> object:
        return serving.shiplap.json("secret", "ls", "--project", "policies", "--json")[0]["policy"]

    serving.shiplap("project", "add", "policies")
    own = ("--project", "policies", "KEY")
    options = ("--branches", "main", "--events", "push,tag", "--pipelines", "deploy")
    serving.shiplap("secret", "set", *options, *own, stdin="value")
    wanted = {"branches": ["main"], "events": ["push", "tag"], "pipelines": ["deploy"]}
    assert policy() == wanted
    assert "branches main; events push tag; pipelines deploy" in (
        serving.shiplap("secret", "ls", "--project", "policies").stdout
    )
    serving.shiplap("secret", "set", *own, stdin="another")
    assert policy() == wanted
    serving.shiplap("secret", "policy", *own, "--branches", "**")
    assert policy() == {"branches": ["**"]}
    serving.shiplap("secret", "policy", *own)
    assert policy() == {}
    for wrong, why in (
        (("--events", "pull_request"), "pull requests, which never come from the default branch"),
        (("--events", "pushes"), "pushes"),
        (("--branches", "["), "branches of the policy"),
    ):
        refused = serving.shiplap("secret", "policy", *own, *wrong, check=False)
        assert (refused.returncode, why in refused.stderr) == (1, True), refused.stderr
    missing = serving.shiplap("secret", "policy", "--project", "policies", "NONE", check=False)
    assert "there is no secret NONE of project policies" in missing.stderr


def test_policy_of_a_log_in_is_given_with_it_and_kept(serving: Serving) -> None:
    def policies() -> list[object]:
        given = serving.shiplap.json("grant", "ls", "--project", "logins", "--json")
        return [grant["policy"] for grant in given if grant["name"] == "ghcr.io"]

    serving.shiplap("project", "add", "logins")
    login = ("grant", "login", "ghcr.io", "-u", "robot", "--password-stdin")
    serving.shiplap(*login, "--for", "logins", stdin="one")
    assert policies() == [{}]
    assert "ghcr.io   protected branches and tags" in serving.shiplap("grant", "ls", "--project", "logins").stdout
    serving.shiplap(*login, "--for", "logins", "--branches", "**", "--events", "push", stdin="two")
    serving.shiplap(*login, "--for", "logins", stdin="three")
    assert policies() == [{"branches": ["**"], "events": ["push"]}]
    serving.shiplap("grant", "add", "logins", "login", "ghcr.io", "--pipelines", "deploy")
    assert policies() == [{"pipelines": ["deploy"]}]
    refused = serving.shiplap(*login, "--branches", "main", check=False, stdin="four")
    assert (refused.returncode, "--for PROJECT says which" in refused.stderr) == (1, True), refused.stderr


def test_secret_is_not_sent_where_others_could_read_it(serving: Serving, context: Path) -> None:
    commands: list[list[str | Path]] = [
        ["build", "--secret", "id=PATH", context],
        ["secret", "set", "x", context / "name"],
    ]
    for command in commands:
        result = serving.shiplap("--host", "http://ci.example:8080", *command, check=False)
        assert result.returncode == 1
        assert "is not sent to http://ci.example:8080" in result.stderr


def test_roles_in_a_project_are_given_and_bound_a_token(serving: Serving) -> None:
    serving.shiplap("project", "add", "roles")
    serving.shiplap("project", "add", "elsewhere")
    serving.shiplap("user", "add", "gus", "--role", "guest")
    serving.shiplap("project", "member", "set", "roles", "gus", "build")
    token = serving.shiplap("token", "add", "robot", "--project", "roles", "--role", "read").stdout.strip()
    members = serving.shiplap.json("project", "member", "ls", "roles", "--json")
    assert [(member["kind"], member["name"], member["role"]) for member in members] == [
        ("user", "gus", "build"), ("token", "robot", "read"),
    ]  # fmt: skip
    mine = {"SHIPLAP_TOKEN": token}
    listed = json.loads(serving.shiplap("project", "ls", "--json", env=mine).stdout)
    assert [project["name"] for project in listed] == ["roles"]
    assert (
        "there is no project elsewhere" in serving.shiplap("project", "show", "elsewhere", env=mine, check=False).stderr
    )
    formats = {
        ("user", "ls"): ("{{.Name}} {{.Role}} {{.SignsInBy}}", "gus guest a link, not used yet"),
        ("token", "ls"): ("{{.Name}} {{.ExpiresAt}}", "robot never"),
        ("secret", "ls", "--project", "roles"): ("{{.Name}} {{.For}}", "KEY protected branches and tags"),
        ("grant", "ls"): ("{{.Project}} {{.Kind}} {{.Name}}", "roles image team/base"),
        ("grant", "logins"): ("{{json .}}", None),
        ("registry", "ls"): ("{{.Name}} {{.SizeBytes}}", None),
        ("cache", "ls"): ("{{.ID}} {{.Type}}", None),
    }
    serving.shiplap("secret", "set", "--project", "roles", "KEY", stdin="a secret value")
    serving.shiplap("grant", "add", "roles", "image", "team/base")
    for command, (form, line) in formats.items():
        listed_lines = serving.shiplap(*command, "--format", form).stdout.splitlines()
        assert line is None or line in listed_lines, command
        refused = serving.shiplap(*command, "--format", "{{.Nothing}}", check=False)
        assert (refused.returncode, "can't evaluate field Nothing" in refused.stderr) == (1, True), command
    serving.shiplap("project", "archive", "elsewhere")
    assert "elsewhere" not in serving.shiplap("project", "ls", "-q").stdout.split()
    form = "{{.Name}} {{len .ArchivedAt}}"
    assert serving.shiplap("project", "ls", "--archived", "--format", form).stdout == "elsewhere 20\n"
    serving.shiplap("project", "unarchive", "elsewhere")
    assert "elsewhere" in serving.shiplap("project", "ls", "-q").stdout.split()
    serving.shiplap("project", "member", "rm", "roles", "gus")
    serving.shiplap("project", "member", "rm", "roles", members[1]["subject"], "--token")
    assert serving.shiplap.json("project", "member", "ls", "roles", "--json") == []
    for project in ("roles", "elsewhere"):
        serving.shiplap("project", "rm", "--yes", project)


def test_failed_build_on_a_server_leaves_no_stale_files(serving: Serving, context: Path, tmp_path: Path) -> None:
    files = [tmp_path / "iid", tmp_path / "metadata"]
    for file in files:
        file.write_text("of the build before")
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN false\n")
    assert serving.build("--iidfile", files[0], "--metadata-file", files[1], context, check=False).returncode == 1
    assert not [file for file in files if file.exists()]


@pytest.mark.parametrize("options", [("--project", "p", "--scope", "read"), ("--role", "read")])
def test_token_is_for_all_projects_or_for_one(serving: Serving, options: tuple[str, ...]) -> None:
    refused = serving.shiplap("token", "add", "both", *options, check=False)
    assert refused.returncode == 1
    assert "--scope is for all projects, --project and --role are for one" in refused.stderr
    assert "both" not in [entry["name"] for entry in serving.shiplap.json("token", "ls", "--json")]


def test_tokens_are_made_listed_and_taken_back(serving: Serving) -> None:
    token = serving.shiplap("token", "add", "reader", "--scope", "read", "--days", "1").stdout.strip()
    with_token = {"SHIPLAP_TOKEN": token}
    assert serving.shiplap("runs", "ls", env=with_token).returncode == 0
    refused = serving.shiplap("token", "ls", env=with_token, check=False)
    assert "this needs the right to administer the service; yours is to read" in refused.stderr
    listed = serving.shiplap.json("token", "ls", "--json")
    (own,) = [entry for entry in listed if entry["name"] == "reader"]
    assert own["expires_at"] - own["created_at"] == 86400
    serving.shiplap("token", "rm", str(own["id"]))
    assert serving.shiplap("runs", "ls", env=with_token, check=False).returncode == 1


@pytest.mark.parametrize("options", [["--detach"], ["--priority", "0"], ["--worker-label", "gpu"]])
def test_options_of_the_queue_need_a_server(shiplap: Shiplap, context: Path, options: list[str]) -> None:
    result = shiplap("build", *options, context, check=False)
    assert result.returncode == 1
    assert f"{options[0]} is for builds on a server" in result.stderr


def test_run_waits_for_a_worker_with_its_label(serving: Serving, context: Path) -> None:
    asked = ["--detach", "--priority", "7", "--worker-label", "gpu", "--project", "heavy"]
    address = serving.shiplap("--host", serving.url, "build", *asked, context).stdout.strip()
    number = address.rpartition("/")[2]

    def run() -> dict[str, object]:
        return next(run for run in serving.runs() if str(run["number"]) == number)

    assert (run()["priority"], run()["worker_labels"], run()["project"]) == (7, ["gpu"], "heavy")
    wait_until(lambda: run()["reason"] == "no running worker has the label gpu", "the worker is there, and is not able")
    serving.shiplap("runs", "cancel", number)


def test_stranger_needs_a_token(serving: Serving, context: Path, tmp_path: Path) -> None:
    stranger = Shiplap(tmp_path / "stranger")
    result = stranger("--host", serving.url, "build", context, check=False)
    assert result.returncode == 1
    assert f"hint: shiplap login --host {serving.url}, or SHIPLAP_TOKEN" in result.stderr
    token = (serving.shiplap.root / "serve" / "admin.token").read_text().strip()
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    login = stranger("login", "--host", serving.url, "--password-stdin", stdin=token, env=environment)
    assert "Login Succeeded" in login.stdout
    assert (tmp_path / "config" / "shiplap" / "contexts.json").stat().st_mode & 0o777 == 0o600
    stranger("context", "add", "--use", "ci", serving.url, env=environment)
    assert "steps" in stranger("build", context, env=environment).stderr
    assert serving.shiplap("runs", "ls", env={"SHIPLAP_TOKEN": "shp_wrong"}, check=False).returncode == 1


def test_only_one_service_runs_on_a_root(serving: Serving) -> None:
    result = serving.shiplap("serve", "--listen", "127.0.0.1:0", check=False)
    assert result.returncode == 1
    assert "runs on" in result.stderr


def test_service_that_is_killed_leaves_no_process(shiplap: Shiplap) -> None:
    shiplap.root.mkdir()
    serving = start_serving(shiplap)
    pid = serving.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 3
    serving.process.kill()
    serving.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its processes have ended")
    again = start_serving(shiplap)
    again.process.terminate()
    assert again.process.wait(stretched(60)) == 0


@pytest.fixture
def mortal(privileged: None, tmp_path: Path, busybox_tar: Path) -> Iterator[Serving]:
    """A service that the test may kill; what runs at the end, at its address, is ended."""
    shiplap = Shiplap(tmp_path / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    serving = start_serving(shiplap)
    yield serving
    if serving.process.poll() is None:
        serving.process.kill()
        serving.process.wait(stretched(60))


def test_followers_survive_a_service_that_is_killed_and_started_again(mortal: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {BUSYBOX_NAME}\nRUN echo started; sleep 2; for i in $(seq 1000); do echo line $i; done\n"
    )
    build = start(mortal.shiplap, "--host", mortal.url, "build", "--progress", "plain", context)
    assert build.stderr is not None
    wait_for_line(build.stderr, r"\d started")
    logs: subprocess.Popen[Any] = mortal.shiplap.start(
        "--host", mortal.url, "runs", "logs", "-fn", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert logs.stdout is not None
    wait_for_line(logs.stdout, r"started")
    mortal.process.kill()
    mortal.process.wait(stretched(60))
    wait_for_line(build.stderr, r"trying again until it has been away for 60 s; run 1 goes on there")
    again = start_serving(mortal.shiplap, mortal.url.removeprefix("http://"))
    try:
        rest, warnings = logs.communicate(timeout=stretched(120))
        assert logs.returncode == 0, warnings
        followed = rest.splitlines()
        assert [int(line.split()[0]) for line in followed] == list(
            range(int(followed[0].split()[0]), int(followed[-1].split()[0]) + 1)
        )
        whole = mortal.shiplap("--host", mortal.url, "runs", "logs", "-n", "1").stdout.splitlines()
        assert followed == whole[-len(followed) :]
        assert "the service answers again" in warnings
        with build.stderr:
            shown = build.stderr.read()
        assert build.wait(stretched(120)) == 0, shown
        assert re.findall(r" line (\d+)$", shown, re.MULTILINE) == [str(number) for number in range(1, 1001)]
    finally:
        again.process.terminate()
        again.process.wait(stretched(60))


def test_any_signal_ends_a_follower_whose_service_is_away(mortal: Serving, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo started; sleep 100\n")
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    builds = []
    for _ in signals:
        build = start(mortal.shiplap, "--host", mortal.url, "build", "--progress", "plain", context)
        assert build.stderr is not None
        wait_for_line(build.stderr, r"#1 DONE")
        builds.append(build)
    wait_until(lambda: len(mortal.runs()) == len(signals), "all are queued")
    logs: subprocess.Popen[Any] = mortal.shiplap.start(
        "--host", mortal.url, "runs", "logs", "-f", "1", stdout=subprocess.PIPE, text=True
    )
    assert logs.stdout is not None
    wait_for_line(logs.stdout, r"started")
    mortal.process.kill()
    mortal.process.wait(stretched(60))
    for build, number in zip(builds, signals, strict=True):
        assert build.poll() is None
        build.send_signal(number)
        assert build.wait(stretched(10)) == 128 + number
        assert build.stderr is not None
        with build.stderr:
            shown = build.stderr.read()
        assert re.search(r"error: the service is away: run \d may go on there", shown)
        assert re.search(r"hint: when it answers again: shiplap runs cancel \d", shown)
    with logs.stdout:
        logs.send_signal(signal.SIGINT)
        assert logs.wait(stretched(10)) == 130


def test_root_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    deep = Shiplap(tmp_path / ("deep" * 25))
    deep.root.mkdir()
    result = deep("serve", "--listen", "127.0.0.1:0", check=False)
    assert result.returncode == 1
    assert "too long for a socket's path" in result.stderr
    assert "take a shorter --root" in result.stderr


def test_unreachable_server_is_said(shiplap: Shiplap, context: Path) -> None:
    result = shiplap("--host", "http://127.0.0.1:1", "build", context, check=False)
    assert result.returncode == 1
    assert "cannot reach http://127.0.0.1:1" in result.stderr


def test_plain_http_behind_an_https_address_is_told_in_words(shiplap: Shiplap) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = shiplap("--host", f"https://127.0.0.1:{port}", "runs", "ls", check=False)
        thread.join()
    assert result.returncode == 1
    assert f"cannot reach https://127.0.0.1:{port}: what answers there does not speak TLS" in result.stderr
    assert f"http://127.0.0.1:{port}" in result.stderr
    assert "SSL" not in result.stderr


def test_backup_brings_back_what_a_service_knew(serving: Serving, context: Path, tmp_path: Path) -> None:
    serving.build("-t", "kept", context)
    number = str(serving.runs()[0]["number"])
    wrote = serving.shiplap("backup", "--images", tmp_path / "backup.tar").stderr
    assert re.match(rf"{tmp_path}/backup\.tar: [\d.]+[kMG]?B: runs, logs, .*, images$", wrote)
    other = Shiplap(tmp_path / "other")
    other("restore", tmp_path / "backup.tar")
    restored = start_serving(other)
    try:
        assert other("runs", "logs", number).stdout == serving.shiplap("runs", "logs", number).stdout
        host = restored.url.removeprefix("http://")
        third = Shiplap(tmp_path / "third")
        environment = {"DOCKER_CONFIG": str(tmp_path / "docker")}
        token = (other.root / "serve" / "admin.token").read_text()
        third("login", "-u", "me", "--password-stdin", host, stdin=token, env=environment)
        third("pull", f"{host}/kept:latest", env=environment)
        assert third("run", "--rm", f"{host}/kept:latest", "cat", "/context/name").stdout == f"{tmp_path}\n"
    finally:
        restored.process.terminate()
        assert restored.process.wait(stretched(60)) == 0


@pytest.mark.parametrize("name", ["default/secrets", "../users", "..", "", "/"])
def test_name_with_a_slash_reaches_no_other_address(serving: Serving, name: str) -> None:
    for words in (("show", name), ("rm", "--yes", name), ("hook", "ls", name), ("member", "ls", name)):
        refused = serving.shiplap("project", *words, check=False)
        assert refused.returncode == 1
        assert f"{name!r} is no name" in refused.stderr


def test_name_of_a_project_may_have_any_other_letter_and_is_answered_as_a_name(serving: Serving) -> None:
    for name in ("a b", "a?b", "a#b", "ä%2f"):
        refused = serving.shiplap("project", "show", name, check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert "no such" in refused.stderr or "name" in refused.stderr or "project" in refused.stderr
