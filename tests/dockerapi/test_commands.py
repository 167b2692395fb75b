"""``shiplap compose`` and ``shiplap system dial-stdio``: with the API that there is, or one for their time."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cli.commands.compose import environment, found
from cli.errors import CommandError
from core.settings import ServiceSettings
from engine.places import Places
from pipelines.service import Service
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.containers import end_containers
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME, COMMAND, Shiplap

_FILE = f"""
name: timely
services:
  web:
    image: {BUSYBOX_NAME}
    command: sleep 1000
    network_mode: none
"""


@pytest.mark.usefixtures("privileged")
def test_compose_needs_no_engine_that_listens(api: Api, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(_FILE)
    env = {**api.shiplap.environment(None), "DOCKER_HOST": "unix:///nowhere", "DOCKER_CONTEXT": "another"}

    def compose(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "compose", "--ansi", "never", *words], cwd=tmp_path, env=env, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=stretched(240),
        )  # fmt: skip

    run = Places.of(api.shiplap.root).run.parent
    up = compose("up", "-d")
    assert up.returncode == 0, up.stderr
    assert not [each for each in run.glob("api-*") if (each / "docker.sock").exists() and _is_ours(each, api)]
    assert "timely-web-1" in api.shiplap("ps").stdout
    listed = compose("ps", "--format", "json")
    assert json.loads(listed.stdout)["State"] == "running"
    assert compose("exec", "-T", "web", "sh", "-c", "exit 9").returncode == 9
    assert compose("down", "-t", "0").returncode == 0
    assert "timely" not in api.shiplap("ps", "-a").stdout
    wrong = compose("nonsense")
    assert wrong.returncode == 16  # compose's own
    assert "unknown docker command" in wrong.stderr


def _is_ours(folder: Path, api: Api) -> bool:
    """Whether a process serves our root there: other tests have theirs."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return str(api.shiplap.root).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
    return False


def test_compose_is_looked_for_where_docker_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.commands.compose._PLUGINS", ())
    with pytest.raises(CommandError, match="is not installed") as told:
        found({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert told.value.hint is not None
    (tmp_path / "podman-compose").write_text("#!/bin/sh\n")
    (tmp_path / "podman-compose").chmod(0o755)
    with pytest.raises(CommandError, match="podman's engine alone"):
        found({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    for place in (tmp_path / "docker-compose", tmp_path / ".docker" / "cli-plugins" / "docker-compose"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("#!/bin/sh\n")
        place.chmod(0o755)
        assert found({"PATH": str(tmp_path), "HOME": str(tmp_path)}) == str(place)


def test_compose_uses_this_engine_whatever_is_chosen() -> None:
    chosen = {"DOCKER_HOST": "tcp://far", "DOCKER_CONTEXT": "far", "DOCKER_TLS_VERIFY": "1", "A": "b"}
    assert environment(chosen, Path("/s")) == {"DOCKER_HOST": "unix:///s", "A": "b"}


_SSH = """#!/bin/sh
# As ssh: what follows -- and a host is run there, where docker is a link to shiplap.
while [ "$1" != -- ]; do shift; done
shift 2
exec env PATH={folder}/far:$PATH "$@"
"""


@pytest.mark.usefixtures("privileged")
@pytest.mark.parametrize("is_there", [True, False], ids=["an engine that listens", "none"])
def test_docker_reaches_an_engine_by_ssh(api: Api, tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "ssh").write_text(_SSH.format(folder=tmp_path))
    (tmp_path / "far" / "docker").write_text(f'#!/bin/sh\nexec {shlex.join(map(str, COMMAND))} "$@"\n')
    for path in (tmp_path / "ssh", tmp_path / "far" / "docker"):
        path.chmod(0o755)
    host = f"ssh://root@far{api.socket}" if is_there else "ssh://root@far"
    env = {**api.shiplap.environment(None), "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    env.pop("DOCKER_HOST", None)

    def docker(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *words], input=stdin, capture_output=True, env=env, timeout=stretched(240), check=False
        )

    made = docker("context", "create", "far", "--docker", f"host={host}")
    assert made.returncode == 0, made.stderr
    sent = os.urandom(300_000)
    words = ("run", "-i", "--rm", "--network", "none", BUSYBOX_NAME, "sh", "-c", "cat; exit 5")
    ran = docker("--context", "far", *words, stdin=sent)
    assert (ran.returncode, ran.stdout == sent) == (5, True), ran.stderr


def test_dial_stdio_says_where_nobody_listens(tmp_path: Path) -> None:
    env = {**Shiplap(tmp_path / "root").environment(None), "DOCKER_HOST": f"unix://{tmp_path}/none"}
    ran = subprocess.run(
        [sys.executable, "-m", "cli", "system", "dial-stdio"], env=env, capture_output=True, text=True, input=""
    )
    assert ran.returncode == 1
    assert "cannot reach an engine" in ran.stderr


def test_dial_stdio_ends_with_its_client_although_the_engine_says_nothing(short_path: Path) -> None:
    path = short_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        env = {**Shiplap(short_path / "root").environment(None), "DOCKER_HOST": f"unix://{path}"}
        words = [sys.executable, "-m", "cli", "system", "dial-stdio"]
        with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dialled:
            assert dialled.stdout is not None
            engine, _ = listener.accept()
            with engine:
                engine.sendall(b"hello")
                assert dialled.stdout.read(5) == b"hello"
                dialled.stdout.close()  # and its input stays open, as sshd may leave it
                assert dialled.wait(stretched(20)) == 0


@pytest.mark.usefixtures("privileged")
@pytest.mark.parametrize(
    ("line", "host", "told"), [("ana", "127.0.0.1", "users:1: expected"), ("ana root", "192.0.2.7", "on the loopback")]
)
def test_a_service_says_before_it_starts_why_no_token_could_open_its_engine(
    tmp_path: Path, line: str, host: str, told: str
) -> None:
    (tmp_path / "users").write_text(line)
    words = [*COMMAND, "serve", "--engine", "--token-users", str(tmp_path / "users"), "--listen", f"{host}:8080"]
    environment = Shiplap(tmp_path / "root").environment(None)
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=stretched(60))
    assert (ran.returncode, told in ran.stderr) == (1, True), ran.stderr
    assert not (tmp_path / "root" / "serve").exists()


def _look_by_token(shiplap: Shiplap, folder: Path, log: Path) -> None:
    """What a service's engine shows at the service's own port."""
    with Service.open(ServiceSettings.from_environ(root=str(shiplap.root))) as opened:
        opened.users.create("ana", "member")
        _, token = opened.tokens.create("hers", ("build",), None, owner="ana")
    url = (shiplap.root / "serve" / "url").read_text().strip()
    port = url.rpartition(":")[2]
    with closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=stretched(20))) as asking:
        for method, path, status in (("GET", "/healthz", 200), ("POST", "/session", 404), ("GET", "/_ping", 401)):
            asking.request(method, path)  # on one connection, which the last one takes along
            answer = asking.getresponse()
            assert (answer.read() != b"", answer.status) == (True, status), path
    (folder / "config.json").write_text(json.dumps({"HttpHeaders": {"Authorization": f"Bearer {token}"}}))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CONFIG": str(folder)}
    sent = os.urandom(300_000)
    for path in ("", "/engine"):
        ran = subprocess.run(
            ["docker", "run", "-i", "--rm", "--network", "none", BUSYBOX_NAME, "cat"], input=sent,
            capture_output=True, env={**env, "DOCKER_HOST": f"tcp://127.0.0.1:{port}{path}"}, timeout=stretched(120),
        )  # fmt: skip
        assert (ran.returncode, ran.stdout == sent) == (0, True), ran.stderr.decode() + log.read_text()
    (folder / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo built by her token\n")
    far = folder / "far.sock"
    words = [*COMMAND, "system", "forward", url, "--listen", f"unix://{far}"]
    with subprocess.Popen(words, env={**env, "SHIPLAP_TOKEN": token}, stderr=subprocess.PIPE) as forwarding:
        assert forwarding.stderr is not None
        assert b"DOCKER_HOST" in forwarding.stderr.readline()
        ran = subprocess.run(
            ["docker", "build", "-f", folder / "Dockerfile", folder], env={**env, "DOCKER_HOST": f"unix://{far}"},
            capture_output=True, timeout=stretched(120),
        )  # fmt: skip
        forwarding.terminate()
    assert b"built by her token" in ran.stderr, ran.stderr


@pytest.mark.usefixtures("privileged")
def test_a_services_engine_is_at_its_port_by_token_and_leaves_its_containers_running(
    busybox_tar: Path, tmp_path: Path, short_path: Path
) -> None:
    shiplap = Shiplap(short_path / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    path = Places.of(shiplap.root).api
    log, users = tmp_path / "log", tmp_path / "users"
    users.write_text("ana root\n")
    words = [*COMMAND, "serve", "--engine", "--token-users", str(users), "--listen", "127.0.0.1:0"]
    with log.open("wb") as file:
        service = subprocess.Popen(
            words, env=shiplap.environment(None), stdout=file, stderr=file, start_new_session=True
        )
    try:
        eventually(lambda: "Open" in log.read_text() or path.is_socket(), timeout_s=120)
        eventually(lambda: Places.of(shiplap.root).handed.is_socket())
        _look_by_token(shiplap, tmp_path, log)
        docker = ["docker", "-H", f"unix://{path}"]
        ran = subprocess.run(
            [*docker, "run", "-d", "--network", "none", "--name", "stays", BUSYBOX_NAME, "sleep", "1000"],
            capture_output=True, text=True, timeout=stretched(120),
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr + log.read_text()
    finally:
        service.terminate()
        service.wait(stretched(120))
    assert not path.exists()
    assert "stays" in shiplap("ps").stdout
    end_containers(shiplap)
