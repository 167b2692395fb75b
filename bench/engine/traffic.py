"""Moves bytes: runs in containers and on the neighbour, with nothing but the standard library. Prints JSON lines.

    traffic.py serve PORT                       TCP and UDP; says "ready" first
    traffic.py up|down HOST PORT SECONDS        one stream, from here or to here: {"bits": per second}
    traffic.py connects HOST PORT SECONDS       new connections: {"rate": per second}
    traffic.py open HOST PORT COUNT             open at once, all of them answering: {"open", "seconds"}
    traffic.py udp HOST PORT SECONDS BYTES      datagrams: {"sent": per second, "arrived": per second}
    traffic.py answers HOST PORT NAME SECONDS   a DNS question and a new connection every 20 ms, while it lasts:
                                                {"dns": [seconds…], "connects": [seconds…]}; NAME or PORT may be "-"
    traffic.py lines SECONDS                    lines of 88 bytes, as fast as they are taken, and at last
                                                {"lines", "seconds"}

A connection says what it wants by its first byte: U sends until it has nothing more and gets told how many bytes came,
D gets bytes for so many seconds (a byte), E gets an answer to each byte, C gets the count of datagrams.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import struct
import sys
import time

_PIECE = 1 << 18
_TIMEOUT_S = 30.0
_AT_ONCE = 32
_PAUSE_S = 0.02


class Server:
    """One thread. Streams are served to their end; all else goes on beside each other."""

    def __init__(self, port: int) -> None:
        self._poll = select.epoll()
        self._listener = socket.create_server(("0.0.0.0", port), backlog=4096)
        self._listener.setblocking(False)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("0.0.0.0", port))
        self._udp.setblocking(False)
        self._datagrams = 0
        self._connections: dict[int, socket.socket] = {}
        for each in (self._listener, self._udp):
            self._poll.register(each.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        print("ready", flush=True)
        while True:
            for fd, _events in self._poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                elif fd == self._udp.fileno():
                    self._count()
                else:
                    self._serve(self._connections[fd])

    def _accept(self) -> None:
        for _ in range(64):
            try:
                connection, _peer = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)

    def _count(self) -> None:
        for _ in range(64):
            try:
                self._udp.recv(2048)
            except BlockingIOError:
                return
            self._datagrams += 1

    def _serve(self, connection: socket.socket) -> None:
        try:
            asked = connection.recv(1)
            if asked == b"E":
                connection.send(b".")
                return
            connection.settimeout(_TIMEOUT_S)
            if asked == b"U":
                connection.sendall(struct.pack("!Q", _received(connection)))
            elif asked == b"D":
                _send_for(connection, connection.recv(1)[0])
            elif asked == b"C":
                connection.sendall(struct.pack("!Q", self._datagrams))
        except OSError:
            pass  # the other side has gone
        self._poll.unregister(connection.fileno())
        del self._connections[connection.fileno()]
        connection.close()


def _received(connection: socket.socket) -> int:
    room, count = bytearray(_PIECE), 0
    while got := connection.recv_into(room):
        count += got
    return count


def _send_for(connection: socket.socket, seconds: float) -> None:
    piece, end = bytes(_PIECE), time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(piece)


def _connected(host: str, port: int) -> socket.socket:
    connection = socket.create_connection((host, port), _TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def up(host: str, port: int, seconds: float) -> dict[str, float]:
    """What came, by the server's count, over the time until it said so."""
    with _connected(host, port) as connection:
        connection.sendall(b"U")
        begin = time.monotonic()
        _send_for(connection, seconds)
        connection.shutdown(socket.SHUT_WR)
        (count,) = struct.unpack("!Q", _exactly(connection, 8))
        return {"bits": 8 * count / (time.monotonic() - begin)}


def down(host: str, port: int, seconds: float) -> dict[str, float]:
    with _connected(host, port) as connection:
        connection.sendall(bytes((ord("D"), int(seconds))))
        begin = time.monotonic()
        count = _received(connection)
        return {"bits": 8 * count / (time.monotonic() - begin)}


def connects(host: str, port: int, seconds: float) -> dict[str, float]:
    """Connections that were answered, a few on their way at a time."""
    poll = select.epoll()
    known: dict[int, socket.socket] = {}
    count, end = 0, time.monotonic() + seconds

    def begin_one() -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((host, port))
        known[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLOUT)

    for _ in range(_AT_ONCE):
        begin_one()
    begin = time.monotonic()
    while time.monotonic() < end:
        for fd, events in poll.poll(1.0):
            connection = known[fd]
            if events & select.EPOLLOUT:
                connection.send(b"E")
                poll.modify(fd, select.EPOLLIN)
                continue
            if connection.recv(1) != b".":
                raise SystemExit("a connection was not answered")
            count += 1
            poll.unregister(fd)
            del known[fd]
            connection.close()
            begin_one()
    return {"rate": count / (time.monotonic() - begin)}


def open_at_once(host: str, port: int, count: int) -> dict[str, float]:
    begin = time.monotonic()
    connections = [_connected(host, port) for _ in range(count)]
    for _ in range(2):  # the first ones answer when all are open, too
        for connection in connections:
            connection.sendall(b"E")
        for connection in connections:
            if connection.recv(1) != b".":
                raise SystemExit("a connection was not answered")
    seconds = time.monotonic() - begin
    print(json.dumps({"open": len(connections), "seconds": seconds}), flush=True)
    sys.stdin.readline()  # until somebody has looked
    return {}


def udp(host: str, port: int, seconds: float, size: int) -> dict[str, float]:
    def arrived() -> int:
        with _connected(host, port) as connection:
            connection.sendall(b"C")
            return int(struct.unpack("!Q", _exactly(connection, 8))[0])

    before = arrived()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, port))
        data, sent, begin = bytes(size), 0, time.monotonic()
        end = begin + seconds
        while (now := time.monotonic()) < end:
            for _ in range(32):
                sender.send(data)
            sent += 32
        took = now - begin
    time.sleep(0.3)
    return {"sent": sent / took, "arrived": (arrived() - before) / took}


def answers(host: str, port: str, name: str, seconds: float) -> dict[str, list[float]]:
    dns: list[float] = []
    opened: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if name != "-":
            dns.append(_asked(host, name))
        if port != "-":
            begin = time.monotonic()
            with _connected(host, int(port)) as connection:
                connection.sendall(b"E")
                _exactly(connection, 1)
            opened.append(time.monotonic() - begin)
        time.sleep(_PAUSE_S)
    return {"dns": dns, "connects": opened}


def _asked(server: str, name: str) -> float:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    number = os.urandom(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_TIMEOUT_S)
        begin = time.monotonic()
        asking.sendto(number + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1", (server, 53))
        answer = asking.recv(2048)
        seconds = time.monotonic() - begin
    if answer[:2] != number or answer[3] & 15 or answer[6:8] == b"\0\0":
        raise SystemExit(f"no answer for {name}: {answer.hex()}")
    return seconds


def lines(seconds: float) -> dict[str, float]:
    line = b'2026-11-28T12:00:00Z level=info msg="a request was served" status=200 bytes=12345 n=678\n'
    piece, out, count = line * 64, sys.stdout.fileno(), 0
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        left = piece
        while left:
            left = left[os.write(out, left) :]
        count += 64
    return {"lines": count, "seconds": now - begin}


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise SystemExit("the connection ended early")
        data += piece
    return data


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    what, *words = sys.argv[1:]
    if what == "serve":
        Server(int(words[0])).serve()
    elif what == "lines":
        print(json.dumps(lines(float(words[0]))))
    elif what == "open":
        open_at_once(words[0], int(words[1]), int(words[2]))
    elif what == "udp":
        print(json.dumps(udp(words[0], int(words[1]), float(words[2]), int(words[3]))))
    elif what == "answers":
        print(json.dumps(answers(words[0], words[1], words[2], float(words[3]))))
    else:
        does = {"up": up, "down": down, "connects": connects}[what]
        print(json.dumps(does(words[0], int(words[1]), float(words[2]))))


if __name__ == "__main__":
    main()
