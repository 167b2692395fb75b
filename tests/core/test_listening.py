"""Where one cannot listen, and who is the reason."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.listening import Holder, ListenError, parse_listen, port_holder, require_free
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.shiplap import Shiplap


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that this process listens at."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    """A port that had a connection, and has none who listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            pass
    return port


def test_port_in_use_is_said_with_the_process_that_has_it(taken: int) -> None:
    holder = port_holder(taken)
    assert holder is not None
    assert holder.pid == os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"127\.0\.0\.1:{port}: the port is in use by .*\(process {os.getpid()}\)"
        ):
            require_free("127.0.0.1", port)


def test_free_port_and_any_port_are_fine(free: int) -> None:
    require_free("127.0.0.1", free)
    require_free("localhost", 0)
    require_free("", 0)
    assert port_holder(free) is None


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("no-such-host.invalid", "there is no address for the name 'no-such-host.invalid'"),
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
    ],
)
def test_host_that_is_not_here_is_named(host: str, told: str) -> None:
    with pytest.raises(ListenError, match=told):
        require_free(host, 0)


@pytest.mark.parametrize("text", ["8080", "host:", ":x", "a b:1", "127.0.0.1:65536", "::1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot listen on"):
        parse_listen(text)


WEB = ("/usr/bin/python3", "-m", "web", "--listen", "127.0.0.1:8080")
SERVE = ("/usr/bin/python3", "/usr/bin/shiplap", "serve")


def test_a_process_is_shown_by_its_name_without_what_steers_terminals() -> None:
    assert str(Holder(7, ("/usr/sbin/nginx", "-g"))) == "nginx (process 7)"
    assert str(Holder(7, WEB, 2)) == "shiplap web (process 7)"
    assert str(Holder(7, SERVE, 2)) == "shiplap serve (process 7)"
    assert str(Holder(7, ("\x1b[2Jevil",))) == "[2Jevil (process 7)"


def test_web_process_of_a_service_that_runs_is_not_waited_for() -> None:
    assert Holder(7, WEB, 1).may_be_ending  # gunicorn's worker, whose master is gone
    assert Holder(7, (*WEB, "--no-welcome"), 2).may_be_ending  # both of a service that is gone
    assert not Holder(7, WEB, 2).may_be_ending
    assert not Holder(7, SERVE, 2).may_be_ending
    assert not Holder(7, ("nginx",)).may_be_ending


_LISTENING = """
import os, signal, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
if os.fork():
    os.wait()
signal.pause()
"""
_STARTING = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'web']))"


@pytest.mark.parametrize("started_by", ["serve", "other"])
def test_of_several_processes_the_one_that_started_the_others_is_named(tmp_path: Path, started_by: str) -> None:
    """Whoever ends a process of ``shiplap serve`` gets another one."""
    (tmp_path / "web.py").write_text(_LISTENING)
    with subprocess.Popen(
        [sys.executable, "-c", _STARTING, started_by], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as starter:  # fmt: skip
        try:
            assert starter.stdout is not None
            port = int(starter.stdout.readline())
            eventually(lambda: getattr(port_holder(port), "webs", 0) == 2, why="both processes listen")
            holder = port_holder(port)
            assert holder is not None
            if started_by == "serve":
                assert str(holder) == f"shiplap serve (process {starter.pid})"
            else:
                assert str(holder).startswith("shiplap web (process ")
                assert int(Path(f"/proc/{holder.pid}/stat").read_text().split()[3]) == starter.pid
            assert not holder.may_be_ending
        finally:
            os.killpg(starter.pid, signal.SIGKILL)


@pytest.mark.parametrize("command", ["serve", "web"])
def test_commands_say_so_before_they_start_anything(command: str, tmp_path: Path) -> None:
    shiplap = Shiplap(tmp_path / "root")
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
        refused = shiplap(command, "--listen", listen, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: cannot listen on {listen}: the port is in use by ")
    assert f"(process {os.getpid()})" in refused.stderr
    assert not (tmp_path / "root" / "serve" / "redis").exists()
    assert not list((tmp_path / "root").rglob("service.db"))


def test_web_process_that_is_ending_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "import socket, sys, time\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    print(server.getsockname()[1], flush=True)\n"
        "    sys.stdin.read()\n"
        "    time.sleep(0.5)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "web"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as ending:
        assert ending.stdin is not None
        assert ending.stdout is not None
        port = int(ending.stdout.readline())
        ending.stdin.close()
        require_free("127.0.0.1", port)
        assert ending.wait(stretched(60)) == 0
