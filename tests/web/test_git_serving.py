"""Bare repositories over HTTP, with git itself as the client: who may what, and that a push is told once."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.accounts.roles import PROJECT_ROLES, ProjectRole
from pipelines.bare.making import install_hook, make_repository
from pipelines.model import GitSource, HookSettings, Project, RunRequest, RunResult
from pipelines.owning.grants import Grant
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.git import git
from tests.web.processes import WebProcess, status_of


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    """Under the units' umask."""
    with ExitStack() as stack:
        before = os.umask(0o077)
        try:
            web = stack.enter_context(WebProcess(settings))
        finally:
            os.umask(before)
        yield web


def make(settings: ServiceSettings, service: Service, web: WebProcess, name: str) -> Path:
    """As ``project add --bare`` does."""
    path = make_repository(settings.root, name)
    service.projects.put(Project(name, hook=HookSettings(forge="plain", repository=f"file://{path}")))
    install_hook(path, f"{web.url}/hooks/{name}", service.projects.set_webhook_secret(name))
    return path


@pytest.fixture
def repository(settings: ServiceSettings, service: Service, web: WebProcess) -> Path:
    return make(settings, service, web, "app")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a commit, that knows no other."""
    path = tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(path))
    (path / "file").write_text("content\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "one")
    return path


def url(web: WebProcess, token: str, name: str = "app") -> str:
    login = f"somebody:{token}@" if token else ""
    return f"http://{login}127.0.0.1:{web.port}/git/{name}.git"


def tried(directory: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit status of git, and what it said."""
    done = subprocess.run(
        ["git", "-C", directory, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null", **environment},
        timeout=stretched(100),
    )  # fmt: skip
    return done.returncode, done.stdout


def member(service: Service, role: ProjectRole, project: str = "app") -> str:
    """A robot's token with a role in one project."""
    return service.roles.create_token(project, f"robot-{role}", role)[1]


def test_push_is_built_and_can_be_fetched_again(
    service: Service, web: WebProcess, repository: Path, clone: Path, tmp_path: Path
) -> None:
    token = member(service, "build")
    code, said = tried(clone, "push", url(web, token), "HEAD:main", "HEAD:refs/tags/v1")
    assert code == 0, said
    assert said.count("remote: Shiplap builds it: ") == 2
    runs = service.runs.list()
    assert [(run.trigger.branch, run.trigger.tag) for run in runs] == [("", "v1"), ("main", "")]
    assert {run.trigger.title for run in runs} == {"one"}
    assert {run.trigger.by for run in runs} == {"token robot-build"}
    assert list((repository / "shiplap-pending").iterdir()) == []
    commit = git(clone, "rev-parse", "HEAD")
    for options in ((), ("--depth=1",), ("--filter=blob:none",), ("-c", "protocol.version=0")):
        target = tmp_path / f"again{len(options)}{''.join(options)[-5:]}"
        code, said = tried(tmp_path, "clone", "--quiet", *options, url(web, token), str(target))
        assert code == 0, said
        assert git(target, "rev-parse", "HEAD") == commit
    assert [entry.action for entry in service.audit.list()] == ["git push"]
    owners = {path.lstat().st_uid for path in repository.rglob("*")}
    assert owners == {os.geteuid()}, "what git made as nobody is whose the repository is"
    code, said = tried(clone, "push", str(repository), "HEAD:by-path")  # as ever
    assert code == 0, said
    assert "Shiplap builds it" in said


def test_push_where_somebody_elses_directories_are_is_refused_with_the_way_out(
    service: Service, web: WebProcess, repository: Path, clone: Path
) -> None:
    """As root leaves them who pushes by the path: some pushes would go there, with an error that names nothing."""
    token = member(service, "build")
    left = repository / "objects" / "ab"
    left.mkdir()
    if os.geteuid() == 0:
        os.chown(left, 12345, 12345)
    else:
        left.chmod(0o555)
    status, said = tried(clone, "push", url(web, token), "main")
    assert (status, "app.git/objects/ab cannot be written to by" in said) == (128, True), said
    assert "chown -R" in said
    assert tried(clone, "ls-remote", url(web, token))[0] == 0
    if os.geteuid() == 0:
        os.chown(left, 0, 0)
    else:
        left.chmod(0o755)
    status, said = tried(clone, "push", url(web, token), "main")
    assert (status, "runs/1" in said) == (0, True), said


def test_an_archived_project_is_fetched_and_not_pushed_to(
    service: Service, web: WebProcess, repository: Path, clone: Path
) -> None:
    token = member(service, "maintain")
    service.projects.archive("app")
    code, said = tried(clone, "push", url(web, token), "HEAD:main")
    assert (code, "project app is archived: it takes no pushes" in said) == (128, True), said
    assert tried(clone, "ls-remote", url(web, token)) == (0, "")
    service.projects.unarchive("app")
    assert tried(clone, "push", url(web, token), "HEAD:main")[0] == 0


def test_history_is_rewritten_and_removed(service: Service, web: WebProcess, repository: Path, clone: Path) -> None:
    git(clone, "remote", "add", "origin", url(web, member(service, "build")))
    git(clone, "push", "--quiet", "origin", "main")
    git(clone, "commit", "--quiet", "--amend", "-m", "another")
    assert tried(clone, "push", "origin", "main")[0] == 1
    code, said = tried(clone, "push", "--force", "origin", "main", "main:gone")
    assert code == 0, said
    assert "gone was deleted" in tried(clone, "push", "origin", ":gone")[1]
    git(repository, "config", "receive.denyNonFastForwards", "true")  # the administrator's wish counts here too
    git(clone, "commit", "--quiet", "--amend", "-m", "a third")
    assert "denying non-fast-forward" in tried(clone, "push", "--force", "origin", "main")[1]


def test_big_push_goes_in_pieces(service: Service, web: WebProcess, repository: Path, clone: Path) -> None:
    """More than http.postBuffer, so that git sends chunks, after a question whether it may."""
    (clone / "big").write_bytes(os.urandom(24 << 20))
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "big")
    code, said = tried(clone, "push", url(web, member(service, "build")), "main")
    assert code == 0, said
    assert "Shiplap builds it" in said
    assert git(repository, "rev-parse", "main") == git(clone, "rev-parse", "HEAD")


def test_roles_decide(
    service: Service, settings: ServiceSettings, web: WebProcess, repository: Path, clone: Path
) -> None:
    make(settings, service, web, "other")
    tokens = {str(role): member(service, role) for role in PROJECT_ROLES}
    tokens["admin"] = service.tokens.create("boss", ["admin"])[1]
    tokens["everywhere"] = service.tokens.create("worker", ["build"])[1]
    tokens["elsewhere"] = member(service, "maintain", "other")
    tokens["revoked"] = service.tokens.create("gone", ["admin"])[1]
    service.tokens.revoke(next(token.id for token in service.tokens.list() if token.name == "gone"))
    tokens["none"], tokens["nonsense"] = "", "shp_nonsense"
    seen = {
        who: (tried(clone, "ls-remote", url(web, token))[1], tried(clone, "push", url(web, token), f"main:{who}")[1])
        for who, token in tokens.items()
    }
    may_push = {who for who, (_, pushed) in seen.items() if "Shiplap builds it" in pushed}
    assert may_push == {"build", "maintain", "admin", "everywhere"}
    assert {branch.rpartition("/")[2] for branch in git(repository, "for-each-ref").splitlines()} == may_push
    assert "to push needs the right to build in project app" in seen["read"][1]
    assert "error: 403" in seen["read"][1]
    for answer in (*seen["elsewhere"], tried(clone, "ls-remote", url(web, tokens["admin"], "nothing"))[1]):
        assert "not found" in answer
    for who in ("none", "nonsense", "revoked"):
        for answer in seen[who]:
            assert "Authentication failed" in answer or "could not read Username" in answer
    assert "refs/heads" in tried(clone, "ls-remote", url(web, tokens["read"]))[1]


def test_run_fetches_its_own_projects_repositories_only(
    service: Service, settings: ServiceSettings, web: WebProcess, repository: Path, clone: Path
) -> None:
    for name in ("other", "given"):
        make(settings, service, web, name)
    service.grants.give(Grant("app", "bare", "given"))
    service.runs.submit(RunRequest(GitSource(f"file://{repository}", "main"), "app"))
    claim = service.claims.take("fake", ())
    assert claim is not None
    assert tried(clone, "ls-remote", url(web, claim.token))[0] == 0
    assert tried(clone, "ls-remote", url(web, claim.token, "given"))[0] == 0
    assert "not found" in tried(clone, "ls-remote", url(web, claim.token, "other"))[1]
    assert "error: 403" in tried(clone, "push", url(web, claim.token), "main")[1]
    service.claims.finish(claim, "failed", "over", RunResult(), store=lambda connection: None)
    assert "Authentication failed" in tried(clone, "ls-remote", url(web, claim.token))[1]


def status(web: WebProcess, token: str, path: str, *, method: str = "GET", **headers: str) -> int:
    import base64

    login = base64.b64encode(f"x:{token}".encode()).decode()
    sent = {"Authorization": f"Basic {login}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    body = b"0000" if method == "POST" else None
    return status_of(urllib.request.Request(f"{web.url}{path}", body, sent if token else {}, method=method))


def test_only_the_smart_protocol_is_spoken(service: Service, web: WebProcess, repository: Path, clone: Path) -> None:
    token = member(service, "maintain")
    assert tried(clone, "push", url(web, token), "main")[0] == 0
    for path in (
        "HEAD", "config", "shiplap.conf", "objects/info/packs", "info/refs/../../shiplap.conf", "hooks/post-receive",
        "git-upload-archive", "", "info", "..%2fshiplap.conf",
    ):  # fmt: skip
        assert status(web, token, f"/git/app.git/{path}") == 404, path
    assert status(web, token, "/git/app.git/info/refs") == 403
    assert status(web, token, "/git/app.git/info/refs?service=git-upload-archive") == 403
    assert status(web, token, "/git/app.git/info/refs?service=git-upload-pack&x=y") == 403
    good = "/git/app.git/info/refs?service=git-upload-pack"
    assert status(web, token, good) == 200
    assert status(web, "", good) == 401
    assert status(web, token, good, Git_Protocol="version=2:$(id)") == 200
    assert status(web, token, good, method="POST") == 405
    assert status(web, token, "/git/app.git/git-upload-pack") == 405
    assert status(web, token, "/git/app.git/git-receive-pack", method="POST") == 415
    kind = "application/x-git-receive-pack-request"
    assert status(web, token, "/git/app.git/git-receive-pack", method="POST", Content_Type=kind) == 200
    encoded = {"Content_Type": kind, "Content_Encoding": "br"}
    assert status(web, token, "/git/app.git/git-receive-pack", method="POST", **encoded) == 415
    for path in ("/git/../git/app.git", "/git/app.git/..", "/git//app.git", "/git/.git", "/git/-x.git", "/git/app"):
        assert status(web, token, f"{path}/info/refs?service=git-upload-pack") == 404, path
