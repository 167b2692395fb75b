"""A client of BuildKit's protocol: it asks the API, and serves its own files, secrets and outputs in a session."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dockerapi.buildkit import messages, sending
from dockerapi.buildkit.httpstream import Stream
from dockerapi.buildkit.receiving import DATA, FIN, IS_DIRECTORY, REQ, STAT
from dockerapi.buildkit.rpc import Asked, Call, Code, RpcError
from dockerapi.buildkit.transport import Connection
from tests.toolkit.bounds import stretched

CONTROL = "/moby.buildkit.v1.Control/"
BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"


class Files:
    """What a client has. directories: by their name in the session.

    asked: paths whose contents were asked for, in the order of the requests.
    """

    def __init__(self, directories: dict[str, Path], secrets: dict[str, bytes] | None = None) -> None:
        self.directories = directories
        self.secrets = secrets or {}
        self.asked: list[str] = []
        self.got: dict[str, bytes] = {}
        self.lie: Callable[[Call], None] | None = None

    def serve(self, stream: Stream) -> None:
        call = Call(stream)
        threading.Thread(target=self._answered, args=(call,), daemon=True).start()

    def _answered(self, call: Call) -> None:
        try:
            name = call.method.rpartition("/")[2]
            {"GetSecret": self._secret, "DiffCopy": self._copy}[name](call)
        except KeyError:
            call.finish(Code.UNIMPLEMENTED, "no such method")
        except RpcError as error:
            call.finish(error.code, error.message)
        else:
            call.finish()

    def _secret(self, call: Call) -> None:
        name = call.one(messages.GetSecretRequest).ID
        if name not in self.secrets:
            raise RpcError(Code.NOT_FOUND, f"no secret {name}")
        call.send(messages.Bytes(data=self.secrets[name]))

    def _copy(self, call: Call) -> None:
        if "FileSend" in call.method:
            number = call.header("buildkit-attachable-exporter-id")
            self.got[number] = b""
            while (piece := call.receive(messages.Bytes, stretched(60))) is not None:
                self.got[number] += piece.data
            return
        if self.lie is not None and call.header("dir-name") == "context":
            self.lie(call)
            return
        root = os.fsencode(self.directories[call.header("dir-name")])
        only = [path.encode() for path in call.headers("followpaths")]
        call.begin()
        files = {}
        described = [each for each in sending._described(root, b"") if not only or each[0] in only]
        for count, (path, stat) in enumerate(described):
            if not stat.mode & IS_DIRECTORY:
                files[count] = path
            call.send(messages.Packet(type=STAT, stat=stat))
        call.send(messages.Packet(type=STAT))
        while (packet := call.receive(messages.Packet, stretched(60))) is not None:
            if packet.type == FIN:
                call.send(messages.Packet(type=FIN))
                return
            assert packet.type == REQ
            path = files[packet.ID]
            self.asked.append(path.decode())
            with open(root + b"/" + path, "rb") as file:
                while data := file.read(32 << 10):
                    call.send(messages.Packet(type=DATA, ID=packet.ID, data=data))
            call.send(messages.Packet(type=DATA, ID=packet.ID))


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(stretched(60))
    client.connect(str(path))
    return client


def upgraded(client: socket.socket, head: str) -> socket.socket:
    """A connection that has gone over to HTTP/2."""
    client.sendall(f"{head}Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    client.settimeout(None)
    return client


@contextlib.contextmanager
def asking(client: socket.socket) -> Iterator[Connection]:
    """A connection on which one asks."""
    connection = Connection(client, opens=True)
    reader = threading.Thread(target=connection.run, daemon=True)
    reader.start()
    try:
        yield connection
    finally:
        connection.end("done")
        reader.join()


@contextlib.contextmanager
def offering(client: socket.socket, files: Files) -> Iterator[None]:
    """A connection on which one is asked."""
    connection = Connection(client, opens=False)
    reader = threading.Thread(target=connection.run, args=(files.serve,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        connection.end("done")
        reader.join()


def session_head(identity: str, key: str) -> str:
    head = f"POST /session HTTP/1.1\r\nX-Docker-Expose-Session-Uuid: {identity}\r\n"
    head += f"X-Docker-Expose-Session-Sharedkey: {key}\r\n"
    for method in ("/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSend/DiffCopy"):
        head += f"X-Docker-Expose-Session-Grpc-Method: {method}\r\n"
    return head


def call(connection: Connection, method: str, message: Any, kind: Any, metadata: Any = None) -> Any:
    """A call with one message and one answer. Raises RpcError."""
    with Asked(connection, method, metadata or {}) as asked:
        asked.send(message)
        asked.end()
        return asked.receive(kind, stretched(120))


def solve(connection: Connection, ref: str, session: str, attributes: dict[str, str], exporter: str = "moby") -> Any:
    """Build by the Dockerfile frontend, without a bridge. The answer of the exporters."""
    request = messages.SolveRequest(
        Ref=ref, Session=session, Frontend="dockerfile.v0", FrontendAttrs=attributes, Exporter=exporter
    )
    return call(connection, f"{CONTROL}Solve", request, messages.SolveResponse).ExporterResponse
