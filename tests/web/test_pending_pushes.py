"""What is pushed to a bare repository while the service is down is built when it is back: once, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.bare.making import HOOK, install_hook, make_repository, renew_hooks
from pipelines.hooks.pending import DIRECTORY, PendingPushes
from pipelines.model import HookSettings, Project
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import eventually
from tests.web.processes import WebProcess


@pytest.fixture
def web(settings: ServiceSettings) -> WebProcess:
    """Not started yet."""
    return WebProcess(settings)


@pytest.fixture
def repository(settings: ServiceSettings, service: Service, web: WebProcess) -> Path:
    """As ``project add --bare`` makes it; branches are built, but for ``docs``."""
    path = make_repository(settings.root, "app")
    hook = HookSettings(forge="plain", repository=f"file://{path}", branches=("!docs",))
    service.projects.put(Project("app", hook=hook))
    install_hook(path, f"{web.url}/hooks/app", service.projects.set_webhook_secret("app"))
    return path


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    path = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository), str(path))
    return path


def push(clone: Path, title: str, *refs: str, **environment: str) -> str:
    """Make a commit and push it; what git and the hook say."""
    git(clone, "commit", "--quiet", "--allow-empty", "-m", title)
    done = subprocess.run(
        ["git", "-C", clone, "push", "origin", *(refs or ("HEAD:main",))], env={**os.environ, **environment},
        stderr=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stderr


def kept(repository: Path) -> list[Path]:
    return sorted((repository / DIRECTORY).glob("*.json"))


def titles(service: Service) -> list[str]:
    """Of the runs, the oldest first."""
    return [run.trigger.title for run in reversed(service.runs.list())]


def pending(service: Service, settings: ServiceSettings) -> PendingPushes:
    return PendingPushes(service.projects, service.receiver, settings.root / "git")


def test_push_while_the_service_is_down_is_built_when_it_is_back(
    service: Service, repository: Path, clone: Path, web: WebProcess
) -> None:
    with web:
        assert re.search(r"^remote: Shiplap builds it: http://\S+/runs/1 *$", push(clone, "first"), re.MULTILINE)
        assert kept(repository) == []
    said = push(clone, 'second "quoted"', "HEAD:main", "HEAD:docs")
    assert "Connection refused" in said
    assert "The push is kept: it will be built when the service answers again." in said
    assert len(kept(repository)) == 2
    with web:
        eventually(lambda: not kept(repository), why="the service takes what was kept")
        assert titles(service) == ["first", 'second "quoted"']
        assert {delivery.outcome for delivery in service.deliveries.list("app")} == {"queued", "ignored"}
    with web:
        push(clone, "third")
        assert titles(service) == ["first", 'second "quoted"', "third"]


def test_older_pushes_go_before_newer_ones(
    service: Service, settings: ServiceSettings, repository: Path, clone: Path
) -> None:
    for title in ("one", "two", "three"):
        push(clone, title)
    assert pending(service, settings).deliver() == 3
    assert titles(service) == ["one", "two", "three"]
    assert [run.state for run in service.runs.list()] == ["queued", "cancelled", "cancelled"]  # superseded
    assert pending(service, settings).deliver() == 0


def test_what_was_told_and_is_still_kept_starts_nothing_again(
    service: Service, settings: ServiceSettings, repository: Path, clone: Path
) -> None:
    """As a hook leaves it that was killed between the service's answer and the end."""
    push(clone, "one")
    (file,) = kept(repository)
    shutil.copy(file, repository / "again")
    pending(service, settings).deliver()
    shutil.copy(repository / "again", file)
    pending(service, settings).deliver()
    assert titles(service) == ["one"]
    assert kept(repository) == []


def test_nothing_is_built_because_there_is_a_ref(
    service: Service, settings: ServiceSettings, repository: Path, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is upgraded renews the hooks of former versions, and only those."""
    script = repository / "hooks" / "post-receive"
    former = "#!/bin/sh\n# a former version's\n"
    script.write_text(former)
    push(clone, "one")
    other = make_repository(settings.root, "other") / "hooks" / "post-receive"
    other.write_text("#!/bin/sh\n# somebody's own\n")
    monkeypatch.setattr("pipelines.bare.making._is_former", lambda path: path.read_text() == former)
    renew_hooks(settings.root)
    assert script.read_text() == HOOK
    assert os.access(script, os.X_OK)
    assert other.read_text() == "#!/bin/sh\n# somebody's own\n"
    assert pending(service, settings).deliver() == 0
    assert service.runs.list() == []
    push(clone, "two")
    pending(service, settings).deliver()
    assert titles(service) == ["two"]


def test_what_no_hook_kept_is_refused(
    service: Service, settings: ServiceSettings, repository: Path, clone: Path, tmp_path: Path
) -> None:
    push(clone, "one")
    (file,) = kept(repository)
    directory, genuine = repository / DIRECTORY, file.read_bytes()
    forged = json.loads(genuine)
    forged["body"] = forged["body"].replace("refs/heads/main", "refs/heads/evil")
    forged["headers"]["X-Shiplap-Delivery"] = "another"
    (directory / "1.json").write_text(json.dumps(forged))
    (directory / "2.json").write_text("nonsense")
    (directory / "3.json").write_bytes(b"[" * (1 << 20))
    os.mkfifo(directory / "4.json")
    (tmp_path / "elsewhere").write_bytes(genuine)
    (directory / ".5.json").write_bytes(genuine[:40])  # what a killed hook had not kept yet
    (directory / "0.json").symlink_to(tmp_path / "elsewhere")
    pending(service, settings).deliver()
    pending(service, settings).deliver()
    assert titles(service) == ["one"]
    assert sorted(path.name for path in directory.glob("*.refused")) == [f"{n}.json.refused" for n in range(5)]
    assert (tmp_path / "elsewhere").read_bytes() == genuine
    assert [one.outcome for one in service.deliveries.list("app")].count("refused") == 1


def test_links_in_place_of_the_directory_lead_nowhere(
    service: Service, settings: ServiceSettings, repository: Path, clone: Path, tmp_path: Path
) -> None:
    push(clone, "one")
    shutil.move(repository / DIRECTORY, tmp_path / "elsewhere")
    (repository / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    pending(service, settings).deliver()
    assert service.runs.list() == []
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


class Answering(HTTPServer):
    """Answers every request alike. bodies: what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body = 502, b"<html>Bad gateway</html>"
        self.bodies: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Answering)
        server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering() -> Iterator[Answering]:
    with Answering() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_hook_elsewhere_tells_what_it_kept_with_the_next_push(repository: Path, clone: Path) -> None:
    configuration = repository / "shiplap.conf"
    with answering() as server:
        configuration.write_text(
            f"HOOK_URL='http://127.0.0.1:{server.server_port}/hooks/app'\n"
            "HOOK_SECRET='s3cret'\nREPOSITORY='https://git.example/app.git'\n"
        )
        answers = (
            (502, b"<html>"), (404, b"<html>"), (302, b""), (200, b"<html>Sign in</html>"), (200, b"[1]"),
            (503, b'{"error": {}}'), (429, b'{"error": {}}'),
        )  # fmt: skip
        for number, (server.status, server.body) in enumerate(answers, 1):
            said = push(clone, f"push {number}")
            assert f"answered {server.status}" in said
            assert "it is told with the next push, or by hooks/post-receive </dev/null" in said
            assert len(kept(repository)) == number
        assert {body["title"] for body in server.bodies} == {"push 1"}  # the newer ones wait for it
        server.bodies.clear()
        server.status, server.body = 202, b'{"outcome": "queued", "reason": "run \\u001b[2J9"}'
        assert "Shiplap builds it: run  [2J9" in push(clone, "push 8")
        assert [body["title"] for body in server.bodies] == [f"push {number}" for number in range(1, 9)]
        assert kept(repository) == []
        server.status, server.body = 403, b'{"error": {"message": "the signature does not fit"}}'
        assert "Shiplap refused the push: the signature does not fit" in push(clone, "push 9")
        assert kept(repository) == [], "what the service refused is not told again"


def test_hook_needs_python_and_git_only(repository: Path, clone: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    git_program = shutil.which("git")
    assert git_program is not None
    (programs / "git").symlink_to(git_program)
    (programs / "python3").symlink_to(sys.executable)
    said = push(clone, "one", PATH=str(programs))
    assert "The push is kept" in said
    assert len(kept(repository)) == 1


def test_refs_of_any_letters_are_told(repository: Path, clone: Path, service: Service, web: WebProcess) -> None:
    """A delivery's id goes as a header, which takes few letters, and not many of them."""
    odd = ("refs/heads/\u65e5\u672c/\u00e9", "refs/heads/$(id);`id`&|", "refs/tags/" + "v" * 230)
    with web:
        for _ in range(2):  # the same commit there twice is two pushes
            said = push(clone, "odd", *(f"HEAD:{ref}" for ref in odd))
            assert said.count("Shiplap builds it: ") == len(odd)
            push(clone, "gone", *(f":{ref}" for ref in odd))
    assert kept(repository) == []
    assert len(service.runs.list()) == 2 * len(odd)
    assert {run.trigger.branch or run.trigger.tag for run in service.runs.list()} == {
        ref.split("/", 2)[2] for ref in odd
    }


def test_push_that_the_service_took_first_is_answered_all_the_same(
    repository: Path, clone: Path, service: Service, web: WebProcess
) -> None:
    """The service looks every few seconds: a hook that was slow finds its file gone."""
    hook = repository / "hooks" / "post-receive"
    hook.write_text(HOOK.replace("reason = tell_kept(answers)", "time.sleep(1); reason = tell_kept(answers)"))
    taker = PendingPushes(service.projects, service.receiver, repository.parent)
    with web:
        end = threading.Event()
        thread = threading.Thread(target=lambda: [taker.deliver() for _ in iter(lambda: end.wait(0.02), True)])
        thread.start()
        try:
            said = push(clone, "one")
        finally:
            end.set()
            thread.join()
    assert "Shiplap builds it: " in said
    assert titles(service) == ["one"]


def test_repository_is_whose_the_root_is(settings: ServiceSettings, service: Service, privileged: None) -> None:
    """root runs the command; the web process is somebody else, as with the systemd units."""
    os.chown(settings.root, 65534, 65534)
    path = make_repository(settings.root, "theirs")
    install_hook(path, "http://127.0.0.1:1/hooks/theirs", "s3cret")
    assert {found.lstat().st_uid for found in (path, *path.rglob("*"))} == {65534}


def test_author_is_a_number_where_the_user_has_no_name(repository: Path, clone: Path, privileged: None) -> None:
    """As in a container that runs as any number."""
    (repository / DIRECTORY).mkdir()
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 3210987, 3210987)
    reading = "dac_read_search"  # the test's directory is where only root can go
    caps = [f"--{kind}=-all,+{reading}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    somebody = ["setpriv", "--reuid=3210987", "--regid=3210987", "--clear-groups", *caps]
    line = f"{'0' * 40} {'0' * 40} refs/heads/x\n"
    hook = repository / "hooks" / "post-receive"
    subprocess.run([*somebody, sys.executable, hook], cwd=repository, input=line, text=True, check=True)
    (file,) = kept(repository)
    assert json.loads(json.loads(file.read_text())["body"])["author"] == "3210987"
