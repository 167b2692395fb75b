"""The door for a service's pages: what it lets through, and for whom."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.engineapi import Api, UnixConnection
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def doors(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An engine with a door for pages of the user ``nobody``, and a container."""
    folder = Path(tempfile.mkdtemp(prefix="shiplap-", dir="/tmp"))  # a socket's path is short
    shiplap = Shiplap(tmp_path_factory.mktemp("narrow") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    api = Api(shiplap, folder)
    folder.chmod(0o755)
    api.start(options=["--pages", f"unix://{folder}/pages", "--pages-user", "nobody"])
    api.docker("run", "-d", "--name", "box", "--init", BUSYBOX_NAME, "sleep", "1000", check=True)
    try:
        yield api
    finally:
        api.stop()
        shutil.rmtree(folder)


def asked(api: Api, method: str, path: str, body: Any = None, door: str = "pages") -> tuple[int, Any]:
    """What the door answers, or another socket of the engine's."""
    connection = UnixConnection(api.folder / door)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    try:
        return answer.status, json.loads(text) if text else None
    except ValueError:
        return answer.status, text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/containers/create"), ("POST", "/build"), ("POST", "/images/create?fromImage=x"),
        ("PUT", "/containers/box/archive?path=/"), ("POST", "/containers/box/attach"),
        ("POST", "/containers/box/update"),
        ("POST", "/containers/box/rename?name=x"), ("POST", "/commit?container=box"), ("GET", "/images/json"),
        ("POST", "/networks/create"), ("POST", "/volumes/create"), ("DELETE", "/volumes/x"), ("DELETE", "/networks/x"),
        ("POST", "/session"), ("POST", "/grpc"), ("GET", "/containers/box/attach/ws"), ("POST", "/containers/prune"),
        ("DELETE", "/containers/box?force=1"), ("GET", "/v1.45/containers/box/export"),
        ("POST", "/v1.45/containers/create"),
        ("GET", "/containers/box/json/../export"), ("GET", "/containers/x%2F..%2Fbox%2Fexport"), ("POST", "/auth"),
    ],
)  # fmt: skip
def test_door_for_pages_lets_nothing_else_through(doors: Api, method: str, path: str) -> None:
    status, told = asked(doors, method, path, {} if method in ("POST", "PUT") else None)
    assert status == 403
    assert "this socket is for a service's pages" in told["message"]


def test_door_for_pages_lets_through_what_they_ask(doors: Api) -> None:
    assert [each["Names"] for each in asked(doors, "GET", "/containers/json?all=1")[1]] == [["/box"]]
    for path in (
        "/info",
        "/containers/box/json",
        "/v1.45/containers/box/stats?stream=false",
        "/containers/box/changes",
    ):
        assert asked(doors, "GET", path)[0] == 200
    made = {"Cmd": ["true"], "Privileged": True}
    assert asked(doors, "POST", "/containers/box/exec", made)[0] == 403
    others = asked(doors, "POST", "/containers/box/exec", made, doors.socket.name)[1]["Id"]
    assert asked(doors, "POST", f"/exec/{others}/start", {"Detach": True})[0] == 403, "nor one that somebody else made"
    assert asked(doors, "POST", "/containers/box/exec", {"Cmd": ["true"]})[0] == 201
    assert asked(doors, "POST", "/containers/box/restart?t=0")[0] == 204
    assert asked(doors, "DELETE", "/containers/box")[0] == 409, "it runs"


def test_door_for_pages_is_of_one_user(doors: Api) -> None:
    found = os.stat(doors.folder / "pages")
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, _NOBODY)
    for user, may in ((_NOBODY, True), (_NOBODY - 1, False)):
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                os.setgroups([])
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(user, user, user)
                code = 0 if asked(doors, "GET", "/containers/json")[0] == 200 else 1
            finally:
                os._exit(code)
        assert (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0) is may


@pytest.mark.parametrize(("pages", "user", "told"), [
    ("tcp://127.0.0.1:1", "nobody", "write unix:///PATH"), ("unix:///tmp/x", "no-such-user", "--pages-user"),
])  # fmt: skip
def test_door_for_pages_that_cannot_be(shiplap_root: Path, pages: str, user: str, told: str) -> None:
    ran = Shiplap(shiplap_root)("engine", "--pages", pages, "--pages-user", user, check=False)
    assert ran.returncode == 1
    assert told in ran.stderr
