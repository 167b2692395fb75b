"""A server that answers by a script: what a client does when answers are cut off, late or missing."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.toolkit.bounds import stretched


class Held(bytes):
    """An answer after which the connection stays open, and nothing more comes; ``Held()`` is silence."""


class Scripted:
    """A server that answers each connection with the next of its answers, and then the last of them again and again.

    asked: the requests, each with its body.
    """

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[bytes] = []
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.asked.append(_request(connection))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            connection.sendall(answer)
            if isinstance(answer, Held):
                self._held.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(stretched(10))
        for connection in self._held:
            connection.close()


def _request(connection: socket.socket) -> bytes:
    """All of it: who closes a connection that has more to be read cuts his own answer off."""
    asked = b""
    while b"\r\n\r\n" not in asked and (data := connection.recv(4096)):
        asked += data
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", asked)
    whole = asked.index(b"\r\n\r\n") + 4 + int(length[1]) if length else 0
    while len(asked) < whole and (data := connection.recv(4096)):
        asked += data
    return asked


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    server = Scripted(*answers)
    try:
        yield server
    finally:
        server.close()
