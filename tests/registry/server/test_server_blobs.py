"""Blobs and uploads: every endpoint with every status. docs/registry.md lists these tests beside the statuses."""

from __future__ import annotations

import fcntl
import io
import sqlite3
from pathlib import Path
from typing import BinaryIO

import pytest

from core.digests import Digest
from registry.server import uploads
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import (
    InProcess,
    code_of,
    digest_of,
)

_ABSENT = digest_of(b"nobody has this")
_MALFORMED = ["sha256:baddigeststring", "sha256:", f"sha256:{'A' * 64}", "md5:d41d8cd98f00b204e9800998ecf8427e", "x:y"]
_BAD_NAMES = ["A", "a//b", "a/../b", "../a", "a_", "-a", "a/.b", "ä", "a b", "a" * 256]


# /v2/


def test_base_200(client: InProcess) -> None:
    response = client("GET", "/v2/")
    assert response.status_code == 200
    assert response.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert response.json == {}


def test_unknown_route_404(client: InProcess) -> None:
    response = client("GET", "/v2/a/b/nothing")
    assert response.status_code == 404
    assert code_of(response) == "UNSUPPORTED"


def test_unknown_method_405(client: InProcess) -> None:
    response = client("POST", f"/v2/a/b/blobs/{_ABSENT}")
    assert response.status_code == 405
    assert code_of(response) == "UNSUPPORTED"
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("name", _BAD_NAMES)
def test_bad_name_400(client: InProcess, name: str) -> None:
    for method, path in (("GET", "tags/list"), ("POST", "blobs/uploads/"), ("PUT", "manifests/latest")):
        response = client(method, f"/v2/{name}/{path}")
        assert response.status_code in (400, 404), name
        assert code_of(response) in ("NAME_INVALID", "UNSUPPORTED")


# /v2/<name>/blobs/<digest>


def test_blob_get_200(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("GET", f"/v2/team/app/blobs/{digest}")
    assert (response.status_code, response.data) == (200, b"hello")
    assert response.headers["Docker-Content-Digest"] == digest
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Accept-Ranges"] == "bytes"
    response.close()


def test_blob_head_200(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("HEAD", f"/v2/team/app/blobs/{digest}")
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Content-Length"] == "5"
    assert response.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize(
    ("asked", "sent", "announced"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
    ],
)
def test_blob_range_206(client: InProcess, asked: str, sent: bytes, announced: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert (response.status_code, response.data) == (206, sent)
    assert response.headers["Content-Range"] == announced
    assert response.headers["Content-Length"] == str(len(sent))
    response.close()


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=5-0", "bytes=-0"])
def test_blob_range_416(client: InProcess, asked: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */10"
    assert code_of(response) == "RANGE_INVALID"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=1-2", "bytes=", "bytes=a-b"])
def test_blob_range_that_need_not_be_understood_200(client: InProcess, asked: str) -> None:
    digest = client.push_blob(b"0123456789")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"Range": asked})
    assert (response.status_code, response.data) == (200, b"0123456789")
    response.close()


def test_blob_304(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    response = client("GET", f"/v2/team/app/blobs/{digest}", headers={"If-None-Match": f'"{digest}"'})
    assert (response.status_code, response.data) == (304, b"")


@pytest.mark.parametrize("digest", _MALFORMED)
def test_blob_malformed_digest_400(client: InProcess, digest: str) -> None:
    for method in ("GET", "DELETE"):
        response = client(method, f"/v2/team/app/blobs/{digest}")
        assert response.status_code == 400
        assert code_of(response) == "DIGEST_INVALID"


def test_blob_404(client: InProcess) -> None:
    response = client("GET", f"/v2/team/app/blobs/{_ABSENT}")
    assert response.status_code == 404
    assert code_of(response) == "BLOB_UNKNOWN"
    assert client("HEAD", f"/v2/team/app/blobs/{_ABSENT}").status_code == 404


def test_blob_of_another_repository_404(client: InProcess) -> None:
    digest = client.push_blob(b"secret", name="other/app")
    client.push_blob(b"mine")
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 404


def test_blob_delete_202_and_404(client: InProcess) -> None:
    digest = client.push_blob(b"hello")
    client.push_blob(b"hello", name="other/app")
    assert client("DELETE", f"/v2/team/app/blobs/{digest}").status_code == 202
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 404
    assert client("DELETE", f"/v2/team/app/blobs/{digest}").status_code == 404
    assert client("HEAD", f"/v2/other/app/blobs/{digest}").status_code == 200


# /v2/<name>/blobs/uploads/


def test_upload_begin_202(client: InProcess) -> None:
    response = client("POST", "/v2/team/app/blobs/uploads/")
    assert response.status_code == 202
    assert response.headers["Location"].startswith("/v2/team/app/blobs/uploads/")
    assert response.headers["Range"] == "0-0"
    assert response.headers["Docker-Upload-UUID"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_upload_in_one_post_201(client: InProcess, algorithm: str) -> None:
    digest = digest_of(b"hello", algorithm)
    response = client("POST", f"/v2/team/app/blobs/uploads/?digest={digest}", data=b"hello")
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    assert response.headers["Docker-Content-Digest"] == digest


def test_upload_in_one_post_with_another_digest_400(client: InProcess) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?digest={_ABSENT}", data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"
    assert client("HEAD", f"/v2/team/app/blobs/{_ABSENT}").status_code == 404


@pytest.mark.parametrize("parameter", ["digest=sha256:bad", "mount=sha256:bad&from=a/b", "digest-algorithm=md5"])
def test_upload_begin_malformed_digest_400(client: InProcess, parameter: str) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?{parameter}")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


def test_mount_201(client: InProcess) -> None:
    digest = client.push_blob(b"hello", name="other/app")
    response = client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}&from=other/app")
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    assert client("HEAD", response.headers["Location"]).status_code == 200


def test_mount_without_source_201(client: InProcess) -> None:
    digest = client.push_blob(b"hello", name="other/app", algorithm="sha512")
    assert client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}").status_code == 201
    assert client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 200


def test_mount_of_what_was_built_here_copies_nothing(bench: Bench) -> None:
    digest = bench.store.blobs.put(b"a layer of the local store")
    inode = bench.store.blobs.path(digest).stat().st_ino
    assert bench.client("POST", f"/v2/team/app/blobs/uploads/?mount={digest}").status_code == 201
    assert bench.registry.content.path(digest).stat().st_ino == inode
    assert not list((bench.store.root / "serve" / "uploads").iterdir())


@pytest.mark.parametrize("source", ["other/app", "NOT/A/NAME", "nowhere"])
def test_mount_missing_202(client: InProcess, source: str) -> None:
    response = client("POST", f"/v2/team/app/blobs/uploads/?mount={_ABSENT}&from={source}")
    assert response.status_code == 202
    assert client("PUT", f"{response.headers['Location']}?digest={digest_of(b'x')}", data=b"x").status_code == 201


# /v2/<name>/blobs/uploads/<id>


def test_upload_status_204(client: InProcess) -> None:
    location = client.begin()
    client("PATCH", location, data=b"hello")
    response = client("GET", location)
    assert response.status_code == 204
    assert response.headers["Range"] == "0-4"
    assert response.headers["Location"] == location


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("identity", ["0" * 32, "..", "nothing", "%2e%2e%2ftoken.key"])
def test_upload_404(client: InProcess, method: str, identity: str) -> None:
    response = client(method, f"/v2/team/app/blobs/uploads/{identity}?digest={_ABSENT}", data=b"x")
    assert response.status_code in (400, 404)
    assert code_of(response) in ("BLOB_UPLOAD_UNKNOWN", "NAME_INVALID", "UNSUPPORTED", "DIGEST_INVALID")


def test_upload_of_another_repository_404(client: InProcess) -> None:
    location = client.begin(name="other/app").replace("other/app", "team/app")
    assert client("GET", location).status_code == 404


def test_upload_chunks_202_then_201(client: InProcess) -> None:
    location = client.begin()
    first = client("PATCH", location, data=b"hello ", headers={"Content-Range": "0-5"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-5")
    last = client(
        "PUT", f"{location}?digest={digest_of(b'hello world')}", data=b"world", headers={"Content-Range": "6-10"}
    )
    assert last.status_code == 201
    response = client("GET", last.headers["Location"])
    assert response.data == b"hello world"
    response.close()
    assert client("GET", location).status_code == 404


def test_upload_streamed_without_length_202(client: InProcess) -> None:
    location = client.begin()
    response = client(
        "PATCH",
        location,
        input_stream=io.BytesIO(b"hello"),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (response.status_code, response.headers["Range"]) == (202, "0-4")


@pytest.mark.parametrize("chunk", ["0-4", "9-13", "6-10", "nonsense", "5-1"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_upload_chunk_out_of_order_416(client: InProcess, method: str, chunk: str) -> None:
    location = client.begin()
    client("PATCH", location, data=b"hello")
    path = f"{location}?digest={_ABSENT}" if method == "PUT" else location
    response = client(method, path, data=b"world", headers={"Content-Range": chunk})
    assert response.status_code == 416
    assert code_of(response) == "BLOB_UPLOAD_INVALID"
    if chunk[0].isdigit() and chunk != "5-1":
        assert (response.headers["Location"], response.headers["Range"]) == (location, "0-4")
    assert client("GET", location).headers["Range"] == "0-4"


def test_upload_chunk_whose_range_is_not_its_length_400(client: InProcess) -> None:
    response = client("PATCH", client.begin(), data=b"hello", headers={"Content-Range": "0-99"})
    assert response.status_code == 400
    assert code_of(response) == "SIZE_INVALID"


def test_upload_finish_without_digest_400(client: InProcess) -> None:
    response = client("PUT", client.begin(), data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


def test_upload_finish_with_another_digest_400_and_is_over(client: InProcess) -> None:
    location = client.begin()
    response = client("PUT", f"{location}?digest={_ABSENT}", data=b"hello")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"
    assert client("GET", location).status_code == 404


def test_upload_cancel_204(client: InProcess) -> None:
    location = client.begin()
    assert client("DELETE", location).status_code == 204
    assert client("GET", location).status_code == 404
    assert client("DELETE", location).status_code == 404


def test_upload_that_another_request_is_writing_409(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_LOCK_WAIT_S", 0.0)
    location = bench.client.begin()
    path = bench.store.root / "serve" / "uploads" / location.rpartition("/")[2]
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for method, where in (("PATCH", location), ("PUT", f"{location}?digest={digest_of(b'x')}")):
            response = bench.client(method, where, data=b"x")
            assert response.status_code == 409
            assert code_of(response) == "BLOB_UPLOAD_INVALID"
    assert bench.client("PUT", f"{location}?digest={digest_of(b'x')}", data=b"x").status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_upload_that_ended_while_a_request_waited_for_it_404(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Who held the lock finished it: its bytes are a blob by now, and nobody may write to that file."""
    location = bench.client.begin()
    path = bench.store.root / "serve" / "uploads" / location.rpartition("/")[2]
    lock = uploads._lock

    def waited(file: BinaryIO) -> None:
        """The other request ends while this one waits, its file open."""
        monkeypatch.setattr(uploads, "_lock", lock)
        path.rename(path.with_name("kept"))
        kept.extend([path.with_name("kept")])
        with sqlite3.connect(bench.store.root / "store.db") as connection:
            connection.execute("DELETE FROM registry_uploads WHERE id = ?", (path.name,))
        lock(file)

    kept: list[Path] = []
    monkeypatch.setattr(uploads, "_lock", waited)
    where = location if method == "PATCH" else f"{location}?digest={digest_of(b'x')}"
    response = bench.client(method, where, data=b"x")
    assert (response.status_code, code_of(response)) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert kept[0].read_bytes() == b""


def test_mount_with_the_blob_in_the_body_201_by_either(client: InProcess) -> None:
    path = f"/v2/team/app/blobs/uploads/?mount={digest_of(b'here')}&digest={digest_of(b'here')}"
    for body in (b"here", b"not looked at"):
        assert client("POST", path, data=body).status_code == 201
    assert client.blob(digest_of(b"here")) == b"here"


def test_blob_that_is_known_to_be_damaged_is_absent_until_it_is_pushed_again(bench: Bench) -> None:
    data = b"whole" * 1000
    digest = bench.client.push_blob(data, name="a/b")
    file = bench.store.root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    file.chmod(0o600)
    file.write_bytes(b"Whole" + data[5:])
    bench.store.blobs.note_damaged(Digest(digest))
    assert bench.client("HEAD", f"/v2/a/b/blobs/{digest}").status_code == 404
    assert bench.client("GET", f"/v2/a/b/blobs/{digest}").status_code == 404
    assert bench.client("POST", f"/v2/c/d/blobs/uploads/?mount={digest}&from=a/b").status_code == 202
    assert bench.client("POST", f"/v2/c/d/blobs/uploads/?mount={digest}").status_code == 202
    bench.client.push_blob(data, name="a/b")
    response = bench.client("GET", f"/v2/a/b/blobs/{digest}")
    assert response.data == data
    response.close()
    assert file.read_bytes() == data
    assert bench.client("POST", f"/v2/c/d/blobs/uploads/?mount={digest}&from=a/b").status_code == 201
