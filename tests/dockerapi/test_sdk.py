"""docker's SDK for Python, and testcontainers, against our API: what programs of users do with them."""

from __future__ import annotations

import io
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture(params=["1.24", "1.41", "1.43", "1.44", "1.52"])
def client(api: Api, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The SDK, speaking one version of the API."""
    found = docker.DockerClient(f"unix://{api.socket}", version=request.param, timeout=stretched(60))
    yield found
    for container in found.containers.list(all=True, filters={"label": "of=sdk"}):
        container.remove(force=True, v=True)
    found.close()


def _run(client: Any, *command: str, **options: Any) -> Any:
    return client.containers.run(BUSYBOX_NAME, list(command), labels={"of": "sdk"}, **options)


def _tar(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_a_container_in_the_foreground(client: Any) -> None:
    assert _run(client, "echo", "hello") == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        _run(client, "sh", "-c", "echo wrong >&2; exit 4")
    assert (caught.value.exit_status, caught.value.stderr) == (4, b"wrong\n")


def test_a_life(client: Any) -> None:
    container = _run(client, "sh", "-c", "trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done", detach=True)
    eventually(lambda: container.logs() == b"begun\n")
    container.reload()
    assert (container.status, container.attrs["Config"]["Labels"]) == ("running", {"of": "sdk"})
    assert container.exec_run(["sh", "-c", "echo in; exit 3"]) == (3, b"in\n")
    assert container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True) == (0, (b"out\n", b"err\n"))
    assert container.top()["Titles"][1] == "PID"
    assert container.stats(stream=False)["id"] == container.id
    container.pause()
    container.unpause()
    container.stop(timeout=int(stretched(50)))
    assert container.wait()["StatusCode"] == 7
    container.start()
    container.restart(timeout=0)
    container.rename(f"renamed-{container.short_id}")
    container.kill()
    container.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(container.id)


def test_files(client: Any) -> None:
    container = _run(client, "sleep", "1000", detach=True)
    assert container.put_archive("/tmp", _tar("put", b"text"))
    pieces, told = container.get_archive("/tmp/put")
    assert (told["name"], told["size"]) == ("put", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile("put")
        assert file is not None
        assert file.read() == b"text"
    assert {"Path": "/tmp/put", "Kind": 1} in container.diff()
    assert b"".join(container.export()).count(b"busybox")
    image = container.commit("sdk-made", "x", message="of a test")
    assert client.images.get("sdk-made:x").id == image.id
    client.images.remove("sdk-made:x")


def test_images(client: Any) -> None:
    image = client.images.get(BUSYBOX_NAME)
    assert image.tag("sdk-tagged", "y")
    image.reload()
    saved = b"".join(image.save(named="sdk-tagged:y"))
    client.images.remove("sdk-tagged:y")
    assert ["sdk-tagged:y" in each.tags for each in client.images.load(saved)] == [True]
    client.images.remove("sdk-tagged:y")
    assert image.history()
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nothing-like-this")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("nothing-like-this")


def test_a_prune_takes_the_images_of_a_label_and_tells_which(api: Api) -> None:
    client = docker.DockerClient(f"unix://{api.socket}", timeout=stretched(60))
    for label in ("a", "b"):
        client.api.import_image_from_data(_tar("put", b"text"), changes=[f"LABEL prune={label}"])
    wanted = {"dangling": True, "label": ["prune"], "label!": ["prune=b"]}
    gone = client.images.prune(filters=wanted)["ImagesDeleted"]
    assert [list(each) for each in gone] == [["Deleted"]]
    (left,) = client.images.list(filters={"label": "prune"})
    assert left.labels["prune"] == "b"
    client.images.remove(left.id)
    client.close()


def test_networks_and_volumes(client: Any) -> None:
    network = client.networks.create("sdk-net")
    volume = client.volumes.create("sdk-volume", labels={"a": "b"})
    try:
        container = _run(
            client, "sleep", "1000", detach=True, network="sdk-net", volumes={"sdk-volume": {"bind": "/v"}}
        )
        assert _run(client, "ping", "-c1", "-W5", container.name, network="sdk-net", remove=True)
        network.reload()
        assert [each.id for each in network.containers] == [container.id]
        with pytest.raises(docker.errors.APIError) as caught:
            network.remove()
        assert caught.value.status_code in (403, 409)
        network.disconnect(container)
        network.connect(container, aliases=["other"])
        assert volume.attrs["Labels"] == {"a": "b"}
        container.remove(force=True)
    finally:
        network.remove()
        volume.remove()


def test_events(client: Any) -> None:
    found: list[dict[str, Any]] = []
    events = client.events(decode=True, filters={"label": "of=sdk", "event": "die"})
    thread = threading.Thread(target=lambda: found.extend([next(events)]))
    thread.start()
    _run(client, "true")
    thread.join(stretched(60))
    events.close()
    assert (found[0]["Type"], found[0]["Action"]) == ("container", "die")
    assert ("status" in found[0]) == (client.api._version != "1.52")


def test_the_engine(client: Any) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.52"
    assert client.info()["OSType"] == "linux"
    if client.api._version != "1.24":
        assert "Images" in client.df()
        assert client.plugins.list() == []
    with pytest.raises(docker.errors.APIError) as caught:
        client.swarm.reload()
    assert caught.value.status_code == 503


def test_testcontainers_find_what_they_started_and_leave_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**api.environment, "TESTCONTAINERS_RYUK_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    serve = "echo pong >/index.html; echo ready; exec httpd -f -p 80 -h /"
    with Network() as network:
        web = DockerContainer(BUSYBOX_NAME).with_command(["sh", "-c", serve]).with_exposed_ports(80)
        web.with_network(network).with_network_aliases("web").waiting_for(LogMessageWaitStrategy("ready"))
        with web:
            eventually(lambda: web.exec(["wget", "-qO-", "http://web/"]).output == b"pong\n")
            place = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/"
            with urllib.request.urlopen(place, timeout=stretched(60)) as answer:
                assert answer.read() == b"pong\n"
    assert api.docker("ps", "-aq", "--filter", "label=org.testcontainers").stdout == ""
    assert api.docker("network", "ls", "-q", "--filter", f"id={network.id}").stdout == ""


def test_a_version_that_is_too_new(api: Api) -> None:
    client = docker.DockerClient(f"unix://{api.socket}", version="1.99")
    with pytest.raises(docker.errors.APIError, match="is too new") as caught:
        client.containers.list()
    assert caught.value.status_code == 400
    client.close()
