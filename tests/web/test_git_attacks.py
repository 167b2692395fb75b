"""Repositories over HTTP under attack: what others left in them, what pushers send, who goes away, and who dies."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import GitSettings, ServiceSettings
from pipelines.bare.making import install_hook, install_served_hook, make_repository
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.git import git
from tests.toolkit.service import eventually
from tests.web.processes import WebProcess
from tests.web.test_git_serving import clone, make, member, repository, status, tried, url, web
from web.gitserving.admission import Admission

__all__ = ["clone", "repository", "web"]  # fixtures
_NOBODY = 65534
_READING = "dac_read_search"  # the test's Python and directory may be where only root can go; it writes nothing more
_REFS = "/git/app.git/info/refs?service=git-upload-pack"


def processes_of(who: str) -> list[str]:
    """The command lines of all that was started for who pushes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"SHIPLAP_PUSHER={who}\0".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def test_no_hook_of_the_repository_runs(service: Service, web: WebProcess, repository: Path, clone: Path) -> None:
    ran = repository / "ran"
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "push-to-checkout"):
        hook = repository / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran} /mnt/repository.git/ran\nexit 1\n")
        hook.chmod(0o755)
    code, said = tried(clone, "push", url(web, member(service, "build")), "main")
    assert code == 0, said
    assert "Shiplap builds it" in said, "ours does"
    assert not ran.exists()


@pytest.mark.parametrize(
    "setting",
    [
        "core.alternateRefsCommand=touch /tmp/x", "core.fsmonitor=touch /tmp/x", "core.hooksPath=/tmp",
        "include.path=/tmp/x", "includeIf.gitdir:/.path=/tmp/x", "uploadpack.packObjectsHook=touch /tmp/x",
        "gc.recentObjectsHook=touch /tmp/x", "gpg.program=/tmp/x", "core.sshCommand=/tmp/x", "alias.gc=!touch /tmp/x",
        "remote.o.promisor=true", "remote.o.vcs=ext", "extensions.partialClone=o", "core.worktree=/",
        "filter.x.clean=x",
    ],
)  # fmt: skip
def test_configuration_that_could_start_something_is_not_obeyed(
    service: Service, web: WebProcess, repository: Path, setting: str
) -> None:
    token = member(service, "read")
    assert status(web, token, _REFS) == 200
    name, _, value = setting.partition("=")
    git(repository, "config", name, value)
    assert status(web, token, _REFS) == 409
    git(repository, "config", "--unset", name)
    git(repository, "config", "gc.auto", "100")
    assert status(web, token, _REFS) == 200


def test_links_and_alternates_lead_to_nobody_elses_objects(
    settings: ServiceSettings, service: Service, web: WebProcess, repository: Path, tmp_path: Path
) -> None:
    token = member(service, "read")
    other = make(settings, service, web, "other")
    alternates = repository / "objects" / "info" / "alternates"
    for path, target in (
        (alternates, None), (repository / "commondir", None), (repository / "objects" / "aa", other / "objects"),
        (repository / "refs" / "heads" / "x", other / "HEAD"), (repository / "packed-refs", other / "packed-refs"),
        (repository / "objects" / "pack" / "pack-1.pack", other / "HEAD"),
    ):  # fmt: skip
        if target is None:
            path.write_text(f"{other}/objects\n")
        else:
            path.symlink_to(target)
        assert status(web, token, _REFS) == 409, path
        path.unlink()
    config = repository / "config"
    kept = config.read_text()
    config.unlink()
    config.symlink_to(other / "config")
    assert status(web, token, _REFS) == 409
    config.unlink()
    os.mkfifo(config)
    assert status(web, token, _REFS) == 409
    config.unlink()
    config.write_text(kept)
    assert status(web, token, _REFS) == 200


def test_damaged_objects_are_refused(service: Service, web: WebProcess, repository: Path, clone: Path) -> None:
    tree = git(clone, "rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor a <a@b> 0 +0000 x\ncommitter a <a@b> nonsense\n\nevil\n"
    made = subprocess.run(
        ["git", "-C", clone, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"], input=text, text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    code, said = tried(clone, "push", url(web, member(service, "build")), f"{made.stdout.strip()}:refs/heads/evil")
    assert code != 0
    assert "fsck error" in said or "invalid author/committer" in said
    assert git(repository, "for-each-ref") == ""
    assert service.runs.list() == []


def test_too_large_a_push_is_refused_and_leaves_nothing(
    settings: ServiceSettings, service: Service, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIPLAP_GIT_PUSH_MAX", "1m")
    (clone / "big").write_bytes(os.urandom(6 << 20))
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "big")
    with WebProcess(settings) as web:
        repository = make(settings, service, web, "app")
        token = member(service, "build")
        for buffer in ("1048576", "100000000"):  # with chunks, and with a length that is told before
            code, said = tried(clone, "-c", f"http.postBuffer={buffer}", "push", url(web, token), "main")
            assert code != 0, said
        assert tried(clone, "push", url(web, token), "main~1:refs/heads/small")[0] == 0
        eventually(lambda: not processes_of("token robot-build"), why="nothing of it stays")
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/small"
    assert not list((repository / "objects").glob("tmp_*"))


def sending(web: WebProcess, token: str, headers: str, body: bytes) -> socket.socket:
    """A connection on which the beginning of a push was sent."""
    login = base64.b64encode(f"x:{token}".encode()).decode()
    head = (
        f"POST /git/app.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n"
        f"Content-Type: application/x-git-receive-pack-request\r\n{headers}\r\n"
    )
    with contextlib.ExitStack() as undo:
        peer = undo.enter_context(socket.create_connection(("127.0.0.1", web.port), stretched(20)))
        peer.sendall(head.encode() + body)
        undo.pop_all()
    return peer


def request_of(clone: Path, ref: str) -> bytes:
    """The body of a push that makes ``ref`` of HEAD."""
    commit = git(clone, "rev-parse", "HEAD")
    line = f"{'0' * 40} {commit} {ref}\0 report-status side-band-64k".encode()
    packed = subprocess.run(
        ["git", "-C", clone, "pack-objects", "--revs", "--stdout", "-q"], input=b"HEAD\n", stdout=subprocess.PIPE,
        check=True,
    ).stdout  # fmt: skip
    return b"%04x%s0000" % (len(line) + 4, line) + packed


def test_whoever_goes_away_leaves_no_process_and_no_ref(
    service: Service, web: WebProcess, repository: Path, clone: Path
) -> None:
    (clone / "large").write_bytes(os.urandom(128 << 10))  # the listener keeps a small body until all of it has come
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "large")
    token, body = member(service, "build"), request_of(clone, "refs/heads/half")
    for headers, sent in (
        (f"Content-Length: {len(body)}\r\n", body[:-5]),
        ("Transfer-Encoding: chunked\r\n", b"%x\r\n%s" % (len(body), body[:-5])),
        ("Content-Length: 100\r\n", b""),
        ("Transfer-Encoding: chunked\r\n", b"nonsense\r\n"),
    ):
        with sending(web, token, headers, sent):
            if sent.endswith(body[-9:-5]):
                eventually(lambda: bool(processes_of("token robot-build")), why="git takes what there is")
        eventually(lambda: not processes_of("token robot-build"), why="nothing of it stays")
    assert git(repository, "for-each-ref") == ""
    peer = sending(web, token, f"Content-Length: {len(body)}\r\n", body)
    peer.close()  # all has come: it is taken, and told
    eventually(lambda: len(service.runs.list()) == 1, why="the push is told")
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/half"


_DYING = """
import os, signal, sys, io
from pathlib import Path
from core.settings import GitSettings
from web.gitserving.backend import Backend, Job
repository, hooks, top, body = map(Path, sys.argv[1:])
job = Job(repository, hooks, top, "git-receive-pack", False, True, "who dies")
backend = Backend(job, GitSettings(), follows=lambda: True, stopping=lambda: False)
data = body.read_bytes()
backend.feed(io.BytesIO(data), len(data))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_push_outlives_the_web_process_that_took_it(settings: ServiceSettings, clone: Path, tmp_path: Path) -> None:
    """Killed before git has answered anything: refs that were taken are told when there is a service again."""
    repository = make_repository(settings.root, "app")
    install_hook(repository, "http://127.0.0.1:1/hooks/app", "s3cret")
    (settings.root / "serve").mkdir(mode=0o700, exist_ok=True)
    hooks = settings.root / "serve" / "git-hooks"
    install_served_hook(hooks)
    body = tmp_path / "body"
    body.write_bytes(request_of(clone, "refs/heads/main"))
    checkout = str(Path(__file__).resolve().parents[2])
    dying = [sys.executable, "-c", _DYING, *map(str, (repository, hooks, settings.root, body))]
    done = subprocess.run(dying, check=False, env={**os.environ, "PYTHONPATH": checkout})
    assert done.returncode == -signal.SIGKILL
    eventually(lambda: len(list((repository / "shiplap-pending").glob("[0-9]*.json"))) == 1, why="the hook kept it")
    eventually(lambda: not processes_of("who dies"), why="nothing of it stays")
    assert git(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_each_has_a_share_of_the_places_and_followers_none() -> None:
    admission = Admission(8, patience_s=0.05)
    first, second = admission.enter("ana"), admission.enter("ana")
    assert first is not None
    assert second is not None
    assert admission.enter("ana") is None, "a fourth of all"
    others = [admission.enter(f"user {number}") for number in range(6)]
    assert all(others)
    assert admission.enter("late") is None
    assert first.follow()
    again = admission.enter("ana")
    assert again is not None, "who only follows holds nobody up"
    first.leave()
    first.leave()
    assert admission.enter("late") is None
    again.leave()
    assert admission.enter("late") is not None


def test_followers_have_a_bound_and_each_counts_once() -> None:
    admission = Admission(60)
    places = [place for number in range(51) if (place := admission.enter(f"user {number}"))]
    *followers, late = places
    assert len(followers) == 50
    assert all(place.follow() for place in followers)
    assert followers[0].follow(), "it follows already"
    assert not late.follow()
    followers[0].leave()
    assert late.follow()


class Unprivileged(WebProcess):
    """A web process that is nobody, as with compose and the systemd units."""

    def prefix(self) -> list[str]:
        caps = [f"--{kind}=-all,+{_READING}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs", *caps]


@pytest.fixture
def public_settings(settings: ServiceSettings, empty_database: Path, privileged: None) -> Iterator[ServiceSettings]:
    """With a root that is nobody's, and that nobody can reach."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-nobody-"))
    directory.chmod(0o755)
    root = directory / "root"
    (root / "serve").mkdir(parents=True)
    for path in (empty_database, empty_database.with_name("secret.key")):
        shutil.copy(path, root / "serve")
    yield settings._replace(root=root, database_url=f"sqlite:///{root}/serve/service.db")
    shutil.rmtree(directory)


def test_web_process_without_privileges_serves_its_own(
    public_settings: ServiceSettings, clone: Path, tmp_path: Path
) -> None:
    with Service.open(public_settings) as service:
        for path in (public_settings.root, *public_settings.root.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)
        with Unprivileged(public_settings) as web:
            repository = make(public_settings, service, web, "app")
            token = member(service, "build")
            code, said = tried(clone, "push", url(web, token), "main")
            assert code == 0, said
            assert "Shiplap builds it" in said
            code, said = tried(tmp_path, "clone", "--quiet", url(web, token), str(tmp_path / "again"))
            assert code == 0, said
        assert {path.lstat().st_uid for path in repository.rglob("*")} == {_NOBODY}


def test_settings_are_read() -> None:
    read = GitSettings.from_environ({"SHIPLAP_GIT_PUSH_MAX": "5m", "SHIPLAP_GIT_TIME": "7", "SHIPLAP_GIT_AT_ONCE": "3"})
    assert read == GitSettings(5 << 20, 7, 3)
    assert GitSettings.from_environ({"SHIPLAP_GIT_PUSH_MAX": "", "SHIPLAP_GIT_TIME": ""}) == GitSettings()


def test_slow_push_ends_with_its_time(
    settings: ServiceSettings, service: Service, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIPLAP_GIT_TIME", "2")
    with WebProcess(settings) as web:
        make(settings, service, web, "app")
        (clone / "big").write_bytes(os.urandom(6 << 20))
        git(clone, "add", ".")
        git(clone, "commit", "--quiet", "-m", "big")
        body = request_of(clone, "refs/heads/slow")
        with sending(web, member(service, "build"), f"Content-Length: {len(body)}\r\n", body[:100]) as peer:
            peer.settimeout(0.1)
            answer, sent = b"", 100
            while not answer and sent < len(body):  # fast enough to be nobody's burden, and too slow to be done in time
                sent += peer.send(body[sent : sent + 8192])
                with contextlib.suppress(TimeoutError):
                    answer = peer.recv(1000)
            peer.settimeout(stretched(20))
            with contextlib.suppress(ConnectionResetError):  # what was not read of the body
                while piece := peer.recv(1000):
                    answer += piece
        assert b" 503 " in answer
        assert b"git took more than 2 s" in answer
        eventually(lambda: not processes_of("token robot-build"), why="nothing of it stays")
