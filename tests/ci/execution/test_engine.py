"""A Docker engine of a job's own: docker's clients in a job, what they may not have, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ci.execution import commands
from containers.errors import ContainerError
from core.references import Reference
from registry.client import Client, ClientConfig, push
from registry.credentials import Credentials
from tests.ci.execution.jobshop import JobShop, Seen, jobshop
from tests.containers.running import Traces, descendants
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.dockerjob import docker_tar
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import debian_registry

_LEFT_S = 5.0
"""What is promised."""


@pytest.fixture(scope="module")
def tar(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docker_tar(busybox_tar, tmp_path_factory.mktemp("docker") / "docker.tar", plugins=True)


@pytest.fixture(scope="module")
def shop(privileged: None, tmp_path_factory: pytest.TempPathFactory, tar: Path, busybox_tar: Path) -> Iterator[JobShop]:
    with jobshop(tmp_path_factory.mktemp("shop"), tar, "docker:1") as made:
        made.bring(busybox_tar, "service:1", env=("PATH=/bin:/usr/bin:/sbin",), entrypoint=())
        yield made


_EVERYDAY = """
services:
  asker: {image: "service:1", args: [sh, -c, "while :; do nc -l -p 9000 -e nc -w 5 job 8080; done"], ready: 9000}
jobs:
  test:
    image: "docker:1"
    services: [asker]
    engine: true
    outputs: made
    run:
      - docker import /busybox.tar bb
      - echo seen >f; docker run --rm -v /work:/w bb sh -c 'cat /w/f; id -u; echo made >/w/made'
      - stat -c 'owner %u:%g' made
      - docker run -d -p 8080:80 bb sh -c 'while :; do echo published | nc -l -p 80; done'
      - |
        ask() { until nc -w 5 "$@" </dev/null | grep .; do sleep 0.1; done; }
        ask 127.0.0.1 8080; echo and; ask asker 9000
      - |
        mkdir image; printf 'FROM bb\\nCOPY f /\\nRUN echo of >>/f; ip -o link | grep -c eth0\\n' >image/Dockerfile
        cp f image/; docker build -q -t built image; docker run --rm built cat /f
      - |
        cat >compose.yaml <<END
        services:
          db: {image: built, command: [sh, -c, "while :; do echo db answers | nc -l -p 5432; done"]}
          app: {image: bb, command: [sh, -c, "until nc -w 5 db 5432 </dev/null | grep .; do :; done"], depends_on: [db]}
        END
        docker compose run --rm -T app; docker compose down -t 0
      - |
        docker run --rm -v /var/run/docker.sock:/var/run/docker.sock -v /usr:/usr -v /lib:/lib -v /lib64:/lib64 \
          bb /usr/bin/docker ps --format "seen by {{.Names}}"
"""


def test_dockers_clients_work_in_a_job(shop: JobShop) -> None:
    outcome = shop.run(_EVERYDAY)
    said = shop.last.said
    assert outcome.state == "succeeded", said
    assert "seen\n0\nowner 0:0\n" in said
    assert "published\nand\npublished\n" in said
    assert "seen\nof\n" in said
    assert "db answers\n" in said
    assert "seen by " in said
    assert shop.last.steps["engine"][0] == "done"
    assert outcome.outputs is not None  # what its container wrote is the job's
    assert shop.left() == []


_REFUSED = """
jobs:
  test:
    image: "docker:1"
    engine: true
    user: "1000"
    limits: {memory: 500m, pids: 200}
    run:
      - docker import /busybox.tar bb; echo mine >/tmp/kept; ln -s / all; ln -s /proc/1/root first
      - |
        try() { echo "== $*"; timeout 60 docker run --rm "$@" 2>&1 || true; }
        try -v /work/all/tmp:/t bb cat /t/kept
        try -v /work/../../../../tmp:/t bb cat /t/kept
        try -v /work/first:/t bb ls /t
        try -v FOLDER:/t bb ls -A /t
        try bb nc -w 1 ADDRESS PORT
        while :; do echo of the job | nc -l -p PORT; done &
        try --add-host gateway:host-gateway bb sh -c "until nc -w 5 gateway PORT | grep .; do sleep 0.1; done"
        try --privileged bb true
        try --cap-add NET_ADMIN bb true
        try --security-opt seccomp=unconfined bb true
        try --security-opt systempaths=unconfined bb true
        try --device /dev/net/tun bb true
        try --pid host bb true
        try --network host bb true
        docker run -d --name one bb sleep 1000
        echo "== exec"; docker exec --privileged one true 2>&1 || true
        echo "== ps"; docker ps --format '{{.Names}}'
        echo "== memory"; docker run --rm bb tail /dev/zero || echo "ended with $?"
        echo "== processes"; docker run --rm bb sh -c 'for i in $(seq 300); do sleep 9 & done; wait' 2>&1 | tail -1
        echo "== after"; docker run --rm bb echo goes on
"""


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    """Somebody listens on the host, at an address that others could reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect(("192.0.2.1", 9))
        address = way.getsockname()[0]
    with socket.create_server(("0.0.0.0", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"the host answers\n")

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        with socket.create_connection((address, port)) as client:
            assert client.recv(100) == b"the host answers\n"
        yield address, port
        server.shutdown(socket.SHUT_RDWR)


def test_its_containers_get_no_more_than_the_job_and_nothing_of_the_host(
    shop: JobShop, tmp_path: Path, listener: tuple[str, int]
) -> None:
    (tmp_path / "hosts").write_text("the host's")
    words = {"FOLDER": str(tmp_path), "ADDRESS": listener[0], "PORT": str(listener[1])}
    outcome = shop.run(re.sub("|".join(words), lambda word: words[word[0]], _REFUSED))
    said = shop.last.said
    assert outcome.state == "succeeded", said
    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    assert [text for name, text in parts.items() if "kept" in name] == ["mine\n", "mine\n"]
    assert "Permission denied" in parts["-v /work/first:/t bb ls /t"]
    assert parts[f"-v {tmp_path}:/t bb ls -A /t"] == ""  # docker makes what is missing: in the job
    assert "the host answers" not in said
    assert next(text for line, text in parts.items() if "host-gateway" in line) == "of the job\n"
    for name in ("--privileged", "--cap-add NET_ADMIN", "--security-opt seccomp"):
        text = next(text for line, text in parts.items() if line.startswith(name))
        assert f"{name} is refused: a job's engine gives no more of the kernel" in text, (name, text)
    assert "MaskedPaths and ReadonlyPaths cannot be empty" in parts["--security-opt systempaths=unconfined bb true"]
    assert "devices of the host" in parts["--device /dev/net/tun bb true"]
    assert "sees no process of the host's" in parts["--pid host bb true"]
    assert "is for the host's root" in parts["--network host bb true"]
    assert "exec --privileged is refused" in parts["exec"]
    assert parts["ps"] == "one\n"
    assert parts["memory"] == "ended with 137\n"
    assert "can't fork" in parts["processes"]
    assert parts["after"] == "goes on\n"
    assert (tmp_path / "hosts").read_text() == "the host's"
    assert os.listdir(tmp_path) == ["hosts"]


_PULLED = """
jobs:
  test:
    image: "docker:1"
    engine: true
    run: |
      docker run --rm HOST/private/bb:1 echo ran
      printf 'FROM HOST/private/bb:1\\nRUN echo built >&2\\n' >Dockerfile; DOCKER_BUILDKIT=0 docker build -q -t built .
      docker tag built HOST/private/other:1; docker push -q HOST/private/other:1 2>&1 || true
      env; find / -xdev -name config.json 2>/dev/null
"""


@pytest.fixture(scope="module")
def registry(shop: JobShop, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[str]:
    """A registry that shows ``private/bb:1`` to alice alone."""
    directory = tmp_path_factory.mktemp("registry")
    (directory / "htpasswd").write_text(run_tool("htpasswd", "-Bbn", "alice", "s3cret"))
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}}
    with debian_registry(directory, auth) as made:
        name = f"{made.host}/private/bb:1"
        shop.bring_service(name)
        with client(Credentials("alice", "s3cret")) as alice:
            push(Reference.parse(name), shop.store, client=alice)
        yield made.host


def client(credentials: Credentials | None) -> Client:
    return Client(ClientConfig(docker_config=Path("/nowhere")), credentials=lambda _: credentials)


def test_images_come_by_the_rights_of_the_run_whose_log_ins_never_reach_the_job(shop: JobShop, registry: str) -> None:
    text = _PULLED.replace("HOST", registry)
    outcome = shop.run(text, connect=lambda: client(Credentials("alice", "s3cret")))
    said = shop.last.said
    assert outcome.state == "succeeded", said
    assert "ran\n" in said
    assert "to push, log in: docker login" in said
    assert "s3cret" not in said
    assert shop.run(text, connect=lambda: client(None)).state == "failed"  # as a fork's
    assert "ran\n" not in shop.last.said
    assert "401 Unauthorized" in shop.last.said


def test_two_jobs_have_two_engines(shop: JobShop) -> None:
    """A name, a port and a network of the same kind in each, at the same time; neither sees the other's."""
    text = """
jobs:
  test:
    image: "docker:1"
    engine: true
    run: |
      docker import /busybox.tar bb >/dev/null
      docker run -d --name same -p 8080:80 bb sh -c "while :; do echo of WHO | nc -l -p 80; done" >/dev/null
      docker ps --format '{{.Names}} runs'; until nc -w 5 127.0.0.1 8080 </dev/null | grep .; do sleep 0.1; done
"""
    both = {"first": Seen(), "second": Seen()}
    threads = [
        threading.Thread(target=shop.attempt, args=(text.replace("WHO", who), seen), kwargs={"files": {}})
        for who, seen in both.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(stretched(60))
    for who, seen in both.items():
        assert seen.said == f"same runs\nof {who}\n"


@pytest.mark.parametrize("fails", [False, True])
def test_a_jobs_files_are_its_engines_until_that_has_ended(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Its containers may write to the job's workspace to the last: what is taken of it is taken after them."""
    done: list[str] = []

    @contextlib.contextmanager
    def started(*_: object, **__: object) -> Iterator[tuple[None, dict[int, int]]]:
        yield None, {}
        done.append("the job")

    class Engine:
        def begin(self, *_: object) -> None:
            if fails:
                raise ContainerError("no engine")

        def wait(self) -> None:
            done.append("its engine")

    monkeypatch.setattr(commands, "started_container", started)
    monkeypatch.setattr(commands, "follow", lambda *_, **__: "ended")
    anything: Any = SimpleNamespace(group=None, launcher=SimpleNamespace(start=None))
    engine: Any = Engine()
    with pytest.raises(ContainerError) if fails else contextlib.nullcontext():
        commands._followed(anything, engine, anything, anything, anything, lambda _: False, {})
    assert done[-1] == "its engine"


_KILLED = """
import sys
from pathlib import Path
from tests.ci.execution import jobshop

shop = jobshop.JobShop(Path(sys.argv[1]), Path(sys.argv[2]), "docker:1")
jobshop.Seen.emit = lambda self, event: print(shop.launcher.pid, event, flush=True)
print(shop.run(sys.argv[3]), flush=True)
"""
_RUNS = """
jobs:
  a:
    image: "docker:1"
    engine: true
    run: ["docker import /busybox.tar bb; docker run -d -p 80:80 bb sleep 1000; echo begun; sleep 1000"]
"""


@pytest.mark.parametrize("whom", ["worker", "launcher", "engine"])
def test_whatever_is_killed_nothing_of_it_is_left(
    privileged: None, tmp_path: Path, busybox_tar: Path, whom: str
) -> None:
    tar = docker_tar(busybox_tar, tmp_path / "docker.tar", plugins=False)
    command: list[str | Path] = [sys.executable, "-c", _KILLED, tmp_path / "root", tar, _RUNS]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout is not None
        launcher = next(int(line.split()[0]) for line in process.stdout if "begun" in line and "data=" in line)
        traces = Traces.of(launcher)
        found = {pid: _command(pid) for pid in descendants(launcher)}
        victims = {
            "worker": [process.pid],
            "launcher": [launcher],
            "engine": [pid for pid, text in found.items() if "dockerapi.private" in text],
        }[whom]
        assert victims, found
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not traces.left(), why="all of it is gone", timeout_s=_LEFT_S)
        said = process.stdout.read()
        process.wait(stretched(30))
    if whom == "engine":
        assert "the job's engine ended" in said
        assert "before the job did" in said


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
