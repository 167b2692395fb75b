"""What goes wrong on the way ends in an error of the protocol or in success: never a wrong blob, never a lost one."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from images.store import Store
from images.verify import verify
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import InProcess, Server, code_of, digest_of, manifest_of, serving


def _sizes(root: Path) -> list[int]:
    directory = root / "serve" / "uploads"
    return [path.stat().st_size for path in directory.iterdir()] if directory.exists() else []


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():  # the test's own time limit ends it
        time.sleep(0.01)


def _send_part(server: Server, path: str, head: str, body: bytes) -> socket.socket:
    """Send a request's head and the beginning of its body."""
    host, port = server.host.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"{head} {path} HTTP/1.1\r\nHost: {server.host}\r\n".encode() + body)
    return connection


def _begin(server: Server, name: str = "team/app") -> str:
    return server("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]


def test_truncated_body_keeps_what_came_and_is_resumed(server: Server) -> None:
    data = os.urandom(3 << 20)
    location = _begin(server)
    with _send_part(server, location, "PATCH", f"Content-Length: {len(data)}\r\n\r\n".encode() + data[: 1 << 20]):
        _wait_for(lambda: _sizes(server.root) == [1 << 20])
    at = 1 << 20
    assert server("GET", location).headers["Range"] == f"0-{at - 1}"
    response = server("PATCH", location, body=data[at:], headers={"Content-Range": f"{at}-{len(data) - 1}"})
    assert response.status == 202
    created = server("PUT", f"{location}?digest={digest_of(data)}")
    assert created.status == 201
    assert server("GET", created.headers["Location"]).data == data


@pytest.mark.parametrize("body", [b"5\r\nhello\r\nXX", b"ffffffffff\r\nhel", b"5\r\nhelloo\r\n"])
def test_damaged_chunked_body_is_no_blob(server: Server, body: bytes) -> None:
    location = _begin(server)
    path = f"{location}?digest={digest_of(b'hello')}"
    with _send_part(server, path, "PUT", b"Transfer-Encoding: chunked\r\n\r\n" + body) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or int(answer.split()[1]) == 400
    assert server("HEAD", f"/v2/team/app/blobs/{digest_of(b'hello')}").status == 404


def test_truncated_monolithic_post_leaves_nothing(server: Server) -> None:
    path = f"/v2/team/app/blobs/uploads/?digest={digest_of(b'hello')}"
    with _send_part(server, path, "POST", b"Content-Length: 5\r\n\r\nhel") as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert int(answer.split()[1]) == 400
    assert _sizes(server.root) == []


def test_truncated_manifest_is_no_manifest(server: Server) -> None:
    with _send_part(server, "/v2/team/app/manifests/v1", "PUT", b"Content-Length: 500\r\n\r\n{}") as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert int(answer.split()[1]) == 400


def test_more_than_content_range_says_is_dropped(client: InProcess) -> None:
    location = client.begin()
    client("PATCH", location, data=b"hello")
    response = client(
        "PATCH",
        location,
        input_stream=io.BytesIO(b"world and more"),
        headers={"Transfer-Encoding": "chunked", "Content-Range": "5-9"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, code_of(response)) == (400, "SIZE_INVALID")
    assert client("GET", location).headers["Range"] == "0-4"
    assert client("PUT", f"{location}?digest={digest_of(b'hello')}").status_code == 201


def test_endless_manifest_is_refused_before_it_is_read(server: Server) -> None:
    with _send_part(server, "/v2/team/app/manifests/v1", "PUT", b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(5):
            connection.sendall(chunk)
        assert int(connection.recv(65536).split()[1]) == 413


def test_hash_state_that_was_lost_is_made_again(make_bench: Callable[..., Bench]) -> None:
    first = make_bench().client
    location = first.begin()
    first("PATCH", location, data=b"hello ")
    second = make_bench().client  # as after a restart
    assert second("PATCH", location, data=b"wor").status_code == 202
    assert first("PATCH", location, data=b"ld").status_code == 202  # whose state is stale by now
    assert second("PUT", f"{location}?digest={digest_of(b'hello world')}").status_code == 201


def test_two_requests_do_not_write_to_one_upload_at_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    identity = bench.registry.uploads.begin("team/app")
    entered, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"first "
        entered.set()
        go_on.wait()
        yield b"chunk, "

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(bench.registry.uploads.append, "team/app", identity, slowly(), start=None, length=None)
        entered.wait()
        late = pool.submit(bench.registry.uploads.append, "team/app", identity, [b"second"], start=None, length=None)
        go_on.set()
        assert (slow.result(), late.result()) == (13, 19)
    blob = bench.registry.uploads.finish("team/app", identity, digest_of(b"first chunk, second"), [])
    assert bench.registry.content.read(blob.content) == b"first chunk, second"


def test_many_uploads_of_one_digest_at_once(server: Server) -> None:
    data = os.urandom(1 << 20)
    path = f"/v2/team/app/blobs/uploads/?digest={digest_of(data)}"
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server("POST", path, body=data).status, range(32)))
    assert answers == [201] * 32
    assert server("GET", f"/v2/team/app/blobs/{digest_of(data)}").data == data
    assert _sizes(server.root) == []
    server.stop()
    with Store.open(server.root) as store:
        assert verify(store) == []


def test_pulls_during_pushes_see_whole_images(server: Server) -> None:
    failures: list[str] = []
    stop = threading.Event()

    def pull() -> None:
        while not stop.is_set():
            manifest = server("GET", "/v2/team/app/manifests/latest")
            if manifest.status == 200:
                for layer in manifest.json()["layers"]:
                    blob = server("GET", f"/v2/team/app/blobs/{layer['digest']}")
                    if blob.status != 200 or digest_of(blob.data) != layer["digest"]:
                        failures.append(f"{blob.status} {layer}")

    with ThreadPoolExecutor(4) as pool:
        pulls = [pool.submit(pull) for _ in range(4)]
        for number in range(20):
            layer = os.urandom(100_000)
            for blob in (b"{}", layer):
                server("POST", f"/v2/team/app/blobs/uploads/?digest={digest_of(blob)}", body=blob)
            pushed = server("PUT", "/v2/team/app/manifests/latest", body=manifest_of(b"{}", [layer], n=number))
            assert pushed.status == 201
        stop.set()
        for running in pulls:
            running.result()
    assert failures == []


def test_killed_in_the_middle_of_an_upload_then_resumed(tmp_path: Path) -> None:
    data = os.urandom(8 << 20)
    with serving(tmp_path / "root") as server:
        location = _begin(server)
        sent = _send_part(server, location, "PATCH", f"Content-Length: {len(data)}\r\n\r\n".encode() + data[: 3 << 20])
        _wait_for(lambda: _sizes(server.root)[0] >= 2 << 20)
        server.kill()
        sent.close()
        server.start()
        at = int(re.fullmatch(r"0-(\d+)", server("GET", location).headers["Range"])[1]) + 1  # type: ignore[index]
        assert 2 << 20 <= at <= 3 << 20
        headers = {"Content-Range": f"{at}-{len(data) - 1}"}
        assert server("PATCH", location, body=data[at:], headers=headers).status == 202
        created = server("PUT", f"{location}?digest={digest_of(data)}")
        assert created.status == 201
        assert server("GET", created.headers["Location"]).data == data


def test_killed_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    with serving(tmp_path / "root") as server:
        for round_ in range(6):

            def push(number: int) -> None:
                with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):  # once the server is killed
                    while True:
                        data = os.urandom(50_000 + number)
                        path = f"/v2/team/app/blobs/uploads/?digest={digest_of(data)}"
                        if server("POST", path, body=data).status == 201:
                            acknowledged[digest_of(data)] = data

            threads = [threading.Thread(target=push, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            wanted = len(acknowledged) + 5 + round_
            _wait_for(lambda wanted=wanted: len(acknowledged) >= wanted)  # type: ignore[misc]
            server.kill()
            for thread in threads:
                thread.join()
            server.start()
        for digest, data in acknowledged.items():
            assert server("GET", f"/v2/team/app/blobs/{digest}").data == data
        assert server.stop() == 0
    with Store.open(tmp_path / "root") as store:
        assert verify(store) == []


def test_clients_that_stand_still_are_let_go(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("stalled_s = 0.2")
    with serving(tmp_path / "root", "--config", str(tmp_path / "rules.toml")) as server:
        location = _begin(server)
        body = b"Content-Length: 3000000\r\n\r\n" + bytes(1 << 20)
        with _send_part(server, location, "PATCH", body) as connection:
            assert int(connection.recv(65536).split()[1]) == 400
        assert server("GET", location).headers["Range"] == f"0-{(1 << 20) - 1}"


def test_stopping_lets_running_requests_end(server: Server) -> None:
    data = os.urandom(2 << 20)
    half = 1 << 20
    path = f"/v2/team/app/blobs/uploads/?digest={digest_of(data)}"
    with _send_part(server, path, "POST", f"Content-Length: {len(data)}\r\n\r\n".encode() + data[:half]) as connection:
        _wait_for(lambda: _sizes(server.root) == [half])
        server.process.terminate()
        connection.sendall(data[half:])
        assert int(connection.recv(65536).split()[1]) == 201
    assert server.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path, privileged: None) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", directory], check=True)
    try:
        yield directory / "root"
    finally:
        subprocess.run(["umount", directory], check=True)


def test_full_disk_in_the_middle_of_an_upload(small_disk: Path) -> None:
    small, large = os.urandom(1 << 20), os.urandom(40 << 20)
    with serving(small_disk) as server:
        location = _begin(server)
        assert server("PATCH", location, body=small).status == 202
        full = server("PATCH", location, body=large)
        assert (full.status, json.loads(full.data)["errors"][0]["code"]) == (507, "UNAVAILABLE")
        assert server("GET", location).headers["Range"] == f"0-{len(small) - 1}"
        assert server("PUT", f"{location}?digest={digest_of(small)}").status == 201
        path = f"/v2/team/app/blobs/uploads/?digest={digest_of(large)}"
        assert server("POST", path, body=large).status == 507
        assert server("GET", f"/v2/team/app/blobs/{digest_of(small)}").data == small
        assert _sizes(small_disk) == []
    with Store.open(small_disk) as store:
        assert verify(store) == []


def test_memory_stays_flat_for_a_large_blob(server: Server) -> None:
    piece, count = os.urandom(1 << 20), 600
    hasher = hashlib.sha256()
    for _ in range(count):
        hasher.update(piece)
    location = _begin(server)
    host, port = server.host.split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request(
        "PUT",
        f"{location}?digest=sha256:{hasher.hexdigest()}",
        body=(piece for _ in range(count)),
        headers={"Content-Length": str(count << 20)},
    )
    assert connection.getresponse().status == 201
    connection.close()
    received = 0
    with server.http.request(
        "GET", f"{server.url}/v2/team/app/blobs/sha256:{hasher.hexdigest()}", preload_content=False
    ) as response:
        for data in response.stream(1 << 20):
            received += len(data)
    assert received == count << 20
    assert server.peak_memory() < 150 << 20
