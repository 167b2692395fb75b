"""Images and registries over the API: Debian's docker-registry is the other side, docker's command line the client."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry, debian_registry
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_pushed_removed_and_pulled_again(api: Api, registry: DebianRegistry) -> None:
    name = f"{registry.host}/team/app:1"
    api.docker("tag", BUSYBOX_NAME, name, check=True)
    identity = api.docker("images", "-q", "--no-trunc", name).stdout
    pushed = api.docker("push", name, check=True).stdout
    assert "Pushed" in pushed
    digest = pushed.rpartition("digest: ")[2].split()[0]
    api.docker("rmi", name, check=True)
    pulled = api.docker("pull", name, check=True).stdout
    assert f"Digest: {digest}\nStatus: " in pulled
    assert pulled.endswith(f"{name}\n")
    assert api.docker("images", "-q", "--no-trunc", name).stdout == identity
    assert digest in api.docker("inspect", "--type", "image", "-f", "{{json .RepoDigests}}", name).stdout
    assert api.docker("run", "--rm", name, "echo", "works").stdout == "works\n"
    assert api.docker("manifest", "inspect", "--insecure", name).returncode == 0
    happened = api.docker("events", "--since", "10m", "--until", "0s", "--filter", "type=image").stdout
    assert "image push" in happened
    api.docker("rmi", name, check=True)


def test_an_image_that_is_missing_is_pulled_by_run(api: Api, registry: DebianRegistry) -> None:
    name = f"{registry.host}/team/wanted:1"
    api.docker("tag", BUSYBOX_NAME, name, check=True)
    api.docker("push", "-q", name, check=True)
    api.docker("rmi", name, check=True)
    ran = api.docker("run", "--rm", name, "echo", "here")
    assert (ran.returncode, ran.stdout) == (0, "here\n"), ran.stderr
    assert "Pulling from team/wanted" in ran.stderr
    api.docker("rmi", name, check=True)


def test_one_client_has_several_engines_and_one_pulls_what_another_pushed(
    api: Api, registry: DebianRegistry, tmp_path: Path, short_path: Path
) -> None:
    other = Api(Shiplap(tmp_path / "root"), short_path)
    other.start()
    try:
        for context, engine in (("one", api), ("other", other)):
            api.docker("context", "create", context, "--docker", f"host=unix://{engine.socket}", check=True)
        chosen = {"DOCKER_HOST": ""}
        name = f"{registry.host}/team/several"
        for tag in ("1", "2"):
            api.docker("--context", "one", "tag", BUSYBOX_NAME, f"{name}:{tag}", env=chosen, check=True)
        api.docker("--context", "one", "push", "-q", "-a", name, env=chosen, check=True)
        assert api.docker("--context", "other", "images", "-q", env=chosen).stdout == ""
        api.docker("--context", "other", "pull", "-q", "-a", name, env=chosen, check=True)
        shown = api.docker("--context", "other", "images", "--format", "{{.Tag}}", name, env=chosen).stdout
        assert sorted(shown.split()) == ["1", "2"]
        ran = api.docker("--context", "other", "run", "--rm", f"{name}:2", "echo", "here", env=chosen)
        assert ran.stdout == "here\n", ran.stderr
        api.docker("--context", "one", "rmi", f"{name}:1", f"{name}:2", env=chosen, check=True)
    finally:
        other.stop()


def test_what_no_registry_has(api: Api, registry: DebianRegistry) -> None:
    for words in (("pull", f"{registry.host}/nothing:1"), ("run", "--rm", f"{registry.host}/nothing:1")):
        ran = api.docker(*words)
        assert ran.returncode in (1, 125)
        assert "Error response from daemon" in ran.stderr
    assert api.docker("pull", "127.0.0.1:1/nobody/listens:1").returncode == 1
    assert _get(api, f"/distribution/{registry.host}/nothing:1/json")[0] == 404


def test_what_a_registry_has_is_told(api: Api, registry: DebianRegistry) -> None:
    name = f"{registry.host}/team/told:1"
    api.docker("tag", BUSYBOX_NAME, name, check=True)
    api.docker("push", "-q", name, check=True)
    status, body = _get(api, f"/distribution/{name}/json")
    assert status == 200
    document = json.loads(body)
    assert document["Descriptor"]["digest"].startswith("sha256:")
    assert document["Descriptor"]["size"] > 100
    api.docker("rmi", name, check=True)


def test_credentials_are_the_clients_and_are_not_kept(api: Api, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(run_tool("htpasswd", "-Bbn", "ana", "passing"))
    with debian_registry(tmp_path, {"auth": {"htpasswd": {"realm": "x", "path": str(tmp_path / "users")}}}) as closed:
        name = f"{closed.host}/secret:1"
        api.docker("tag", BUSYBOX_NAME, name, check=True)
        assert api.docker("push", name).returncode == 1
        wrong = api.docker("login", "-u", "ana", "--password-stdin", closed.host, stdin=b"wrong")
        assert wrong.returncode == 1
        assert "401" in wrong.stderr or "unauthorized" in wrong.stderr.lower()
        told = api.docker("login", "-u", "ana", "--password-stdin", closed.host, stdin=b"passing", check=True)
        assert "Login Succeeded" in told.stdout
        api.docker("push", "-q", name, check=True)
        api.docker("logout", closed.host, check=True)
        api.docker("rmi", name, check=True)
        assert api.docker("pull", name).returncode == 1  # another request has no credentials
        given = base64.urlsafe_b64encode(json.dumps({"username": "ana", "password": "passing"}).encode()).decode()
        assert _get(api, f"/distribution/{name}/json", f"X-Registry-Auth: {given}\r\n")[0] == 200
        assert _get(api, f"/distribution/{name}/json")[0] == 401


def _get(api: Api, path: str, more: str = "") -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(60))
        client.connect(str(api.socket))
        client.sendall(f"GET {path} HTTP/1.0\r\n{more}\r\n".encode())
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
