"""Following a log over HTTP, with real processes: nothing lost, nothing doubled, whatever happens to the server."""

from __future__ import annotations

import hashlib
import http.client
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cli.remote.following import Follower
from cli.remote.http import Client
from cli.remote.servers import Server
from core.settings import ServiceSettings
from pipelines.logs.lines import LogLine
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import eventually
from tests.web.processes import FakeWorker, WebProcess


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


@pytest.fixture
def server(web: WebProcess, service: Service) -> Server:
    return Server(web.url, service.tokens.create("test", ["read"])[1])


class Reader(threading.Thread):
    """Follows in a thread and keeps what came."""

    def __init__(self, server: Server, number: int, after: int = 0) -> None:
        super().__init__(daemon=True)
        self.begun: list[str] = []
        self.follower = Follower(server, number, after=after, begun=lambda line: self.begun.append(line.text))
        self.lines: list[LogLine] = []
        self.start()

    def run(self) -> None:
        for line in self.follower.lines():
            self.lines.append(line)

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + stretched(60)
        while len(self.lines) < count:
            assert time.monotonic() < deadline, f"{len(self.lines)} lines came, expected {count}"
            time.sleep(0.02)


def outputs(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines if line.kind == "output"]


def test_follower_gets_every_line_and_then_the_run(server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    reader = Reader(server, worker.number)
    worker.write(1, 100)
    reader.wait_for(100)
    worker.write(101, 3000)
    worker.finish()
    reader.join(stretched(60))
    assert [line.n for line in reader.lines] == list(range(1, len(reader.lines) + 1))
    assert outputs(reader.lines) == [f"line {number}" for number in range(1, 3001)]
    assert reader.follower.ended is not None
    assert reader.follower.ended["state"] == "succeeded"


def test_follower_hears_of_a_line_before_it_ends_and_gets_it_once(server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    reader = Reader(server, worker.number)
    worker.write(1, 1)
    worker.begin("Password: ")
    eventually(lambda: reader.begun[-1:] == ["Password: "])
    worker.begin("given\n")
    worker.finish()
    reader.join(stretched(60))
    assert outputs(reader.lines) == ["line 1", "Password: given"]
    assert reader.begun == ["Password: "]


def test_follower_of_an_ended_run_gets_all_of_it(server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    worker.write(1, 2500)
    worker.finish()
    reader = Reader(server, worker.number)
    later = Reader(server, worker.number, after=1234)
    reader.join(stretched(60))
    later.join(stretched(60))
    assert outputs(reader.lines) == [f"line {number}" for number in range(1, 2501)]
    assert later.lines == reader.lines[1234:]


def test_killed_web_process_costs_followers_no_line(web: WebProcess, server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    reader = Reader(server, worker.number)
    for round_ in range(3):
        worker.write(round_ * 100 + 1, round_ * 100 + 100)
        reader.wait_for((round_ + 1) * 100)
        web.signal(signal.SIGKILL)
        web.wait()
        worker.write(1000 + round_, 1000 + round_)
        web.start()
    worker.finish()
    reader.join(stretched(60))
    assert [line.n for line in reader.lines] == list(range(1, len(reader.lines) + 1))
    assert len(outputs(reader.lines)) == 303


def test_master_that_is_killed_alone_leaves_nobody_at_its_port(
    web: WebProcess, server: Server, service: Service
) -> None:
    worker = FakeWorker(service)
    reader = Reader(server, worker.number)
    worker.write(1, 100)
    reader.wait_for(100)
    web.kill_master()  # the log goes on all the while, and with it the stream
    eventually(lambda: not web.answers(), why="the process that served ends, too")
    web.start()
    worker.write(101, 200)
    worker.finish()
    reader.join(stretched(60))
    assert len(outputs(reader.lines)) == 200


def test_web_process_that_is_told_to_end_does_so_while_logs_are_followed(
    web: WebProcess, server: Server, service: Service
) -> None:
    worker = FakeWorker(service)
    reader = Reader(server, worker.number)
    reader.wait_for(2)
    web.signal(signal.SIGTERM)
    assert web.wait() == 0
    web.start()
    worker.finish()
    reader.join(stretched(60))
    assert reader.follower.ended is not None


def test_300_followers_of_50000_lines_share_what_they_read(web: WebProcess, server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    request = (
        f"GET /api/v1/runs/{worker.number}/events HTTP/1.0\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    )
    bodies = Bodies([connect(web.port, request) for _ in range(300)])
    writer = threading.Thread(target=worker.write_and_finish, args=(50_000,))
    writer.start()
    digests = bodies.read()
    writer.join()
    assert len(digests) == 300
    assert len(set(digests)) == 1, "they all got the same"
    assert bodies.lines == service.runs.get(worker.number).lines
    assert web.peak_memory_bytes() < 300 << 20


def connect(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(request)
    return connection


class Bodies:
    """Reads many answers at once, keeping none. lines: how many events with an id the first of them had."""

    def __init__(self, connections: list[socket.socket]) -> None:
        self.lines = 0
        self._first = connections[0]
        self._selector = selectors.DefaultSelector()
        for connection in connections:
            self._selector.register(connection, selectors.EVENT_READ, hashlib.sha256())

    def read(self) -> list[str]:
        """Until all have ended; the digests of the bodies."""
        digests = []
        heads: dict[int, bytes] = {}
        rest = b""
        while self._selector.get_map():
            for key, _ in self._selector.select(60):
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(1 << 18)
                if not data:
                    digests.append(key.data.hexdigest())
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                if key.fd not in heads:  # the headers have a date
                    heads[key.fd], _, data = data.partition(b"\r\n\r\n")
                key.data.update(data)
                if key.fileobj is self._first:
                    whole = rest + data
                    self.lines += whole.count(b"\nid: ")
                    rest = whole[-4:]
        return digests


@pytest.mark.parametrize(("header", "first"), [({"Last-Event-ID": "0"}, 1), ({"Last-Event-ID": "3"}, 4), ({}, 3)])
def test_last_event_beats_the_query(server: Server, service: Service, header: dict[str, str], first: int) -> None:
    worker = FakeWorker(service)
    worker.write(1, 5)
    worker.finish()
    with Client(server, timeout_s=stretched(10)) as client:
        response = client.stream(f"/runs/{worker.number}/events", headers=header, query={"after": "2"})
        ids = [line for line in iter(response.readline, b"") if line.startswith(b"id: ")]
    assert ids[0] == b"id: %d\n" % first


def test_stream_begins_at_once_and_says_what_it_is(server: Server, service: Service) -> None:
    worker = FakeWorker(service)
    with Client(server, timeout_s=stretched(10)) as client:
        response: http.client.HTTPResponse = client.stream(f"/runs/{worker.number}/events")
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.readline() == b"retry: 1000\n"
    worker.finish()
