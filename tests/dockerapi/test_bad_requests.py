"""Requests that no client of docker's sends: they get an answer, and the next one does, too."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import socket
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest

from dockerapi.endpoints import builds
from dockerapi.errors import ApiError
from dockerapi.terminal import Lines
from engine.places import Places
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

NAME = "mistreated"


@pytest.fixture(scope="module")
def mistreated(api: Api) -> Iterator[Api]:
    api.docker("run", "-d", "--name", NAME, BUSYBOX_NAME, "sleep", "1000", check=True)
    yield api
    api.docker("rm", "-f", NAME)


def ask(api: Api, request: bytes, *, ends: bool = True) -> bytes:
    """What comes back, to the end."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(60))
        client.connect(str(api.socket))
        client.sendall(request)
        if ends:
            client.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):  # once all came, for a body that nobody wanted
            while piece := client.recv(1 << 16):
                found += piece
    return found


def status(answer: bytes) -> int:
    return int(answer.split(None, 2)[1])


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[1]",
    "a text": b'"x"',
    "deep": b"[" * 100_000,
    "no UTF-8": b'{"Image": "\xff"}',
    "NUL": b'{"Image": "\\u0000", "Name": "\\u0000", "Container": "\\u0000", "Cmd": ["\\u0000"]}',
    "surrogate": b'{"Image": "\\ud800", "Name": "\\ud800", "Container": "\\ud800", "Cmd": ["\\ud800"]}',
    "numbers": b'{"Image": 1, "Cmd": 2, "Name": 3, "Container": -4, "Labels": 5, "HostConfig": 6, "Tty": 7}',
    "lists": b'{"Image": [], "Cmd": [[]], "Name": [], "Container": [], "Labels": [], "HostConfig": [], "Detach": []}',
    "huge number": b'{"Image": "busybox", "Memory": 1e400, "StopTimeout": 99999999999999999999, "Cmd": ["x"]}',
}
PATHS = (
    "/containers/create", f"/containers/{NAME}/update", f"/containers/{NAME}/exec", "/exec/x/start", "/commit",
    "/networks/create", "/networks/bridge/connect", "/volumes/create", "/auth",
)  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_bodies(mistreated: Api, body: bytes) -> None:
    for path in PATHS:
        answer = ask(mistreated, post(path, body))
        unreachable = (500,) if path == "/auth" else ()  # there may be no network
        assert status(answer) in (200, 201, 400, 401, 404, 409, *unreachable), (path, answer, mistreated.log()[-3000:])
        if status(answer) >= 400:
            assert "message" in json.loads(answer.partition(b"\r\n\r\n")[2])
    for network in ("", "mistreated"):
        mistreated.docker("network", "rm", network)
    mistreated.docker("volume", "prune", "-f")


@pytest.mark.parametrize("networking", [b"1", b"[1]", b'{"EndpointsConfig": 1}', b'{"EndpointsConfig": [1, 2]}'])
@pytest.mark.parametrize("version", ["1.41", "1.45"])
def test_networks_of_a_wrong_type_are_the_senders_fault(mistreated: Api, version: str, networking: bytes) -> None:
    body = b'{"Image": "%b", "NetworkingConfig": %b}' % (BUSYBOX_NAME.encode(), networking)
    assert status(ask(mistreated, post(f"/v{version}/containers/create", body))) == 400


def test_an_exec_that_no_system_call_would_take_is_refused(mistreated: Api) -> None:
    body = json.dumps({"Cmd": ["true"], "Env": ["x=" + "y" * (3 << 20)]}).encode()
    answer = ask(mistreated, post(f"/containers/{NAME}/exec", body))
    assert status(answer) == 400
    assert b"no system call takes that" in answer


_IMPORT = "/images/create?fromSrc=-&repo=x"


def test_bodies_of_builds_and_images(mistreated: Api) -> None:
    for body in (*BODIES.values(), os.urandom(5000), b"\x1f\x8b\x08" + b"\0" * 50, b"BZh9" + b"\xff" * 50):
        for path in ("/build?t=x", "/images/load", _IMPORT, "/build/prune", "/session", "/grpc"):
            answer = ask(mistreated, post(path, body, "application/x-tar"))
            told = b'"errorDetail"' in answer or path in ("/build/prune", _IMPORT)
            assert status(answer) in (400, 500) or (status(answer) == 200 and told), (path, body[:20], answer)


@pytest.mark.parametrize("path", ["/build", "/images/load"])
def test_a_tar_that_never_ends_takes_nothing_once_its_client_is_gone(mistreated: Api, path: str) -> None:
    endless = tarfile.TarInfo("endless")
    endless.size = 1 << 40
    piece = b"100000\r\n" + os.urandom(1 << 20) + b"\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = _worker(mistreated)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(60))
        client.connect(str(mistreated.socket))
        client.sendall(head.encode() + b"200\r\n" + endless.tobuf(tarfile.GNU_FORMAT) + b"\r\n")
        for _ in range(40):
            client.sendall(piece)
        assert _worker(mistreated)[0] - before[0] < 20 << 20
    eventually(lambda: _worker(mistreated)[1] <= before[1])
    assert not list(mistreated.shiplap.root.rglob("*endless*"))


def _worker(api: Api) -> tuple[int, int]:
    """Of the process that serves: memory in bytes, and files below the root that it has open."""
    assert api.process is not None
    (pid,) = Path(f"/proc/{api.process.pid}/task/{api.process.pid}/children").read_text().split()
    status_of = Path(f"/proc/{pid}/status").read_text()
    files = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            files += os.readlink(link).startswith(str(api.shiplap.root))
    return int(status_of.partition("RssAnon:")[2].split()[0]) << 10, files


def test_a_build_context_has_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builds, "_MOST_CONTEXT", 1000)
    app = flask.Flask(__name__)
    with app.test_request_context("/build", method="POST", data=b"x" * 1001), pytest.raises(ApiError) as refused:
        builds._spooled(tmp_path)
    assert refused.value.status == 413
    assert list(tmp_path.iterdir()) == []


def test_execs_take_a_bounded_part_of_the_hosts_memory(mistreated: Api) -> None:
    body = json.dumps({"Cmd": ["true"], "Env": ["x=" + "y" * (1900 << 10)]}).encode()
    for _ in range(20):
        assert status(ask(mistreated, post(f"/containers/{NAME}/exec", body))) == 201
    folder = Places.of(mistreated.shiplap.root).run / "execs"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20 << 20


def test_a_body_that_is_too_large_is_not_read(mistreated: Api) -> None:
    head = b"POST /containers/create HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    assert status(ask(mistreated, head)) == 400


HEADS = (
    b"GET /containers/json?limit=x HTTP/1.0\r\n\r\n", b"GET /containers/json?filters=x HTTP/1.0\r\n\r\n",
    b"GET /containers/json?filters=%7B%22status%22%3A1%7D HTTP/1.0\r\n\r\n",
    b"GET /v1.23/info HTTP/1.0\r\n\r\n",
    b"GET /v9/info HTTP/1.0\r\n\r\n", b"GET /v1.2.3/info HTTP/1.0\r\n\r\n", b"GET /v1.99999999/info HTTP/1.0\r\n\r\n",
    b"GET /images//json HTTP/1.0\r\n\r\n", b"GET /images/%00/json HTTP/1.0\r\n\r\n",
    b"GET /images/..%2f..%2fetc/json HTTP/1.0\r\n\r\n", b"GET /exec/..%2f..%2fspec.json/json HTTP/1.0\r\n\r\n",
    b"GET /volumes/..%2f..%2f HTTP/1.0\r\n\r\n", b"DELETE /volumes/..%2f.. HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/archive?path= HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/archive?path=%00 HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/archive?path=../../../../../../../etc/shadow HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/logs HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/logs?stdout=1&since=x HTTP/1.0\r\n\r\n",
    b"POST /containers/mistreated/resize?h=x&w=1 HTTP/1.0\r\n\r\n",
    b"POST /containers/mistreated/resize?h=-1&w=99999999 HTTP/1.0\r\n\r\n",
    b"POST /containers/mistreated/attach?stream=1&detachKeys=nonsense HTTP/1.0\r\n\r\n",
    b"POST /containers/mistreated/wait?condition=x HTTP/1.0\r\n\r\n",
    b"POST /containers/mistreated/kill?signal=x HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/top?ps_args=--nonsense HTTP/1.0\r\n\r\n",
    b"POST /images/create?fromImage=%2F%2F HTTP/1.0\r\n\r\n", b"POST /images/create HTTP/1.0\r\n\r\n",
    b"POST /images/create?fromSrc=http://127.0.0.1/ HTTP/1.0\r\n\r\n",
    b"POST /images/create?fromSrc=- HTTP/1.0\r\nContent-Length: 4\r\n\r\nnope",
    b"POST /images/load HTTP/1.0\r\nContent-Length: 4\r\n\r\nnope",
    b"PUT /containers/mistreated/archive?path=/ HTTP/1.0\r\nContent-Length: 4\r\n\r\nnope",
    b"POST /images/create?fromImage=x&platform=" + b'{"a":' * 1500 + b" HTTP/1.0\r\n\r\n",
    b"GET /distribution/x/json HTTP/1.0\r\nX-Registry-Auth: " + base64.b64encode(b"[" * 5000) + b"\r\n\r\n",
    b"GET /distribution/x/json HTTP/1.0\r\nX-Registry-Auth: bnVsbA==\r\n\r\n",
    b"POST /build HTTP/1.0\r\nX-Registry-Config: " + base64.b64encode(b'{"x": 1}') + b"\r\n\r\n",
    b"GET /containers/mistreated/logs?stdout=1&tail=" + b"9" * 5000 + b" HTTP/1.0\r\n\r\n",
    b"POST /containers/nobody/stop?t=" + b"9" * 5000 + b" HTTP/1.0\r\n\r\n",
    b"POST /containers/nobody/stop?t=1_0 HTTP/1.0\r\n\r\n",
    b"GET /nothing HTTP/1.0\r\n\r\n", b"PATCH /containers/json HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/json?platform=%7B HTTP/1.0\r\n\r\n",
    b"POST /build HTTP/1.0\r\n\r\n", b"POST /session HTTP/1.0\r\n\r\n", b"POST /grpc HTTP/1.0\r\n\r\n",
    b"GET /containers/mistreated/attach/ws HTTP/1.0\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_heads(mistreated: Api, head: bytes) -> None:
    answer = ask(mistreated, head)
    assert status(answer) in (200, 400, 404, 501), (answer, mistreated.log()[-3000:])
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "garbage",
    [
        os.urandom(4096),
        b"GET /" + b"a" * 100_000,
        b"\x16\x03\x01",
    ],
    ids=["noise", "a long line", "TLS"],
)
def test_what_is_no_http(mistreated: Api, garbage: bytes) -> None:
    try:
        answer = ask(mistreated, garbage)
        assert not answer or status(answer) >= 400
    except ConnectionError:
        pass
    assert mistreated.answers()


def test_an_upgrade_of_what_cannot_be_upgraded_is_an_answer(mistreated: Api) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    assert status(ask(mistreated, b"POST /containers/nobody/attach?stream=1 HTTP/1.1\r\nHost: x\r\n" + upgrade)) == 404
    exec_start = b"POST /exec/" + b"0" * 64 + b"/start HTTP/1.1\r\nHost: x\r\n" + upgrade
    assert status(ask(mistreated, exec_start)) == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", f"/containers/{NAME}/archive?path=/tmp"), ("POST", "/images/load"), ("POST", "/images/create?fromSrc=-")],
)
def test_a_tar_that_never_ends_leaves_nothing_of_itself(mistreated: Api, method: str, path: str) -> None:
    entry = tarfile.TarInfo("endless")
    entry.size = 1 << 40
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(60))
        client.connect(str(mistreated.socket))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n"
        client.sendall(head.encode() + entry.tobuf(tarfile.PAX_FORMAT)[-512:] + b"\r\n")
        with contextlib.suppress(BrokenPipeError):  # it may be refused by its head
            for _ in range(40):
                client.sendall(chunk)
            assert mistreated.answers()
            client.shutdown(socket.SHUT_WR)
        assert status(client.recv(1 << 16)) >= 400, mistreated.log()[-2000:]
    root = mistreated.shiplap.root
    eventually(lambda: not [path for path in root.rglob("*") if path.is_file() and path.stat().st_size > 30 << 20])
    assert mistreated.docker("exec", NAME, "ls", "/tmp").stdout == ""


def test_what_strangers_call_things_gives_no_orders_to_the_terminal_of_root() -> None:
    lines = Lines("engine: %(message)s")
    try:
        raise ValueError("no \x1b[2Jthing")
    except ValueError:
        named = "/images/\x1b]0;t\x07\nforged \udcff é"
        record = logging.LogRecord("x", logging.ERROR, "", 0, "%s failed", (named,), sys.exc_info())
    text = lines.format(record)
    assert text.startswith("engine: /images/\\x1b]0;t\\x07\\nforged \\udcff é failed\nTraceback")
    assert text.replace("\n", "").isprintable()


def test_a_page_of_another_site_changes_nothing(mistreated: Api) -> None:
    for site, wanted in (("cross-site", 403), ("same-site", 403), ("same-origin", 304), ("none", 304)):
        head = f"HTTP/1.0\r\nSec-Fetch-Site: {site}\r\nContent-Length: 0\r\n\r\n"
        assert status(ask(mistreated, f"POST /containers/{NAME}/start {head}".encode())) == wanted
        assert status(ask(mistreated, f"GET /_ping {head}".encode())) == 200
