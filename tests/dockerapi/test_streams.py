"""Connections that last: they are the keeper's, and go on when the API's process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from core.processes import descendants
from dockerapi.server import THREADS
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api, Terminal
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

_MANY = 24 << 20


@pytest.fixture
def name(api: Api) -> Iterator[str]:
    """A container's name; it is removed afterwards, by a living API."""
    if api.process is None:
        api.start()
    found = f"c{os.urandom(4).hex()}"
    yield found
    if api.process is None:
        api.start()
    api.docker("rm", "-f", found)


class Client:
    """A client that speaks HTTP by hand, until the end of its ``with``."""

    def __init__(self, api: Api) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(stretched(60))
        self.sock.connect(str(api.socket))
        self.file = self.sock.makefile("rb")

    def ask(self, head: str, body: bytes = b"", *, behind: bytes = b"") -> tuple[int, dict[str, str]]:
        """Send a request, with ``behind`` in the same segment; the status and the headers of its answer."""
        length = f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n" if body else ""
        self.sock.sendall(f"{head} HTTP/1.1\r\nHost: x\r\n{length}".encode() + self.more + b"\r\n" + body + behind)
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            key, _, value = line.decode().partition(": ")
            headers[key.lower()] = value
        return status, headers

    def written(self) -> bytes:
        """What a container wrote, of a body in chunks that is read to its end."""
        body, data = bytearray(), bytearray()
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"
        at = 0
        while at < len(body):
            size = struct.unpack_from(">B3xI", body, at)[1]
            data += body[at + 8 : at + 8 + size]
            at += 8 + size
        return bytes(data)

    more = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


class Upgrading(Client):
    more = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


def test_attached_before_the_start_nothing_of_the_output_is_missing(api: Api, name: str) -> None:
    api.docker("create", "--name", name, BUSYBOX_NAME, "sh", "-c", "echo out; echo err >&2", check=True)
    pieces = {}
    with Upgrading(api) as client:
        status, headers = client.ask(f"POST /v1.45/containers/{name}/attach?stream=1&stdout=1&stderr=1")
        assert (status, headers["content-type"]) == (101, "application/vnd.docker.multiplexed-stream")
        api.docker("start", name, check=True)
        while head := client.file.read(8):
            stream, size = struct.unpack(">B3xI", head)
            pieces[stream] = client.file.read(size)
    assert pieces == {1: b"out\n", 2: b"err\n"}


def test_an_old_client_has_a_raw_content_type(api: Api, name: str) -> None:
    api.docker("create", "--name", name, BUSYBOX_NAME, "true", check=True)
    with Upgrading(api) as client:
        status, headers = client.ask(f"POST /v1.41/containers/{name}/attach?stream=1&stdout=1")
    assert (status, headers["content-type"]) == (101, "application/vnd.docker.raw-stream")


def test_input_in_the_segment_of_the_request_is_input(api: Api, name: str) -> None:
    api.docker("run", "-d", "--name", name, BUSYBOX_NAME, "sleep", "1000", check=True)
    asked = b'{"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true}'
    with Client(api) as maker:
        assert maker.ask(f"POST /containers/{name}/exec", asked)[0] == 201
        identity = maker.file.readline().decode().split('"')[3]
    got = b""
    with Upgrading(api) as client:
        assert client.ask(f"POST /exec/{identity}/start", b"{}", behind=b"early\n")[0] == 101
        client.sock.sendall(b"late\n")
        client.sock.shutdown(socket.SHUT_WR)
        while head := client.file.read(8):
            got += client.file.read(struct.unpack(">B3xI", head)[1])
    assert got == b"early\nlate\n"


def test_a_client_that_reads_late_gets_the_head_alone_at_first(api: Api, name: str) -> None:
    """docker's SDK for Python drops what it reads together with the head."""
    api.docker("run", "-d", "--name", name, BUSYBOX_NAME, "sleep", "1000", check=True)
    for _ in range(5):  # a client that is as late as a busy machine can make this one gets both
        with Client(api) as maker:
            assert (
                maker.ask(f"POST /containers/{name}/exec", b'{"Cmd": ["echo", "hello"], "AttachStdout": true}')[0]
                == 201
            )
            identity = maker.file.readline().decode().split('"')[3]
        with Upgrading(api) as client:
            client.sock.sendall(f"POST /exec/{identity}/start HTTP/1.1\r\nHost: x\r\n".encode() + client.more + b"\r\n")
            client.sock.recv(1, socket.MSG_PEEK)
            time.sleep(0.1)
            head = client.sock.recv(1 << 16)
            if head.endswith(b"\r\n\r\n"):
                assert client.file.read() == b"\1\0\0\0\0\0\0\6hello\n"
                return
    pytest.fail(f"output came with the head: {head!r}")


def test_the_end_of_input_alone_ends_a_command_and_its_output_comes_whole(api: Api) -> None:
    ran = api.docker("run", "--rm", "-i", BUSYBOX_NAME, "sh", "-c", "sha256sum; echo done", stdin=b"x" * _MANY)
    assert ran.stdout.splitlines() == [f"{hashlib.sha256(b'x' * _MANY).hexdigest()}  -", "done"], ran.stderr


def test_a_terminal_has_its_size_and_its_detach_keys(api: Api, name: str) -> None:
    terminal = Terminal(api, "run", "-it", "--name", name, BUSYBOX_NAME, "sh")
    terminal.until(b"#")
    terminal.type(b"stty size; echo a$((1+1))b\r")
    assert b"33 101" in terminal.until(b"a2b")
    terminal.type(b"\x10\x11")  # ctrl-p ctrl-q
    assert terminal.code() == 0
    assert api.docker("inspect", "-f", "{{.State.Status}}", name).stdout.strip() == "running"


def test_terminals_followers_and_exit_codes_survive_the_death_of_the_api(api: Api, name: str) -> None:
    script = "n=0; while read line; do [ $line = end ] && exit 9; n=$((n+1)); echo $n:$line; done"
    api.docker("run", "-d", "-i", "--name", name, BUSYBOX_NAME, "sh", "-c", script, check=True)
    attached = api.begin(["attach", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    followed = api.begin(["logs", "-f", name], stdout=subprocess.PIPE)
    joined = Terminal(api, "exec", "-it", name, "sh")
    joined.until(b"#")
    assert attached.stdin is not None
    assert attached.stdout is not None
    assert followed.stdout is not None
    attached.stdin.write(b"before\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == followed.stdout.readline() == b"1:before\n"
    api.kill()
    attached.stdin.write(b"after\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == followed.stdout.readline() == b"2:after\n"
    joined.type(b"echo still$((40+2))\r")
    joined.until(b"still42")
    api.start()
    joined.type(b"exit 5\r")
    assert joined.code() == 5  # which the client asks the API that came back
    attached.stdin.write(b"end\n")
    attached.stdin.close()
    with attached, followed:
        assert followed.stdout.read() == b""
    assert followed.returncode == 0
    assert api.docker("wait", name).stdout.strip() == "9"
    assert api.docker("logs", name).stdout == "1:before\n2:after\n"


def test_a_run_whose_api_was_killed_gets_its_output_whole_and_all_who_wait_the_exit_code(api: Api, name: str) -> None:
    script = """
        echo line 0 of a stream; until [ -e /go ]; do sleep 0.1; done
        i=1; while [ $i -lt 20000 ]; do echo line $i of a stream; i=$((i+1)); done; exit 7
    """
    running = api.begin(["run", "--rm", "--name", name, BUSYBOX_NAME, "sh", "-c", script], stdout=subprocess.PIPE)
    with running, Client(api) as until_it_ends, Client(api) as next_exit:
        assert running.stdout is not None
        first = running.stdout.readline()
        with Client(api) as gone:
            for client, condition in ((until_it_ends, ""), (next_exit, "next-exit"), (gone, "removed")):
                assert client.ask(f"POST /containers/{name}/wait?condition={condition}")[0] == 200
        api.docker("exec", name, "touch", "/go", check=True)  # by then the client knows that it was started
        api.kill()
        rest = running.stdout.read()
        for client in (until_it_ends, next_exit):
            assert client.file.read() == b'11\r\n{"StatusCode":7}\n\r\n0\r\n\r\n'
    assert first + rest == b"".join(b"line %d of a stream\n" % n for n in range(20000))
    assert running.returncode == 7
    api.start()
    eventually(lambda: api.docker("inspect", name).returncode == 1)  # its keeper had it removed


def _memory(api: Api) -> int:
    """What all of the API's processes take, in bytes: what they share with others is shared out."""
    assert api.process is not None
    found = 0
    for pid in (api.process.pid, *descendants(api.process.pid)):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found += sum(int(row.split()[1]) << 10 for row in rows if row.startswith("Pss:"))
    return found


def test_many_who_wait_do_not_stop_the_next_request_and_take_little_memory(api: Api, name: str) -> None:
    api.docker("run", "-d", "--name", name, BUSYBOX_NAME, "sleep", "1000", check=True)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            client = stack.enter_context(Client(api))
            path = (f"containers/{name}/stats", "events", f"containers/{name}/logs?follow=1&stdout=1")[number % 3]
            assert client.ask(f"GET /{path}")[0] == 200
        waiting = [stack.enter_context(Client(api)) for _ in range(80)]
        for client in waiting:
            assert client.ask(f"POST /containers/{name}/wait?condition=next-exit")[0] == 200
        asked = time.monotonic()
        assert stack.enter_context(Client(api)).ask("GET /containers/json")[0] == 200
        assert time.monotonic() - asked < stretched(3)
        assert _memory(api) < 90 << 20
        api.docker("kill", name, check=True)
        for client in waiting:
            assert b'{"StatusCode":137}' in client.file.read()


def test_who_takes_a_long_log_slowly_holds_nobody_up_and_gets_it_whole(api: Api, name: str) -> None:
    script = f"seq 800 | sed 's/^/{'x' * 1000}/'; until [ -e /go ]; do sleep 0.05; done; echo end"
    api.docker("run", "-d", "--name", name, BUSYBOX_NAME, "sh", "-c", script, check=True)
    eventually(lambda: api.docker("logs", "--tail", "1", name).stdout.endswith("800\n"))
    expected = b"".join(b"x" * 1000 + b"%d\n" % n for n in range(1, 801))
    with contextlib.ExitStack() as stack:
        slow = []
        for number in range(THREADS + 6):
            slow.append(stack.enter_context(Client(api)))
            asked = f"GET /containers/{name}/logs?stdout=1&follow={number % 2}"
            assert slow[-1].ask(asked)[0] == 200
        asked_at = time.monotonic()
        assert stack.enter_context(Client(api)).ask("GET /containers/json")[0] == 200
        assert time.monotonic() - asked_at < stretched(3)
        api.docker("exec", name, "touch", "/go", check=True)
        assert api.docker("wait", name).stdout == "0\n"
        assert slow[0].written() == expected
        assert slow[1].written() == expected + b"end\n"


def test_a_head_that_never_ends_holds_nobody_up(api: Api) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Client(api)).sock.sendall(b"GET /_ping HTTP/1.1\r\nHost:")
        assert stack.enter_context(Client(api)).ask("GET /_ping")[0] == 200


def test_who_does_not_close_a_connection_that_has_ended_holds_nobody_up(api: Api) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(Client(api))
            client.sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            assert client.file.read().endswith(b"OK")
        asked = time.monotonic()
        assert stack.enter_context(Client(api)).ask("GET /_ping")[0] == 200
        assert time.monotonic() - asked < stretched(3)


def test_who_waits_when_a_keeper_is_killed_gets_an_answer_and_holds_nobody_up(api: Api, name: str) -> None:
    api.docker("run", "-d", "--restart", "always", "--name", name, BUSYBOX_NAME, "sleep", "1000", check=True)
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Client(api)) for _ in range(12)]
        for client in waiting:
            assert client.ask(f"POST /containers/{name}/wait?condition=removed")[0] == 200
        pid = int(api.docker("inspect", "-f", "{{.State.Pid}}", name).stdout)
        os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
        eventually(lambda: api.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip() not in ("0", str(pid)))
        with Client(api) as other:
            assert other.ask(f"GET /containers/{name}/stats")[0] == 200
            assert other.file.readline()
        api.docker("rm", "-f", name, check=True)
        for client in waiting:
            assert b'{"StatusCode":137' in client.file.read()


def test_waiting_for_a_removal_ends_with_it(api: Api, name: str) -> None:
    api.docker("create", "--rm", "--name", name, BUSYBOX_NAME, "sh", "-c", "exit 4", check=True)
    with Client(api) as client:
        assert client.ask(f"POST /v1.45/containers/{name}/wait?condition=removed")[0] == 200
        api.docker("start", name, check=True)
        assert b'{"StatusCode":4}' in client.file.read()
    eventually(lambda: api.docker("inspect", name).returncode == 1)


def test_events_come_as_the_client_accepts_them(api: Api, name: str) -> None:
    api.docker("create", "--name", name, BUSYBOX_NAME, "true", check=True)
    for kind, begin in (("application/json-seq", b"\x1e{"), ("application/jsonl", b"{"), ("text/html", b"{")):
        with Client(api) as client:
            client.more = f"Accept: {kind}\r\n".encode()
            _, headers = client.ask(f"GET /events?since=1&until={time.time() + 0.1}")
            assert headers["content-type"] == (kind if "json" in kind else "application/json")
            client.file.readline()
            assert client.file.readline().startswith(begin)


def test_statistics_come_each_second_and_end_with_the_client(api: Api, name: str) -> None:
    api.docker("run", "-d", "--name", name, BUSYBOX_NAME, "sleep", "1000", check=True)
    with Client(api) as client:
        assert client.ask(f"GET /containers/{name}/stats")[0] == 200
        lines = [client.file.readline() for _ in range(8)]  # each document is a chunk, with its size before it
        assert sum(b'"pids_stats"' in line for line in lines) >= 2


def test_all_at_once(api: Api) -> None:
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda n: api.docker("run", "--rm", BUSYBOX_NAME, "echo", str(n)), range(24)))
    assert [ran.stdout.strip() for ran in done] == [str(n) for n in range(24)], [ran.stderr for ran in done]
