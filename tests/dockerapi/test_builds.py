"""``docker build`` by the classic builder's endpoint."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tarfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.host import processes_with
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

_CLASSIC = {"DOCKER_BUILDKIT": "0"}
_DOCKERFILE = f"""
FROM {BUSYBOX_NAME} AS base
ARG WHO=nobody
RUN echo made for $WHO; echo $WHO >/who
FROM base
COPY file /file
RUN --network=none cat /file
LABEL in=file
CMD ["cat", "/who", "/file"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    (tmp_path / "file").write_text("of the context\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    return tmp_path


def _build(api: Api, context: Path, *words: str) -> tuple[int, str, str]:
    ran = api.docker("build", *words, context, env=_CLASSIC)
    return ran.returncode, ran.stdout, ran.stderr


def test_a_context_becomes_an_image(api: Api, context: Path) -> None:
    code, out, err = _build(api, context, "-t", "built:1", "--build-arg", "WHO=ana", "--label", "more=x")
    assert code == 0, err + api.log()
    assert "made for ana\n" in out
    assert "of the context\n" in out
    assert out.endswith("Successfully tagged built:1\n")
    assert api.docker("run", "--rm", "built:1").stdout == "ana\nof the context\n"
    labels = api.docker("inspect", "--type", "image", "-f", "{{json .Config.Labels}}", "built:1").stdout
    assert json.loads(labels) == {"in": "file", "more": "x"}
    again = _build(api, context, "-t", "built:2", "--build-arg", "WHO=ana", "--label", "more=x")
    assert "Using cache" in again[1]
    identities = {api.docker("images", "-q", "--no-trunc", name).stdout for name in ("built:1", "built:2")}
    assert len(identities) == 1
    quiet = _build(api, context, "-q", "--build-arg", "WHO=ana", "--label", "more=x")
    assert {quiet[1]} == identities


def test_a_target_and_a_dockerfile_of_another_name(api: Api, context: Path) -> None:
    os.rename(context / "Dockerfile", context / "Other")
    code, _, err = _build(api, context, "-f", str(context / "Other"), "--target", "base", "-t", "built:base")
    assert code == 0, err
    assert api.docker("run", "--rm", "built:base", "cat", "/who").stdout == "nobody\n"


def test_what_fails_is_told(api: Api, context: Path) -> None:
    for text, told in (
        (f"FROM {BUSYBOX_NAME}\nRUN echo before; exit 3\n", "3"),
        ("FRM x\n", "FRM"),
        (f"FROM {BUSYBOX_NAME}\nCOPY nothing /\n", "nothing"),
        ("", "empty"),
    ):
        (context / "Dockerfile").write_text(text)
        code, out, err = _build(api, context, "-t", "built:never")
        assert code == 1
        assert told in err, (out, err)
    assert api.docker("images", "-q", "built:never").stdout == ""


@pytest.mark.parametrize(
    "words", [["--squash"], ["-m", "50m"], ["--network", "host"], ["--ulimit", "nofile=5"], ["--cgroup-parent", "/x"]]
)
def test_what_is_not_done_is_refused_by_name(api: Api, context: Path, words: list[str]) -> None:
    code, _, err = _build(api, context, *words)
    assert code == 1
    assert "done" in err or "control groups" in err or "experimental" in err, err


def test_the_sdk_builds(api: Api, context: Path) -> None:
    client = docker.DockerClient(f"unix://{api.socket}", timeout=stretched(60))
    image, lines = client.images.build(path=str(context), tag="built:sdk", buildargs={"WHO": "sdk"}, rm=True)
    assert image.tags
    assert any("made for sdk" in line.get("stream", "") for line in lines)
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN false\n")
    with pytest.raises(docker.errors.BuildError):
        client.images.build(path=str(context))
    client.close()


def test_a_build_ends_with_its_client_although_its_step_is_silent(api: Api, context: Path) -> None:
    mark = f"{os.getpid()}{time.monotonic_ns()}"
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo begun; sleep 1000; : {mark}\n")
    environment = {**api.environment, **_CLASSIC}
    client = subprocess.Popen(["docker", "build", context], env=environment, stdout=subprocess.PIPE)
    with client:
        assert client.stdout is not None
        while client.stdout.readline() != b"begun\n":
            assert client.poll() is None, api.log()
        assert processes_with(mark)
        client.kill()
    eventually(lambda: not processes_with(mark))


def test_a_context_may_be_at_a_url_and_never_a_path_of_the_host(api: Api, context: Path) -> None:
    with tarfile.open(context / "context.tar", "w") as tar:
        for name in ("Dockerfile", "file"):
            tar.add(context / name, name)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(context))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        client = docker.APIClient(base_url=f"unix://{api.socket}", version="1.45", timeout=stretched(120))
        url = f"http://127.0.0.1:{server.server_port}/context.tar"
        lines = list(client.build(path=url, tag="built:far", decode=True))
        assert {"stream": "Successfully tagged built:far\n"} in lines, lines
        assert api.docker("run", "--rm", "built:far").stdout == "nobody\nof the context\n"
        for where in ("file:///etc", "/etc", "client-session"):
            answer = client._post(client._url("/build"), params={"remote": where})
            assert answer.status_code in (400, 501), (where, answer.text)
        client.close()
        server.shutdown()
