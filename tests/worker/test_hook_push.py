"""git push, end to end: a bare repository's hook calls the service, a worker builds, the forge is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.platforms import Platform
from core.references import Reference
from core.settings import ServiceSettings
from images.archive import import_rootfs
from images.oci import ImageConfig
from images.store import Store
from pipelines.bare.making import HOOK
from pipelines.database import migrate
from pipelines.hooks.planning import by_hand
from pipelines.logs.lines import decode_line
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, Run, RunRequest
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.forgepayloads import AFTER, NONE, SECRET, Hook, gitea_push, github_pull_request, github_push
from tests.toolkit.forgeserver import ForgeServer, forge_server
from tests.toolkit.git import git, serving_git
from tests.toolkit.service import eventually, finished, redis_server, workforce
from tests.web.processes import WebProcess

_CHECKOUT = Path(__file__).resolve().parents[2]
PUBLIC_URL = "https://ci.example"
NOWHERE = "https://git.invalid/octo-org/hello.git"


@dataclass
class Team:
    """A service with a web process and a worker; a bare repository behind https, and a clone of it to work in."""

    service: Service
    web: WebProcess
    repository_url: str
    bare: Path
    clone: Path

    def commit(self, dockerfile: str) -> str:
        (self.clone / "Dockerfile").write_text(dockerfile)
        git(self.clone, "add", ".")
        git(self.clone, "commit", "--quiet", "--allow-empty", "-m", "Say \"hello\" & 'bye'")
        return git(self.clone, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def team(privileged: None, busybox_tar: Path) -> Iterator[Team]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-push-"))
    directory.chmod(0o755)  # nobody, as whom git runs, has to read the certificate
    bare, clone = directory / "repositories" / "app.git", directory / "clone"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
    clone.mkdir()
    git(clone, "init", "--quiet", "--initial-branch=main")
    git(clone, "remote", "add", "origin", str(bare))
    certificate = _certificate(directory)
    patch = pytest.MonkeyPatch()
    patch.setenv("SHIPLAP_GIT_ALLOWED_HOSTS", "127.0.0.1")
    patch.setenv("SHIPLAP_GIT_CA_FILE", str(certificate))
    patch.setenv("SHIPLAP_PUBLIC_URL", PUBLIC_URL)
    with redis_server(directory / "redis") as redis, serving_git(bare.parent, certificate) as server:
        root = directory / "root"
        settings = ServiceSettings(root, f"sqlite:///{root}/serve/service.db", redis.url)
        with Store.open(root) as store, busybox_tar.open("rb") as stream:
            import_rootfs(store, stream, ImageConfig.for_platform(Platform.host()), [Reference.parse("base:latest")])
        migrate(settings)
        with Service.open(settings) as service, WebProcess(settings) as web, workforce(settings, directory) as force:
            force.start()
            yield Team(service, web, f"https://127.0.0.1:{server.port}/app.git", bare, clone)
    patch.undo()
    shutil.rmtree(directory)


def _certificate(directory: Path) -> Path:
    certificate = directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-keyout", directory / "key.pem", "-out", certificate, "-subj", "/CN=git", "-addext",
         "subjectAltName=IP:127.0.0.1"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    certificate.chmod(0o644)
    return certificate


@pytest.fixture(scope="module")
def forge() -> Iterator[ForgeServer]:
    with forge_server() as server:
        yield server


def install_hook(team: Team, secret: str) -> None:
    """As docs/webhooks.md says it."""
    hook = team.bare / "hooks" / "post-receive"
    hook.write_text(shiplap(team, "project", "hook", "script"))
    assert hook.read_text() == HOOK  # what project add --bare installs
    hook.chmod(0o755)
    values = {"HOOK_URL": f"{team.web.url}/hooks/bare", "HOOK_SECRET": secret, "REPOSITORY": team.repository_url}
    (team.bare / "shiplap.conf").write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))


def push(team: Team, *refs: str) -> str:
    """What the hook printed."""
    done = subprocess.run(
        ["git", "-C", team.clone, "push", "--quiet", "origin", *refs], stderr=subprocess.PIPE, text=True, check=True
    )
    return done.stderr


def output(service: Service, run: Run) -> list[str]:
    lines = [decode_line(data) for _, data in service.logs.read(run.number, 1, 1000)]
    return [line.text for line in lines if line.kind == "output"]


def shiplap(team: Team, *words: str, stdin: str = "") -> str:
    """What a command on an administrator's machine prints."""
    token = (team.service.settings.root / "serve" / "admin.token").read_text().strip()
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--host", team.web.url, *words],
        env={**os.environ, "SHIPLAP_TOKEN": token}, cwd=_CHECKOUT, input=stdin, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


def test_push_to_a_bare_repository_is_built(team: Team) -> None:
    told = shiplap(team, "project", "add", "bare", "--repository", team.repository_url, "--forge", "plain")
    assert f"{PUBLIC_URL}/hooks/bare" in told
    install_hook(team, told.split()[-1])
    commit = team.commit("FROM base\nRUN echo built from a push\n")
    said = push(team, "main")
    assert f"Shiplap builds it: {PUBLIC_URL}/runs/" in said
    (run,) = team.service.runs.list(project="bare")
    ended = finished(team.service, run.number)
    assert ended.state == "succeeded", ended.reason
    assert "built from a push" in output(team.service, run)
    assert (run.trigger.commit, run.trigger.branch) == (commit, "main")
    assert run.trigger.title == "Say \"hello\" & 'bye'"
    assert "was deleted" in push(team, "main:refs/heads/old", "main:refs/tags/v1") + push(team, ":refs/heads/old")
    for other in team.service.runs.list(project="bare"):
        finished(team.service, other.number)
    assert {other.trigger.tag for other in team.service.runs.list(project="bare")} == {"", "v1"}


def test_three_commands_lead_to_a_green_build(team: Team) -> None:
    """As the README has it: make the project, push, look."""
    root = team.service.settings.root
    told = shiplap(team, "--root", str(root), "project", "add", "local", "--bare")
    by_path, by_http = told.splitlines()
    assert by_path == f"git push {root}/git/local.git HEAD:main"
    assert by_http.startswith(f"git push {PUBLIC_URL}/git/local.git HEAD:main ")
    team.commit("FROM base\nRUN echo no forge\n")
    done = subprocess.run(
        ["git", "-C", team.clone, *by_path.split()[1:]], stderr=subprocess.PIPE, text=True, check=True
    )
    assert f"Shiplap builds it: {PUBLIC_URL}/runs/" in done.stderr
    (run,) = team.service.runs.list(project="local")
    assert finished(team.service, run.number).state == "succeeded"
    assert "no forge" in output(team.service, run)
    wanted = by_hand(team.service.projects.get("local"), "main", "ada", "user ada")  # what the button Build does
    again = finished(team.service, team.service.runs.submit(wanted.request, wanted.trigger).number)
    assert again.state == "succeeded", again.reason
    log = [decode_line(data).text for _, data in team.service.logs.read(again.number, 1, 10)]
    assert f"building commit {run.trigger.commit} of branch main" in log


def test_stranger_s_run_leaves_nothing_for_others(team: Team) -> None:
    """Neither in a cache mount, nor as the record of a step that looks like theirs."""
    (team.bare / "hooks" / "post-receive").unlink(missing_ok=True)
    step = "RUN --mount=type=cache,target=/c cat /c/planted 2>/dev/null || echo clean\n"
    evil = team.commit(f"FROM base\nRUN --mount=type=cache,target=/c echo evil > /c/planted\n{step}")
    good = team.commit(f"FROM base\n{step}")
    push(team, "main")
    seen = []
    for commit, trusted in ((evil, False), (good, True)):
        source = GitSource(team.repository_url, commit, trusted=trusted)
        run = team.service.runs.submit(RunRequest(source, "strangers", BuildOptions(tags=("strangers/app:1",))))
        ended = finished(team.service, run.number)
        assert ended.state == "succeeded", ended.reason
        assert ended.result is not None
        seen.append((output(team.service, run)[-1], bool(ended.result.names)))
    assert seen == [("evil", False), ("clean", True)]


def test_project_is_looked_after_by_commands(team: Team) -> None:
    shiplap(team, "project", "add", "shop", "--repository", NOWHERE, "--forge", "github", "--branch", "main")
    shiplap(team, "project", "hook", "secret", "shop", "--stdin", stdin=SECRET + "\n")
    shiplap(team, "project", "hook", "token", "shop", stdin="t0ken\n")
    assert re.search(r"^shop +github +yes +yes +https://git.invalid/", shiplap(team, "project", "ls"), re.MULTILINE)
    team.service.receiver.receive("shop", *lower_headers(github_push("refs/heads/wip")))
    assert "branch wip is not among the project's branches" in shiplap(team, "project", "hook", "ls", "shop")
    delivery = str(team.service.deliveries.list("shop")[0].id)
    shown = json.loads(shiplap(team, "project", "hook", "show", "shop", delivery))
    assert json.loads(shown["body"])["ref"] == "refs/heads/wip"
    shiplap(team, "project", "set", "shop", "--branch", "", "--pull-requests", "approve", "--build-arg", "A=1")
    assert json.loads(shiplap(team, "project", "show", "shop"))["hook"]["build_args"] == {"A": "1"}
    shiplap(team, "project", "set", "shop", "--concurrency", "2")
    hook = team.service.projects.get("shop").hook
    assert (hook.branches, hook.pull_requests, hook.build_args) == ((), "approve", {"A": "1"})
    team.service.receiver.receive("shop", *lower_headers(github_pull_request(fork=True)))
    assert AFTER in shiplap(team, "project", "hook", "approvals", "shop")
    waiting = str(team.service.approvals.list("shop")[0].id)
    assert shiplap(team, "project", "hook", "approve", "--reject", "shop", waiting, AFTER) == ""
    assert shiplap(team, "project", "hook", "redeliver", "shop", delivery).startswith("queued: run ")
    (run,) = team.service.runs.list(project="shop")
    assert finished(team.service, run.number).state == "error"  # there is no such host, which may pass
    shiplap(team, "project", "rm", "--yes", "shop")
    assert "shop" not in shiplap(team, "project", "ls")


def lower_headers(hook: Hook) -> tuple[dict[str, str], bytes]:
    """A request about the repository ``NOWHERE``."""
    hook.document["repository"]["clone_url"] = NOWHERE
    headers, body = hook.request()
    return {name.lower(): value for name, value in headers.items()}, body


def test_forge_hears_how_the_push_went(team: Team, forge: ForgeServer) -> None:
    hook = HookSettings(repository=team.repository_url, forge="gitea", api_url=f"{forge.url}/api/v1")
    team.service.projects.put(Project("forged", hook=hook))
    team.service.projects.set_webhook_secret("forged", SECRET)
    team.service.projects.set_status_token("forged", "t0ken")
    (team.bare / "hooks" / "post-receive").unlink(missing_ok=True)
    good = team.commit("FROM base\nRUN echo good\n")
    bad = team.commit("FROM base\nRUN exit 3\n")
    push(team, "main")
    runs = [send_as_gitea(team, commit) for commit in (good, bad)]
    assert [finished(team.service, number).state for number in runs] == ["succeeded", "failed"]
    eventually(lambda: len(forge.calls) == 6, why="the forge hears of all states")
    told = {commit: [call.body["state"] for call in forge.calls if commit in call.path] for commit in (good, bad)}
    assert told == {good: ["pending", "pending", "success"], bad: ["pending", "pending", "failure"]}
    assert {call.path for call in forge.calls} == {f"/api/v1/repos/app/statuses/{commit}" for commit in (good, bad)}
    assert {call.headers["authorization"] for call in forge.calls} == {"token t0ken"}
    assert {call.body["target_url"] for call in forge.calls} == {f"{PUBLIC_URL}/runs/{number}" for number in runs}


def send_as_gitea(team: Team, commit: str) -> int:
    """The run that a Gitea's webhook for ``commit`` starts, on a branch of its own."""
    hook = gitea_push(ref=f"refs/heads/{commit[:8]}", before=NONE, after=commit)
    repository = {"clone_url": team.repository_url, "html_url": "", "ssh_url": "", "full_name": "app", "id": 1}
    hook.document["repository"].update(repository)
    headers, body = hook.request()
    request = urllib.request.Request(f"{team.web.url}/hooks/forged", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=stretched(10)) as answer:
        assert answer.status == 202
        (number,) = json.load(answer)["runs"]
        return int(number)
