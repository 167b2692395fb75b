"""Where the API listens: files of its own, and sockets that a service manager passes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import ShiplapError
from core.files import could_lock
from dockerapi import listening
from dockerapi.errors import AddressError
from dockerapi.tcp.terms import Terms
from engine.places import Places
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import COMMAND, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")


def test_the_socket_is_closed_to_others(api: Api) -> None:
    found = os.stat(api.socket)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) in (0o600, 0o660)
    assert found.st_uid == 0


def test_a_second_engine_at_the_same_place_is_refused(api: Api) -> None:
    ran = api.shiplap("engine", "--listen", f"unix://{api.socket}", check=False)
    assert ran.returncode == 1
    assert "an engine listens" in ran.stderr
    assert api.answers()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://127.0.0.1:0", "who connects is known by a certificate or by a token"),
        ("tcp://nonsense", "write HOST:PORT"),
        ("unix://here", "no absolute path"),
        ("/run/x.sock", "write unix:///PATH"),
        (f"unix:///{'x' * 200}", "too long"),
        ("unix:///proc/nothing/docker.sock", "cannot listen"),
        ("fd://", "no sockets came from systemd"),
    ],
)
def test_where_one_cannot_listen(shiplap_root: Path, address: str, told: str) -> None:
    ran = Shiplap(shiplap_root)("engine", "--listen", address, check=False)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert "hint" in ran.stderr or "cannot listen" in ran.stderr


def test_a_file_that_is_no_socket_is_left_alone(shiplap_root: Path, short_path: Path) -> None:
    (short_path / "file").write_text("mine")
    ran = Shiplap(shiplap_root)("engine", "--listen", f"unix://{short_path}/file", check=False)
    assert ran.returncode == 1
    assert "is no socket" in ran.stderr
    assert [each.name for each in short_path.iterdir()] == ["file"]
    assert (short_path / "file").read_text() == "mine"


def test_what_a_killed_engine_left_is_taken_over(privileged: None, shiplap_root: Path, short_path: Path) -> None:
    api = Api(Shiplap(shiplap_root), short_path)
    api.start()
    api.kill()
    assert api.socket.exists()
    api.start()
    api.stop()
    assert [each.name for each in short_path.iterdir() if "sock" in each.name] == []


def test_who_cannot_listen_everywhere_leaves_nothing(short_path: Path) -> None:
    places = Places(short_path / "root", short_path / "run")
    for others in (["nonsense"], ["tcp://127.0.0.1:0"], [f"unix://{short_path}/a"]):
        with pytest.raises(ShiplapError):
            listening.Listeners.open([f"unix://{short_path}/a", *others], places, Terms())
        assert list(short_path.iterdir()) == []


def test_who_cannot_bind_leaves_no_lock(short_path: Path) -> None:
    (short_path / "a.new").mkdir()
    with pytest.raises(AddressError, match="cannot listen"):
        listening.Listeners.open([f"unix://{short_path}/a"], Places(short_path, short_path), Terms())
    assert [each.name for each in short_path.iterdir()] == ["a.new"]


def test_a_lock_that_its_engine_removed_is_not_anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.lock"
    removed: list[Path] = []

    def late(fd: int, kind: int) -> bool:
        if not removed:
            removed.append(path)
            path.unlink()  # as an engine that ends
        return could_lock(fd, kind)

    monkeypatch.setattr(listening, "could_lock", late)
    mine = listening._locked(path)
    assert mine is not None
    assert listening._locked(path) is None
    os.close(mine)


def test_a_link_in_a_sockets_place_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grp.getgrnam", lambda _name: SimpleNamespace(gr_gid=54399))
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "x.sock.new").symlink_to("secret")
    with pytest.raises(AddressError, match="replaced"):
        listening._open_to_the_group(tmp_path / "x.sock.new")
    found = (tmp_path / "secret").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "y"))
        listening._open_to_the_group(tmp_path / "y")
    found = (tmp_path / "y").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (54399, 0o660)


_PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_a_passed_socket_is_served_and_stays_its_owners(shiplap_root: Path, short_path: Path) -> None:
    path = short_path / "passed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        fd = listener.fileno()
        engine = subprocess.Popen(
            [sys.executable, "-c", _PASS, str(fd), *COMMAND, "engine"],
            env=Shiplap(shiplap_root).environment(None),
            pass_fds=[fd],
            stderr=subprocess.PIPE,
        )
        with engine:
            assert b" 200 " in _ping(path)
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(stretched(60)) == 0
            assert engine.stderr is not None
            engine.stderr.read()
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it waits for the next engine


def _ping(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(stretched(60))
        client.connect(str(path))
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return client.recv(100)


def test_sigterm_ends_it_at_once_although_clients_wait(shiplap_root: Path, short_path: Path) -> None:
    api = Api(Shiplap(shiplap_root), short_path)
    api.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(api.socket))
        client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        process = api.process
        assert process is not None
        process.terminate()
        eventually(lambda: process.poll() is not None, timeout_s=20)
        assert process.returncode == 0
    api.process = None
    api.stop()
