"""docker.sock bound into a container, as testcontainers, Portainer and traefik want it: it is its caller's engine."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

PYTHON = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")
"""The host's Python in a container of busybox."""

ASK = """
import http.client, json, socket, sys
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
def ask(method, path):
    engine = Engine("docker")
    engine.request(method, path)
    answer = engine.getresponse()
    return answer.status, answer.read()
"""

# What Portainer's list of an environment asks for.
LISTING = (
    ASK
    + """
for path in ("/_ping", "/info", "/version", "/containers/json?all=1&size=1", "/images/json", "/volumes", "/networks",
             "/system/df", "/plugins", "/events?since=0&until=1"):
    status, data = ask("GET", path)
    assert status == 200, (path, status, data)
print(json.dumps([each["Names"] for each in json.loads(ask("GET", "/containers/json")[1])]))
"""
)

# testcontainers' ryuk, as its protocol is: a line of filters gets ACK; what fits goes when nobody is connected.
REAPER = (
    ASK
    + """
import time, urllib.parse
server = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
client, _ = server.accept()
wanted = []
for line in client.makefile("r"):
    wanted.append(line.strip().partition("=")[2])
    client.sendall(b"ACK\\n")
for attempt in range(200):
    try:
        filters = urllib.parse.quote(json.dumps({"label": wanted}))
        for each in json.loads(ask("GET", "/containers/json?all=1&filters=" + filters)[1]):
            assert ask("DELETE", "/containers/" + each["Id"] + "?force=1&v=1")[0] in (204, 404, 409)
        for kind, key in (("networks", None), ("volumes", "Volumes")):
            found = json.loads(ask("GET", "/" + kind + "?filters=" + filters)[1])
            for each in found[key] if key else found:
                assert ask("DELETE", "/" + kind + "/" + each.get("Id", each["Name"]))[0] in (204, 404, 409)
        break
    except OSError:
        time.sleep(0.1)
print("reaped", flush=True)
"""
)

# What traefik does: it lists, follows events, and looks at what has started.
WATCHING = (
    ASK
    + """
import urllib.parse
engine = Engine("docker")
engine.request("GET", "/v1.24/events?filters=" + urllib.parse.quote(json.dumps({"type": {"container": True}})))
events = engine.getresponse()
print("following", flush=True)
for line in events:
    event = json.loads(line)
    if event["status"] == "start":
        found = json.loads(ask("GET", "/v1.24/containers/" + event["id"] + "/json")[1])
        print(found["Name"], found["Config"]["Labels"].get("traefik.enable"), flush=True)
"""
)


@pytest.fixture
def run(api: Api) -> Iterator[Callable[..., None]]:
    """Starts a container with the socket that runs Python; all are removed afterwards, by a living API."""
    if api.process is None:
        api.start()
    names: list[str] = []

    def start(name: str, script: str, *options: str) -> None:
        names.append(name)
        words = ("-v", f"{api.socket}:/var/run/docker.sock", *PYTHON, *options, BUSYBOX_NAME)
        api.docker("run", "-d", "--name", name, *words, "/usr/bin/python3", "-c", script, check=True)

    yield start
    if api.process is None:
        api.start()
    for name in names:
        api.docker("rm", "-f", name)


def _logs(api: Api, name: str) -> str:
    ran = api.docker("logs", name)
    return ran.stdout + ran.stderr


def test_a_container_lists_what_its_caller_has(api: Api, run: Callable[..., None]) -> None:
    run("lister", LISTING)
    assert api.docker("wait", "lister").stdout == "0\n", _logs(api, "lister")
    assert json.loads(_logs(api, "lister")) == [["/lister"]]
    shown = json.loads(api.docker("inspect", "-f", "{{json .Mounts}}", "lister").stdout)
    assert {"Type": "bind", "Source": str(api.socket)}.items() <= shown[-1].items() | shown[0].items()


def test_others_in_the_container_may_not(api: Api, run: Callable[..., None]) -> None:
    run("other", ASK + "ask('GET', '/info')", "-u", "1234:1234")
    assert api.docker("wait", "other").stdout == "1\n"
    assert "PermissionError" in _logs(api, "other")


def test_a_reaper_works_again_after_the_api_was_away(api: Api, run: Callable[..., None]) -> None:
    run("reaper", REAPER, "-p", "127.0.0.1::8080")
    port = int(api.docker("port", "reaper", "8080/tcp").stdout.rpartition(":")[2])
    api.docker("run", "-d", "--name", "doomed", "-l", "session=1", BUSYBOX_NAME, "sleep", "1000", check=True)
    api.docker("run", "-d", "--name", "spared", "-l", "session=2", BUSYBOX_NAME, "sleep", "1000", check=True)
    api.docker("volume", "create", "--label", "session=1", "doomed", check=True)
    api.docker("network", "create", "--label", "session=1", "doomed", check=True)
    eventually(lambda: "ready" in _logs(api, "reaper"))
    with socket.create_connection(("127.0.0.1", port), stretched(60)) as client, client.makefile("rb") as answers:
        client.sendall(b"label=session=1\n")
        assert answers.readline() == b"ACK\n"
        api.kill()
    time.sleep(0.3)
    api.start()
    eventually(lambda: "reaped" in _logs(api, "reaper"), why=_logs(api, "reaper"))
    names = api.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()
    assert "spared" in names
    assert "doomed" not in names
    assert "doomed" not in api.docker("network", "ls").stdout + api.docker("volume", "ls").stdout
    api.docker("rm", "-f", "spared")


def test_a_router_follows_events(api: Api, run: Callable[..., None]) -> None:
    run("router", WATCHING)
    eventually(lambda: "following" in _logs(api, "router"))
    words = ("--rm", "-l", "traefik.enable=true", "--network", "none", BUSYBOX_NAME, "sleep", "1000")
    api.docker("run", "-d", "--name", "shop", *words, check=True)
    eventually(lambda: "/shop true" in _logs(api, "router"))
    api.docker("rm", "-f", "shop")


def test_streams_end_with_who_has_them(api: Api, run: Callable[..., None]) -> None:
    script = (
        ASK
        + """
sock = socket.socket(socket.AF_UNIX)
sock.connect("/var/run/docker.sock")
sock.sendall(b"POST /containers/pipe/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: tcp\\r\\n"
             b"Connection: Upgrade\\r\\n\\r\\n")
import threading
def send():
    sock.sendall(b"x" * 3000000)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
file = sock.makefile("rb")
while file.readline().strip():
    pass
size = 0
while head := file.read(8):
    size += len(file.read(int.from_bytes(head[4:], "big")))
print(size)
"""
    )
    api.docker("create", "-i", "--rm", "--name", "pipe", "--network", "none", BUSYBOX_NAME, "cat", check=True)
    api.docker("start", "pipe", check=True)
    run("client", script)
    assert api.docker("wait", "client").stdout == "0\n", _logs(api, "client")
    assert _logs(api, "client") == "3000000\n"
    assert re.search(r"\bpipe\b", api.docker("ps", "--format", "{{.Names}}").stdout) is None


def test_a_path_that_is_no_socket_is_an_ordinary_bind(api: Api, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("plain") / "docker.sock"
    place.write_text("a file")
    ran = api.docker("run", "--rm", "-v", f"{place}:/x", BUSYBOX_NAME, "cat", "/x")
    assert ran.stdout == "a file", ran.stderr
