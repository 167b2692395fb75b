"""The audit trail of the engine's API, and answers of the newest versions that no client of the tests asks for."""

from __future__ import annotations

import json
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import flask
import pytest

from dockerapi import audit, handover
from dockerapi.audit import Trail
from dockerapi.buildkit import messages
from dockerapi.buildkit.rpc import Code, RpcError
from tests.toolkit.buildkitclient import CONTROL, asking, call, connect
from tests.toolkit.engineapi import Api, UnixConnection
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")


def ask(api: Api, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """A request by hand; the status and the body."""
    client = UnixConnection(api.socket)
    data = None if body is None else json.dumps(body)
    client.request(method, path, data, {"Content-Type": "application/json"})
    answer = client.getresponse()
    found = answer.status, answer.read()
    client.close()
    return found


def _lines(api: Api) -> list[dict[str, object]]:
    path = api.shiplap.root / "audit" / "engine.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_who_asked_for_what_is_written_down_and_secrets_are_not(api: Api) -> None:
    words = ("--name", "audited", "-e", "PASSWORD=hidden", "--privileged", "-v", "/tmp:/t")
    api.docker("create", *words, BUSYBOX_NAME, "echo", "hidden", check=True)
    api.docker("rm", "nothing-like-this")
    api.docker("rm", "audited", check=True)
    api.docker("ps", check=True)
    found = _lines(api)[-3:]
    assert [(each["method"], each["status"], each["user"], each["uid"]) for each in found] == [
        ("POST", 201, "root", 0),
        ("DELETE", 404, "root", 0),
        ("DELETE", 204, "root", 0),
    ]
    assert found[0]["query"] == {"name": "audited"}
    wanted = {"image": BUSYBOX_NAME, "Privileged": True, "Binds": ["/tmp:/t"]}
    assert wanted.items() <= found[0]["container"].items()  # type: ignore[attr-defined]
    assert "hidden" not in json.dumps(found)


def test_a_create_of_nonsense_is_written_down_too(api: Api) -> None:
    hosts: tuple[object, ...] = (
        "x", 7, {"Binds": 1}, {"Binds": [None, {}]}, {"Mounts": [1, {"Type": []}]}, {"Privileged": "maybe"},
    )  # fmt: skip
    for host in hosts:
        assert ask(api, "POST", "/containers/create", {"Image": ["x"], "HostConfig": host})[0] == 400
    assert _lines(api)[-1]["status"] == 400


def test_a_line_names_who_asked_also_when_the_connection_was_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")
        listener.listen()
        os.seteuid(54321)
        try:
            client.connect(listener.getsockname())
        finally:
            os.seteuid(0)
        sock, _ = listener.accept()
        asked = flask.Flask("x").test_request_context("/exec/x/start", method="POST")
        with sock, asked, handover.serving(SimpleNamespace(sock=sock)), handover.replaced(sock):
            Trail(tmp_path).note(200, 0)
    assert json.loads((tmp_path / "audit" / "engine.jsonl").read_text())["uid"] == 54321


def test_a_url_is_written_down_without_its_password(api: Api) -> None:
    query = "remote=https%3A%2F%2Fana%3Ap%40ss%40h.example%2Fx.git%3Fsig%3Dx%23main%40x"
    assert ask(api, "POST", f"/build?{query}")[0] == 500  # nobody has that name
    assert _lines(api)[-1]["query"] == {"remote": "https://h.example/x.git?…#main@x"}


@pytest.mark.parametrize(("path", "lines"), [("/containers/x/attach/ws", 1), ("/containers/x/json", 0)])
def test_of_what_is_got_an_attach_is_written_down(tmp_path: Path, path: str, lines: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, flask.Flask("x").test_request_context(path), handover.serving(SimpleNamespace(sock=ours)):
        Trail(tmp_path).note(200, 0)
    assert len(list(tmp_path.glob("audit/*"))) == lines


def test_calls_of_buildkits_are_written_down_too(api: Api) -> None:
    exporter = {"Type": "image", "Attrs": {"name": "one,two"}}
    request = messages.SolveRequest(Ref="r", Frontend="gateway.v0", Exporters=[exporter])
    with asking(connect(api.socket)) as grpc:
        call(grpc, f"{CONTROL}Info", messages.Empty(), messages.InfoResponse)
        with pytest.raises(RpcError):
            call(grpc, f"{CONTROL}Solve", request, messages.SolveResponse)
    line = _lines(api)[-1]
    assert (line["path"], line["grpc"], line["uid"]) == (f"{CONTROL}Solve", Code.UNIMPLEMENTED, 0)
    assert line["images"] == ["one", "two"]


def test_files_of_the_trail_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MOST_BYTES", 100)
    trail = Trail(tmp_path)
    for number in range(40):
        trail._write(b"%060d\n" % number)
    files = {path.name: path.read_text().split() for path in (tmp_path / "audit").iterdir()}
    assert sorted(files) == ["engine.1.jsonl", "engine.2.jsonl", "engine.3.jsonl"]
    assert [int(line) for name in sorted(files, reverse=True) for line in files[name]] == list(range(34, 40))


def test_what_takes_the_disk_in_short(api: Api) -> None:
    names = {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}
    short = json.loads(ask(api, "GET", "/v1.52/system/df")[1])
    assert names | {"Images", "LayersSize"} <= short.keys()
    images = short["ImageUsage"]
    assert images["TotalCount"] == len(short["Images"])
    assert images["TotalSize"] == short["LayersSize"] > 0
    assert "Items" not in images
    long = json.loads(ask(api, "GET", "/v1.52/system/df?verbose=1&type=image")[1])
    assert long == {"ImageUsage": {**images, "Items": short["Images"]}}
    assert not names & json.loads(ask(api, "GET", "/v1.51/system/df?verbose=1")[1]).keys()


def test_details_of_logs_are_dockers_space(api: Api) -> None:
    api.docker("run", "--name", "told", "--network", "none", BUSYBOX_NAME, "echo", "line", check=True)
    assert api.docker("logs", "--details", "told").stdout == " line\n"
    assert api.docker("logs", "--details", "-t", "told").stdout.partition(" ")[2] == " line\n"
    api.docker("rm", "told", check=True)
    api.docker("run", "-d", "--name", "tells", "--network", "none", BUSYBOX_NAME, "sh", "-c", "sleep 1; echo line")
    assert api.docker("logs", "-f", "--details", "tells").stdout == " line\n"
    api.docker("rm", "tells", check=True)


def test_inspect_has_the_execs_that_run(api: Api) -> None:
    api.docker("run", "-d", "--name", "busy", "--network", "none", BUSYBOX_NAME, "sleep", "1000", check=True)
    assert api.docker("inspect", "-f", "{{json .ExecIDs}}", "busy").stdout == "null\n"
    api.docker("exec", "-d", "busy", "sleep", "1000", check=True)
    (identity,) = json.loads(api.docker("inspect", "-f", "{{json .ExecIDs}}", "busy").stdout)
    assert json.loads(ask(api, "GET", f"/exec/{identity}/json")[1])["Running"] is True
    made = json.loads(ask(api, "POST", "/containers/busy/exec", {"Cmd": ["sleep", "1000"]})[1])["Id"]
    with ThreadPoolExecutor(8) as several:
        started = list(several.map(lambda _: ask(api, "POST", f"/exec/{made}/start", {"Detach": True})[0], range(8)))
    assert sorted(started) == [200, *[409] * 7]  # it runs once, whoever asks at the same time
    api.docker("rm", "-f", "busy", check=True)
