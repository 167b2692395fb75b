"""Containers in pages: what they make of an engine's answers, who sees and does what. The engine is a stand-in.

With a real one: tests/web/browser/test_container_pages.py.
"""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pipelines.service import Service
from tests.toolkit.standin import HOSTILE, Standin, container, identity
from tests.web.guard.signing import csrf, sign_in
from web.app import create_app
from web.backing import engine
from web.engines.client import EngineAwayError, EngineClient, Stream, reference
from web.engines.documents import changes_of, containers_of, facts_of
from web.engines.downloads import Downloads
from web.engines.engines import ContainerEngine
from web.engines.frames import FrameError, FrameParser
from web.engines.samples import Samples, sample_of
from web.errors import NotFoundError, UnavailableError

WEB = f"/containers/{identity(1)[:12]}"


@pytest.fixture
def standin() -> Iterator[Standin]:
    folder = Path(tempfile.mkdtemp(prefix="shiplap-", dir="/tmp"))  # a socket's path is short
    with Standin(folder / "engine.sock") as standin:
        standin.stock()
        yield standin
    shutil.rmtree(folder)


@pytest.fixture
def app(service: Service, standin: Standin) -> Flask:
    service.settings = service.settings._replace(engine=str(standin.path))
    return create_app(service)


def signed(app: Flask, service: Service, role: str) -> FlaskClient:
    client = app.test_client()
    sign_in(client, service, role, role)  # type: ignore[arg-type]
    return client


def told(answer: TestResponse) -> Any:
    """An answer's JSON."""
    assert answer.status_code == 200, answer.text
    return answer.json


def test_list_shows_first_what_needs_somebody(app: Flask, service: Service) -> None:
    client = signed(app, service, "viewer")
    text = client.get("/containers").text
    at = [text.index(f"<bdi>{name}</bdi>") for name in ("shop-worker-1", "evil", "shop-db-1", "shop-web-1", "migrate")]
    assert at == sorted(at)
    assert 'Failing health <span class="soft num">1</span>' in text
    assert 'Running <span class="soft num">4</span>' in text
    assert HOSTILE not in text, "names and labels are text"
    failing = client.get("/containers?show=failing").text
    assert ("shop-worker-1" in failing, "shop-web-1" in failing) == (True, False)
    assert "shop-db-1" not in client.get("/containers?text=evil").text
    part = client.get("/containers", headers={"HX-Request": "true"})
    assert part.status_code == 200
    again = client.get("/containers", headers={"HX-Request": "true", "If-None-Match": part.headers["ETag"]})
    assert again.status_code in (200, 304), "figures may have come"


def test_roles_decide_what_is_seen_and_done(app: Flask, service: Service, standin: Standin) -> None:
    """Viewers see what there is, members what it writes, and stop it; the rest is administrators'."""
    viewer, member, admin = (signed(app, service, role) for role in ("viewer", "member", "admin"))
    page = viewer.get(WEB).text
    assert "of-the-database" not in page, "the environment"
    assert 'id="log"' not in page
    assert "/usr/bin/tide" not in page, "the command, which may have a password"
    assert "/usr/bin/tide" in member.get(WEB).text
    assert viewer.get(f"{WEB}/since/0/log").status_code == 403
    assert viewer.post(f"{WEB}/stop", data={"_csrf": csrf(viewer)}).status_code == 403
    assert 'id="log"' in member.get(WEB).text
    for path in ("files", "inspect", "shell", "terminal", "files/tar"):
        assert member.get(f"{WEB}/{path}").status_code == 403, path
    assert member.post(f"{WEB}/remove", data={"_csrf": csrf(member)}).status_code == 403
    assert "of-the-database" in admin.get(f"{WEB}/inspect").text
    standin.asked.clear()
    assert member.post(f"{WEB}/stop", data={"_csrf": "of another session"}).status_code == 403
    assert standin.asked == []
    answer = member.post(f"{WEB}/stop", data={"_csrf": csrf(member)})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{WEB}?done=stopped")
    entry = service.audit.list(limit=1)[0]
    assert (entry.actor, entry.action, entry.subject) == (
        "member",
        "stop container",
        f"shop-web-1 ({identity(1)[:12]})",
    )


def test_log_has_numbers_from_a_moment_on(app: Flask, service: Service, standin: Standin) -> None:
    client = signed(app, service, "member")
    lines = told(client.get(f"{WEB}/since/0/log?first=200&limit=3"))
    assert [line["n"] for line in lines["lines"]] == [200, 201, 202]
    assert lines["lines"][1]["text"] == "ERROR: no tide table for 1912"
    assert lines["next"] == 203
    later = standin.began_ns + 200 * 1_000_000
    assert told(client.get(f"{WEB}/since/{later}/log?first=1&limit=1"))["lines"][0]["text"].startswith("ERROR")
    marks = told(client.get(f"{WEB}/since/0/log/marks"))
    assert (marks["lines"], marks["errors"]) == (399, [201])
    standin.logs[identity(1)] += [(1, b"half of "), (2, b"fatal: no more\n"), (1, b"a line\n")]
    marks = told(client.get(f"{WEB}/since/0/log/marks?after=399"))
    assert (marks["lines"], marks["errors"]) == (401, [400])
    assert told(client.get(f"{WEB}/since/0/log?first=401"))["lines"][0]["text"] == "half of a line"
    assert told(client.get(f"{WEB}/since/0/log/matches?text=TIDE+table")) == {"lines": [201]}
    standin.containers[0]["State"] = "exited"  # one that runs may write more
    events = client.get(f"{WEB}/since/0/events", headers={"Last-Event-ID": "400"}).text
    assert events.count("id: ") == 1
    assert events.endswith("event: end\ndata: {}\n\n")
    assert b"half of a line\n" in client.get(f"{WEB}/since/0/log/text").data


def test_lines_that_are_not_kept_any_more_are_gone(app: Flask, service: Service, standin: Standin) -> None:
    """And never others under their numbers."""
    client = signed(app, service, "member")
    first = standin.began_ns
    assert told(client.get(f"{WEB}/since/{first}/log/marks"))["lines"] == 399
    standin.began_ns += 10**9
    for path in ("log?first=1", "events"):
        assert client.get(f"{WEB}/since/{first}/{path}").status_code == 410, path
    assert client.get("/containers/nobody/since/0/events").status_code == 404


def test_engine_that_is_away_is_said_with_what_to_do(app: Flask, service: Service, standin: Standin) -> None:
    client = signed(app, service, "admin")
    standin.path.unlink()
    for path in ("/containers", "/networks", "/volumes"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "shiplap engine" in answer.text
    assert client.get(WEB).status_code == 503
    assert client.get("/find?q=shop").status_code == 200


def test_slow_engine_is_waited_for_once_by_all_who_look_at_other_pages() -> None:
    now, asked = 0.0, list[str]()

    class Slow(EngineClient):
        def get(self, path: str, /, **_: Any) -> Any:
            asked.append(path)
            raise UnavailableError("the engine has not answered in time")

    known = ContainerEngine("/nowhere", clock=lambda: now)
    known.client = Slow("/nowhere")
    assert [*known.lately(), *known.lately()] == []
    assert len(asked) == 1
    now = 16.0
    known.lately()
    assert len(asked) == 2


def test_without_an_engine_the_pages_say_how_to_have_one(service: Service) -> None:
    app = create_app(service)
    client = signed(app, service, "viewer")
    assert "shiplap serve --engine" in client.get("/containers").text
    assert client.get(WEB).status_code == 404
    with app.app_context():
        assert engine() is None


def test_palette_finds_containers_for_who_sees_them(app: Flask, service: Service) -> None:
    viewer, guest = signed(app, service, "viewer"), signed(app, service, "guest")
    found = told(viewer.get("/find?q=shop-web", headers={"Accept": "application/json"}))
    assert {"symbol": "box", "text": "shop-web-1", "kind": "container healthy", "path": WEB} in found
    assert "shop-web-1" not in guest.get("/find?q=shop-web").text
    assert guest.get("/containers").status_code == 403


@pytest.mark.parametrize("name", ["..", "a/b", "a%2fb", "", "a?b", "a b", "é", "-x", "a" * 200])
def test_nothing_but_names_gets_into_a_path(name: str) -> None:
    with pytest.raises(NotFoundError):
        reference(name)


@pytest.mark.parametrize(
    "document",
    [None, [], 7, "x", {"State": 1, "Config": [], "Mounts": {}, "NetworkSettings": {"Ports": {"x": [1]}}},
     {"State": {"Health": {"Log": [None, {"ExitCode": "1"}]}}, "Config": {"Labels": {"a": 1}}, "Args": [{}]}],
)  # fmt: skip
def test_documents_of_another_form_harm_nothing(document: object) -> None:
    facts_of(document)
    for each in (containers_of, changes_of):
        try:
            each(document)
        except UnavailableError:
            continue
    assert sample_of(document, None) is None


@pytest.mark.parametrize("data", [b"\x07" * 8, struct.pack(">B3xI", 1, 1 << 30), struct.pack(">B3xI", 0, 3) + b"abc"])
def test_frames_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameParser(is_terminal=False).feed(data)


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
     b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"],
)  # fmt: skip
def test_what_is_no_engine_is_an_error_with_a_hint(answer: bytes, tmp_path: Path) -> None:
    path = Path(tempfile.mkdtemp(dir="/tmp")) / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EngineAwayError) as caught, EngineClient(str(path)).stream("/x") as stream:
            list(stream.pieces())
        thread.join()
    shutil.rmtree(path.parent)
    assert "SHIPLAP_ENGINE" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("headers", "begin"),
    [({"transfer-encoding": "chunked"}, b"1"), ({}, b"an error without an end")],
    ids=["a size without an end", "an error without an end"],
)  # fmt: skip
def test_no_more_of_an_answer_is_taken_than_it_may_have(headers: dict[str, str], begin: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"1" * 100_000)  # and nothing more: who waited for it would wait for ever
        stream = Stream(ours, headers, begin)
        if headers:
            with pytest.raises(ConnectionResetError, match="no chunks"):
                next(stream.pieces())
        else:
            assert len(stream.begin()) < 200_000


def test_figures_are_taken_only_while_somebody_looks(standin: Standin) -> None:
    now = 0.0
    samples = Samples(EngineClient(str(standin.path)), clock=lambda: now)
    samples._is_running = True  # no thread: this test is its clock
    samples.of([identity(1)])
    assert samples.take()
    assert samples.take()
    cpu = [each.cpu for each in samples.of([identity(1)])[identity(1)]]
    assert cpu[0] is None
    assert cpu[1] is not None
    assert cpu[1] > 0
    now = 60.0
    assert not samples.take()
    assert container(1, "x", "running")["Id"] == identity(1)


def test_slow_clients_that_save_logs_keep_nobody_from_theirs(
    app: Flask, service: Service, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine who take nothing, and the tenth is served at once: the slowest are cut, and readers are not even asked."""
    now = 0.0
    monkeypatch.setattr("web.engines.lines._downloads", Downloads(2, clock=lambda: now))
    standin.logs[identity(1)] = [(1, b"%d %b\n" % (n, b"x" * 1000)) for n in range(1000)]
    client = signed(app, service, "member")
    stalled = []
    for _ in range(9):
        answer = client.get(f"{WEB}/since/0/log/text", buffered=False)
        taken: Iterator[bytes] = answer.iter_encoded()
        assert next(taken).startswith(b"0 xxx")
        stalled.append(taken)
        now += 6.0
    whole = client.get(f"{WEB}/since/0/log/text").data
    assert whole.count(b"\n") == 1000
    assert told(client.get(f"{WEB}/since/0/log?first=1000&limit=1"))["lines"][0]["n"] == 1000
    with pytest.raises(ConnectionResetError):
        next(stalled[0])
    assert b"".join(stalled[-1]).endswith(whole[-2000:]), "who was not in anybody's way has the rest"


def test_what_a_client_took_fast_is_no_right_to_stand_still() -> None:
    now = 0.0
    downloads = Downloads(1, clock=lambda: now)
    ours, far = socket.socketpair()
    with ours, far, downloads.place() as first:
        taken = first.pieces(Stream(ours, {}, b""), iter([b"x" * (16 << 20)] * 3))
        assert len(next(taken)) == len(next(taken))
        now += 61.0
        with downloads.place(), pytest.raises(ConnectionResetError):
            next(taken)
        assert far.recv(1) == b"", "the engine has an end of it, too"


def test_a_log_that_was_cut_while_the_engine_was_waited_for_has_no_end() -> None:
    ours, far = socket.socketpair()

    def cut() -> Iterator[bytes]:
        yield b"a piece"
        download.cut()  # and the engine's connection ends as after the last piece

    with ours, far, Downloads(1).place() as download, pytest.raises(ConnectionResetError):
        list(download.pieces(Stream(ours, {}, b""), cut()))
