"""BuildKit's protocol by a client of our own: what crosses, who reaches whom, and what harm nonsense does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from core.events import StepFinished, StepProgress, StepStarted
from dockerapi.buildkit import messages, transport
from dockerapi.buildkit.builds import Builds
from dockerapi.buildkit.door import MOST_CONNECTIONS, Door
from dockerapi.buildkit.httpstream import StreamError
from dockerapi.buildkit.progress import Progress
from dockerapi.buildkit.rpc import Asked, Call, Code, RpcError
from dockerapi.buildkit.sessions import Session, Sessions
from dockerapi.buildkit.transport import Connection
from dockerapi.errors import ApiError
from engine.callers import Caller
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.buildkitclient import (
    BRIDGE,
    CONTROL,
    Files,
    asking,
    call,
    connect,
    offering,
    session_head,
    solve,
    upgraded,
)
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

_DOCKERFILE = f"FROM {BUSYBOX_NAME}\nCOPY . /files\nRUN --mount=type=secret,id=s cat /run/secrets/s >/said\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("2")
    return Files({"context": tmp_path, "dockerfile": tmp_path}, {"s": b"word"})


@pytest.mark.usefixtures("privileged")
def test_only_what_changed_crosses(api: Api, files: Files) -> None:
    def build(ref: str) -> list[str]:
        files.asked.clear()
        with (
            offering(upgraded(connect(api.socket), session_head(f"s{ref}", "crossing")), files),
            asking(upgraded(connect(api.socket), "POST /grpc HTTP/1.1\r\n")) as grpc,
        ):
            solve(grpc, ref, f"s{ref}", {"filename": "Dockerfile"})
        return [path for path in files.asked if path != "Dockerfile"]

    context = files.directories["context"]
    assert build("one") == ["a", "b/c"]
    assert build("two") == []
    (context / "b" / "c").write_text("33")
    (context / "a").unlink()
    assert build("three") == ["b/c"]
    kept = list((api.shiplap.root / "contexts").glob("*/tree/b/c"))
    assert "33" in [path.read_text() for path in kept]
    assert not any((path.parent.parent / "a").exists() for path in kept if path.read_text() == "33")


@pytest.mark.usefixtures("privileged")
def test_http2_on_the_socket_itself_and_a_session_within_a_call(api: Api, files: Files) -> None:
    with asking(connect(api.socket)) as grpc:
        assert call(grpc, f"{CONTROL}ListWorkers", messages.Empty(), messages.ListWorkersResponse).record
        names = {"uuid": ["tunnelled"], "sharedkey": [""], "grpc-method": ["/moby.filesync.v1.FileSend/diffcopy"]}
        metadata = {f"x-docker-expose-session-{name}": values for name, values in names.items()}
        ours, theirs = socket.socketpair()
        with Asked(grpc, f"{CONTROL}Session", metadata) as tunnel, offering(theirs, files), ours:

            def inward() -> None:
                with contextlib.suppress(RpcError, OSError):
                    while (piece := tunnel.receive(messages.Bytes, None)) is not None:
                        ours.sendall(piece.data)

            def outward() -> None:
                with contextlib.suppress(RpcError, OSError):
                    while data := ours.recv(65536):
                        tunnel.send(messages.Bytes(data=data))

            for each in (inward, outward):
                threading.Thread(target=each, daemon=True).start()
            solve(grpc, "through", "tunnelled", {}, "tar")
            assert b"word" in files.got["0"]


@pytest.mark.usefixtures("privileged")
def test_questions_about_a_dockerfile_are_answered(api: Api, files: Files) -> None:
    with (
        offering(upgraded(connect(api.socket), session_head("asks", "")), files),
        asking(upgraded(connect(api.socket), "POST /grpc HTTP/1.1\r\n")) as grpc,
    ):
        solving = threading.Thread(
            target=call,
            args=(grpc, f"{CONTROL}Solve", messages.SolveRequest(Ref="q", Session="asks"), messages.SolveResponse),
        )
        solving.start()
        within = {"buildkit-controlapi-buildid": ["q"]}

        def answer(question: str) -> Any:
            request = messages.BridgeSolveRequest(
                Frontend="dockerfile.v0", FrontendOpt={"requestid": f"frontend.{question}"}, allowResultReturn=True
            )
            return call(grpc, f"{BRIDGE}Solve", request, messages.BridgeSolveResponse, within).result.metadata

        assert json.loads(answer("outline")["result.json"])["secrets"][0]["name"] == "s"
        assert json.loads(answer("targets")["result.json"])["targets"][0]["base"] == BUSYBOX_NAME
        assert answer("lint")["result.statuscode"] == b"0"
        (files.directories["dockerfile"] / "Dockerfile").write_text(f"from {BUSYBOX_NAME}\nRUN true\n")
        found = answer("lint")
        assert json.loads(found["result.json"])["warnings"][0]["ruleName"] == "ConsistentInstructionCasing"
        assert found["result.statuscode"] == b"1"
        with pytest.raises(RpcError, match="weather"):
            answer("weather")
        call(grpc, f"{BRIDGE}Return", messages.ReturnRequest(), messages.Empty, within)
        solving.join(stretched(60))
        assert not solving.is_alive()


@pytest.mark.usefixtures("privileged")
def test_what_is_not_done_is_refused(api: Api) -> None:
    with asking(connect(api.socket)) as grpc:
        for request, told in (
            (messages.SolveRequest(Ref="r", Definition={"def": [b"x"]}), "LLB"),
            (messages.SolveRequest(Ref="r", Frontend="gateway.v0"), "gateway.v0"),
            (messages.SolveRequest(Ref="r", Frontend="dockerfile.v0", FrontendAttrs={"new": "x"}), "new"),
            (messages.SolveRequest(Ref="r", Frontend="dockerfile.v0", Exporter="nydus"), "nydus"),
            (messages.SolveRequest(Ref="r", Entitlements=["network.host"]), "network.host"),
            (messages.SolveRequest(), "reference"),
        ):
            with pytest.raises(RpcError, match=told):
                call(grpc, f"{CONTROL}Solve", request, messages.SolveResponse)
        for method, told in (
            (f"{CONTROL}ListenBuildHistory", "shiplap build history"),
            ("/nothing", "/nothing is not done"),
            (f"{BRIDGE}ReadFile", "Dockerfiles are built"),
            (f"{BRIDGE}NewContainer", "shiplap build --debug"),
        ):
            with pytest.raises(RpcError, match=told) as refused:
                call(grpc, method, messages.Empty(), messages.Empty)
            assert refused.value.code == Code.UNIMPLEMENTED


@pytest.mark.usefixtures("privileged")
def test_nonsense_ends_one_connection_and_nobody_else_notices(api: Api) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with asking(connect(api.socket)) as grpc:
        for garbage in (os.urandom(4096), b"\0" * 4096, b"\xff" * 64, b"\0\0\x08\x06" + b"\0" * 13 * 1000, b""):
            with connect(api.socket) as client:
                client.sendall(preface + garbage)
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while client.recv(65536):
                        pass
        for body in (
            b"",
            b"\0\xff\xff\xff\xff",
            b"\0\0\x10\0\1",
            b"\1\0\0\0\1x",
            b"\0\0\0\0\3\xff\xff\xff",
            b"\0\0\0\1\0x",
        ):
            with Asked(grpc, f"{CONTROL}Solve", {}) as asked:
                asked.stream.write(body)
                asked.end()
                with pytest.raises(RpcError):
                    asked.receive(messages.SolveResponse)
        many = H2Connection(H2Configuration(client_side=True))
        many.initiate_connection()
        with connect(api.socket) as client, contextlib.suppress(ConnectionError):
            for number in range(1, 2001, 2):
                head = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": f"{CONTROL}Solve"}
                many.send_headers(number, head.items())
            client.sendall(many.data_to_send())
            while client.recv(65536):  # it is over when the server ends it
                pass
        assert call(grpc, f"{CONTROL}ListWorkers", messages.Empty(), messages.ListWorkersResponse).record
    assert api.answers()
    assert api.process is not None

    def threads() -> int:
        workers = Path(f"/proc/{api.process.pid}/task").parent  # type: ignore[union-attr]
        children = (workers / "task" / str(api.process.pid) / "children").read_text().split()  # type: ignore[union-attr]
        return sum(len(os.listdir(f"/proc/{child}/task")) for child in children)

    eventually(lambda: threads() < 100)


A, B = Caller(1001, 1001, ()), Caller(1002, 1002, ())


@pytest.fixture
def pair() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        yield Connection(ours, opens=True)
    ours.close()


def test_sessions_and_builds_are_their_callers_alone(pair: Connection) -> None:
    asked = threading.Event()
    asked.set()  # it does not wait for what is about to come
    sessions, builds = Sessions(), Builds()
    with sessions.offered(A, Session(pair, "s", "", ())), builds.begun(A, "r", "s", threading.Event()):
        assert sessions.of(A, "s", asked).id == "s"
        assert builds.of(A, "r", asked)
        with pytest.raises(RpcError, match="no active session"):
            sessions.of(B, "s", asked)
        with pytest.raises(RpcError, match="no such build"):
            builds.of(B, "r", asked)
        with pytest.raises(RpcError, match="exists"), sessions.offered(A, Session(pair, "s", "", ())):
            pass
        with sessions.offered(B, Session(pair, "s", "", ())):
            pass
    with pytest.raises(RpcError, match="no active session"):
        sessions.of(A, "s", asked)


def test_who_has_too_many_connections_is_told() -> None:
    door = Door(None)  # type: ignore[arg-type]
    for _ in range(MOST_CONNECTIONS):
        door.require_room(A)
        door._connections.enter(A.uid)
    door.require_room(B)
    with pytest.raises(ApiError, match="yours already"):
        door.require_room(A)
    ours, theirs = socket.socketpair()
    with theirs:
        door.serve(ours, b"", A, pytest.fail, lambda *_: None)
        assert theirs.recv(1000).endswith(b"yours already: end some")
        assert theirs.recv(1) == b""


def test_what_a_build_asks_for_has_a_bound() -> None:
    with Builds().begun(A, "r", "s", threading.Event()) as build:
        assert build.remember("one", 1 << 20) != build.remember("two", 1 << 20)
        with pytest.raises(RpcError, match="more than"):
            build.remember("three", 1)


class Sink:
    """A stream that takes headers."""

    headers = ((b":path", b"/x"),)

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []

    def send_headers(self, headers: list[tuple[bytes, bytes]], *, end: bool) -> None:
        assert end
        self.sent += headers

    def when_gone(self, _call: object) -> None: ...

    def close(self) -> None: ...


def test_names_that_are_not_utf8_are_told_all_the_same() -> None:
    sink = Sink()
    Call(sink).finish(Code.NOT_FOUND, "no file \udcff")  # type: ignore[arg-type]
    assert dict(sink.sent)[b"grpc-message"] == b"no file %5Cudcff"
    progress, gone = Progress("r"), threading.Event()
    progress.emit(StepStarted(1, 0.0))
    progress.emit(StepProgress(1, "file \udcff", 1, 2))
    progress.emit(StepFinished(1, "failed", 0.0, 1.0, "no file \udcff"))
    progress.end()
    *_, last = progress.follow(gone)
    assert last.vertices[0].error == "no file ?"


def test_a_peer_that_asks_and_takes_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_MOST_QUEUED", 300 << 10)
    monkeypatch.setattr(transport, "PATIENCE_S", 4.0)
    ours, theirs = socket.socketpair()
    connection = Connection(ours, opens=False)
    reader = threading.Thread(target=connection.run, args=(lambda _stream: None,), daemon=True)
    reader.start()
    with theirs, contextlib.suppress(OSError):
        theirs.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        for _ in range(1000):
            theirs.sendall((b"\0\0\x08\x06" + b"\0" * 13) * 4096)  # pings
    reader.join(stretched(20))
    assert not reader.is_alive()
    assert connection._ended == "the client takes no answers"


def test_a_stream_that_takes_nothing_is_not_waited_for_because_others_do(
    pair: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockerapi.buildkit.httpstream.PATIENCE_S", 0.3)
    head = [(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"x")]
    stream, is_over = pair.open(head), threading.Event()

    def others() -> None:
        while not is_over.wait(0.02):
            with pair.lock:
                stream.wake()

    thread = threading.Thread(target=others)
    thread.start()
    with pytest.raises(StreamError, match="has taken nothing"):
        stream.write(b"x" * (1 << 20))
    is_over.set()
    thread.join()


def test_a_peer_that_owes_a_message_is_waited_for_only_so_long(pair: Connection) -> None:
    stream = pair.open([(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"x")])
    with pytest.raises(StreamError, match="has sent nothing"):
        stream.read(0.05)
    pair.end("over")
    with pytest.raises(StreamError, match="over"):
        stream.read(stretched(60))
