"""The API without root: an ordinary user's compose, and docker's clients that come to that user's engine by ssh."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.ordinary import User, ordinary_user
from tests.toolkit.shiplap import BUSYBOX_NAME
from tests.toolkit.ssh import ssh_server

_FILE = f"""
name: own
services:
  web:
    image: {BUSYBOX_NAME}
    command: sh -c 'echo made >/data/file; echo pong >/index.html; exec httpd -f -h / -p 80'
    init: true
    volumes: [./data:/data]
    healthcheck: {{test: "wget -qO- http://127.0.0.1/", interval: 100ms}}
  asks:
    image: {BUSYBOX_NAME}
    command: wget -qO- http://web/
    depends_on: {{web: {{condition: service_healthy}}}}
"""


@pytest.fixture(scope="module")
def user(privileged: None, busybox_tar: Path) -> Iterator[User]:
    """Somebody who may log in, and has an image."""
    with ordinary_user(f"shiplapa{os.getpid()}") as user:
        subprocess.run(["usermod", "-p", "*", user.name], check=True)  # no password, and not locked
        for name in ("run", "bin", "home/data"):
            (user.folder / name).mkdir(mode=0o700)
        docker = user.folder / "bin" / "docker"
        docker.write_text(f'#!/bin/sh\nexec {shlex.join(user.command)} "$@"\n')
        base = user.folder / "home" / "busybox.tar"
        base.write_bytes(busybox_tar.read_bytes())
        (user.folder / "home" / "compose.yaml").write_text(_FILE)
        docker.chmod(0o755)
        user.own(*(user.folder / name for name in ("run", "bin", "home/data")), base, docker)
        user.shiplap("image", "import", "busybox.tar", BUSYBOX_NAME, env=_runtime(user))
        yield user


def _runtime(user: User) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": f"{user.folder}/run"}


def test_compose_works_for_a_user_as_for_root(user: User) -> None:
    def compose(*words: str) -> str:
        return user.shiplap("compose", "--progress", "quiet", *words, env=_runtime(user)).stdout

    compose("up", "-d")
    eventually(lambda: "pong\n" in compose("logs", "--no-log-prefix", "asks"))
    assert "own-web-1" in user.shiplap("ps", env=_runtime(user)).stdout, "containers need no engine that listens"
    assert (user.folder / "home" / "data" / "file").stat().st_uid == user.uid
    compose("down", "-t", "0")
    assert "own-" not in user.shiplap("ps", "-a", env=_runtime(user)).stdout


def test_docker_reaches_a_users_engine_by_ssh(user: User, tmp_path: Path) -> None:
    login = {**user.environment, **_runtime(user), "PATH": f"{user.folder}/bin:/usr/bin:/bin"}
    folder = user.folder / "ssh"  # who logs in has to see which keys are let in
    folder.mkdir()
    with ssh_server(folder, prefix=user.seeing(), environment=login) as server:
        (tmp_path / "known").write_text(server.known_hosts)
        ssh = f"/usr/bin/ssh -F none -i {server.key} -o UserKnownHostsFile={tmp_path}/known"
        (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec {ssh} "$@"\n')
        (tmp_path / "ssh").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}

        def docker(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                ["docker", *words], input=stdin, capture_output=True, env=environment, timeout=stretched(240)
            )

        host = f"ssh://{user.name}@127.0.0.1:{server.port}"
        made = docker("context", "create", "far", "--docker", f"host={host}")
        assert made.returncode == 0, made.stderr
        sent = os.urandom(300_000)
        words = ("run", "-i", "--name", "by-ssh", BUSYBOX_NAME, "sh", "-c", "cat; exit 5")
        ran = docker("--context", "far", *words, stdin=sent)
        assert (ran.returncode, ran.stdout == sent) == (5, True), ran.stderr
    listed = user.shiplap("ps", "-a", "--format", "{{.Names}} {{.State}}", env=_runtime(user))
    assert listed.stdout == "by-ssh exited\n"
