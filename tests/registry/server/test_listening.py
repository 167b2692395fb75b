"""The listener: whoever is slow costs a socket and no thread, and has to go when there are too many."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from registry.server.listening.connection import Connection
from registry.server.listening.heads import Head, find_head
from registry.server.listening.lobby import site
from tests.toolkit.bounds import stretched
from tests.toolkit.listening import MUCH

_CHECKOUT = Path(__file__).resolve().parents[3]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Running:
    """The small application. ``connect`` from any loopback address."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())
        self._open = contextlib.ExitStack()

    def connect(self, source: str = "127.0.0.1", *, small: bool = False) -> socket.socket:
        peer = self._open.enter_context(socket.socket())
        if small:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(stretched(30))
        peer.bind((source, 0))
        peer.connect(("127.0.0.1", self.port))
        return peer

    def send(self, data: bytes, source: str = "127.0.0.1", *, small: bool = False) -> socket.socket:
        peer = self.connect(source, small=small)
        peer.sendall(data)
        return peer

    def close(self) -> None:
        self._open.close()


@contextlib.contextmanager
def serving(**settings: Any) -> Iterator[Running]:
    command = [sys.executable, "-m", "tests.toolkit.listening", json.dumps(settings)]
    with subprocess.Popen(command, cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        running = Running(process)
        try:
            yield running
        finally:
            running.close()
            process.terminate()


def received(peer: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(65536):
            data += piece
    return data


def counted(peer: socket.socket) -> int:
    """What an answer says of the length of the body: its last line."""
    data = b""
    while not data.partition(b"\r\n\r\n")[2].endswith(b"\n"):
        piece = peer.recv(1000)
        assert piece, data
        data += piece
    return int(data.rpartition(b"\r\n")[2])


def cut_after(peer: socket.socket, data: bytes, steady: socket.socket | None = None) -> tuple[float, int]:
    """Send ``data`` ten times a second until the other side has had enough of it: seconds, and how often.

    steady: to whom 1,000 bytes are sent each time.
    """
    began = time.monotonic()
    for count in range(200):
        try:
            peer.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return time.monotonic() - began, count
        if steady is not None:
            steady.sendall(b"x" * 1000)
        time.sleep(0.1)
    raise AssertionError("it goes on and on")


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        peer.settimeout(stretched(30))


def answer_time(running: Running, data: bytes = GET, source: str = "127.0.0.1") -> float:
    """How long an answer with status 200 takes, in seconds."""
    began = time.monotonic()
    peer = running.send(data, source)
    assert peer.recv(12) == b"HTTP/1.1 200"
    peer.close()
    return time.monotonic() - began


def post(length: int, *, known: bool = False) -> bytes:
    extra = b"X-Known: yes\r\n" if known else b""
    return b"POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (extra, length)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", None),
        (GET, Head(len(GET), 0, "")),
        (b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nabc", Head(39, 12, "")),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Head(66, None, "")),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", Head(60, None, "")),
        (b"GET / HTTP/1.1\r\nx-forwarded-for: a, b\r\nX-Forwarded-For: c\r\n\r\n", Head(61, 0, " a, b, c")),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Head(39, 0, "")),
        (b"GET / HTTP/1.1\r\nCookie: a=b\r\n\r\n", Head(31, 0, "", names_somebody=True)),
    ],
)
def test_head_says_how_much_follows(data: bytes, expected: Head | None) -> None:
    assert find_head(bytearray(data), 0) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("", ""),
    ],
)  # fmt: skip
def test_network_of_an_ipv6_address_counts_as_one(address: str, expected: str) -> None:
    assert site(address) == expected


def test_requests_in_pieces_are_answered_and_connections_are_kept() -> None:
    with serving() as running:
        peer = running.connect()
        for _ in range(3):
            for byte in (post(5) + b"hello").partition(b"\r\n"):
                peer.sendall(byte)
                time.sleep(0.05)
            assert counted(peer) == 5
        peer.sendall(GET + GET)
        answers = b""
        while answers.count(b"\r\n\r\n0\n") < 2:
            answers += peer.recv(1000)


def test_more_silent_connections_than_threads_stop_nobody() -> None:
    with serving(threads=4) as running:
        silent = [running.connect() for _ in range(60)]
        begun = [running.send(b"GET / HTTP/1.1\r\nX-A: ") for _ in range(30)]
        assert answer_time(running) < 2
        assert all(is_open(peer) for peer in [*silent, *begun])


def test_head_has_a_deadline_that_bytes_do_not_move() -> None:
    with serving(constants={"worker._HEAD_S": 1.0}) as running:
        peer = running.connect()
        assert 0.9 < cut_after(peer, b"G")[0] < 10
        assert answer_time(running) < 2


def test_small_body_that_comes_slowly_takes_no_thread() -> None:
    with serving(threads=2) as running:
        slow = [running.send(post(1000) + b"x") for _ in range(20)]
        assert answer_time(running) < 2
        slow[0].sendall(b"y" * 999)
        assert counted(slow[0]) == 1000


def test_large_bodies_that_stand_still_leave_threads_to_others_and_go_for_those_who_wait() -> None:
    with serving(threads=16) as running:
        stuck = [running.send(post(1 << 20), f"127.0.1.{index}") for index in range(1, 41)]
        assert max(answer_time(running) for _ in range(5)) < 2
        began = time.monotonic()
        peer = running.send(post(100_000) + b"x" * 100_000, "127.0.2.1")
        assert counted(peer) == 100000
        assert time.monotonic() - began < 20
        assert not all(is_open(peer) for peer in stuck)


def test_large_body_that_comes_fast_is_not_cut_for_others() -> None:
    with serving(threads=4) as running:
        peer = running.connect("127.0.3.1")
        peer.sendall(post(40 << 20))
        stuck = []
        for _ in range(40):
            peer.sendall(bytes(1 << 20))
            stuck.append(running.send(post(1 << 20), "127.0.3.2"))
            time.sleep(0.1)
        assert counted(peer) == 40 << 20


def test_large_body_of_somebody_known_is_not_cut_for_others() -> None:
    with serving(threads=4) as running:
        known = running.send(post(100_000, known=True) + b"x", "127.0.3.1")
        time.sleep(0.3)
        strangers = [running.send(post(1 << 20), f"127.0.4.{index}") for index in range(1, 20)]
        time.sleep(4)
        known.sendall(b"y" * 99_999)
        assert counted(known) == 100000
        assert not all(is_open(peer) for peer in strangers)


def test_body_below_the_least_rate_is_cut_and_one_above_it_is_not() -> None:
    with serving(threads=32, constants={"bodies.PATIENCE_S": 3.0, "bodies.LEAST_RATE": 2000}) as running:
        steady, slow = running.send(post(1_000_000)), running.send(post(100_000))
        sent = 1000 * cut_after(slow, b"x", steady)[1]
        assert sent > 20_000
        steady.sendall(b"x" * (1_000_000 - sent))
        assert counted(steady) == 1_000_000


def test_body_that_nobody_wants_keeps_no_thread_and_its_sender_has_the_answer() -> None:
    with serving(threads=2) as running:
        head = post(1 << 20).replace(b"POST /", b"POST /refuse")
        waiting = [running.send(head) for _ in range(10)]
        assert answer_time(running) < 2
        sender = running.send(head + bytes(100_000))
        for peer in (*waiting, sender):
            assert b" 401 " in received(peer)


def test_clients_that_take_nothing_leave_threads_to_others() -> None:
    with serving(threads=4) as running:
        much = b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n"
        for index in range(1, 9):
            running.send(much, f"127.0.5.{index}", small=True)
        time.sleep(0.5)
        assert answer_time(running) < 20


def test_much_that_is_taken_steadily_is_not_cut_for_others() -> None:
    with serving(threads=2, constants={"worker._CUT_LIGHT_AFTER_S": 0.5}) as running:
        much = b"GET /much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        peer = running.send(much)
        waiting = [running.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(6)]
        count = 0
        while piece := peer.recv(1 << 20):
            count += len(piece)
            time.sleep(0.005)
        assert count > MUCH
        assert all(peer.recv(12) == b"HTTP/1.1 200" for peer in waiting)


def test_followers_that_are_known_are_never_cut() -> None:
    with serving(threads=4, constants={"worker._HEAD_S": 1.0, "worker._CUT_LIGHT_AFTER_S": 0.5}) as running:
        followers = [running.send(b"GET /follow HTTP/1.1\r\nX-Known: yes\r\n\r\n") for _ in range(3)]
        for index in range(1, 30):
            running.send(post(1 << 20), f"127.0.6.{index}")
            running.connect(f"127.0.6.{index}")
        time.sleep(3)
        assert all(is_open(peer) for peer in followers)
        assert answer_time(running) < 10


def test_address_has_a_bound_and_its_oldest_silent_connection_goes_first() -> None:
    with serving(bounds={"waiting_per_address": 10}) as running:
        own = []
        for _ in range(15):
            own.append(running.connect("127.0.7.1"))
            time.sleep(0.02)
        other = running.connect("127.0.7.2")
        time.sleep(0.3)
        assert [is_open(peer) for peer in own] == [False] * 5 + [True] * 10
        assert is_open(other)
        assert answer_time(running, source="127.0.7.1") < 2


def test_all_together_have_a_bound_and_newcomers_in_earnest_are_served() -> None:
    with serving(bounds={"waiting": 50}) as running:
        crowd = [running.connect(f"127.0.8.{index}") for index in range(1, 121)]
        time.sleep(0.3)
        assert answer_time(running) < 2
        assert sum(is_open(peer) for peer in crowd) <= 50
        assert is_open(crowd[-1])


def test_connections_of_a_trusted_proxy_count_for_the_clients_that_it_names() -> None:
    with serving(threads=16, proxies=["127.0.9.1"], bounds={"waiting_per_address": 5}) as running:

        def through_proxy(client: str) -> socket.socket:
            head = post(1000).replace(b"Host: x", b"Host: x\r\nX-Forwarded-For: " + client.encode())
            return running.send(head, "127.0.9.1")

        one = [through_proxy("203.0.113.1") for _ in range(9)]
        many = [through_proxy(f"203.0.113.{index}") for index in range(2, 22)]
        liar = [running.connect("127.0.9.2") for _ in range(9)]
        time.sleep(0.3)
        assert sum(is_open(peer) for peer in one) == 5
        assert all(is_open(peer) for peer in many)
        assert sum(is_open(peer) for peer in liar) == 5


def test_client_that_ends_its_side_is_answered() -> None:
    with serving() as running:
        for data, answer in ((GET, b"0\n"), (post(5) + b"hello", b"5\n"), (post(500) + b"hello", b"5\n")):
            peer = running.send(data)
            peer.shutdown(socket.SHUT_WR)
            assert received(peer).endswith(b"\r\n\r\n" + answer)


def test_heads_without_end_are_refused() -> None:
    with serving() as running:
        peer = running.send(b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000)
        assert received(peer).startswith(b"HTTP/1.1 431 ")


def test_idle_connections_do_not_hold_up_the_end_and_requests_that_have_begun_are_answered() -> None:
    with serving(grace=300, keepalive=300) as running:
        idle, begun = running.send(GET), running.send(GET)
        assert counted(idle) == counted(begun) == 0
        begun.sendall(GET[:10])
        time.sleep(0.1)
        running.process.terminate()
        assert received(idle) == b""
        begun.sendall(GET[10:])
        assert b"200 OK" in received(begun)
        assert running.process.wait(stretched(30)) == 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    paths = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


def test_tls_is_spoken_and_handshakes_have_a_deadline(certificate: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    context.check_hostname = False
    constants = {"worker._HEAD_S": 2.0, "bodies.PATIENCE_S": 2.0}
    with serving(threads=4, certificate=certificate[0], key=certificate[1], constants=constants) as running:
        silent = [running.connect() for _ in range(30)]
        with context.wrap_socket(running.connect(), server_hostname="localhost") as peer:
            for _ in range(2):
                peer.sendall(post(200_000))
                peer.sendall(b"x" * 200_000)
                answer = b""
                while not answer.endswith(b"200000\n"):
                    answer += peer.recv(1000)
        with context.wrap_socket(running.connect(), server_hostname="localhost") as stuck:
            stuck.sendall(post(200_000))
            assert received(stuck).endswith(b"\r\n\r\n0\n")  # to the application it is a client that has gone
        time.sleep(1)
        assert not any(is_open(peer) for peer in silent)


def test_client_that_was_cut_counts_as_slow_no_more_and_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        conn = Connection(Config(), server, ("127.0.0.1", 1), listener)
        conn.heavy = True
        before = conn.was_cut, conn.is_slow(0.0)
        conn.cut()
        after = conn.was_cut, conn.is_slow(0.0)
        assert (before, after) == ((False, True), (True, False))
        assert client.recv(1) == b""
        conn.cut()  # of one that has gone already: nothing
        server.close()
