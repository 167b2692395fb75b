"""What comes in a request to the registry, piece by piece: names, lengths, ranges, pages; and challenges of others."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from core.digests import Digest
from registry.client.challenges import Challenge, parse_challenges
from registry.server import http, names
from registry.server.errors import SpecError, size_invalid
from registry.server.settings import ServerSettings
from registry.server.uploads import BrokenBodyError


@pytest.fixture(scope="module")
def app() -> Flask:
    return Flask("pieces")


def code(error: pytest.ExceptionInfo[SpecError]) -> tuple[int, str]:
    return error.value.status, str(error.value.code.name)


@pytest.mark.parametrize(
    "name", ["a", "a/b", "a.b", "a_b", "a__b", "a--b", "a-b/c.d", "0", "a" * 255, "/".join(["a"] * 128)]
)
def test_names_of_repositories(name: str) -> None:
    assert names.parse_name(name) == name
    assert names.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "a/", "/a", "a//b", "a..b", "a___b", "-a", "a-", "a b", "a\n", "a" * 256, "ä"]
)
def test_what_names_no_repository(name: str) -> None:
    assert not names.is_name(name)
    with pytest.raises(SpecError) as refused:
        names.parse_name(name)
    assert code(refused) == (400, "NAME_INVALID")


def test_tags_and_references() -> None:
    digest = "sha256:" + "0" * 64
    for tag in ("a", "A.b-c_d", "_x", "0" * 128):
        assert names.parse_tag(tag) == names.parse_reference(tag) == tag
    for tag in ("", "-a", ".a", "a" * 129, "a/b", "a b"):
        with pytest.raises(SpecError) as refused:
            names.parse_tag(tag)
        assert code(refused) == (400, "TAG_INVALID")
        with pytest.raises(SpecError) as refused:
            names.parse_reference(tag)
        assert code(refused) == (404, "MANIFEST_UNKNOWN")
    assert names.parse_reference(digest) == names.parse_digest(digest) == Digest(digest)
    for text in ("sha256:" + "0" * 63, "md5:" + "0" * 32, "sha256:" + "A" * 64, "x:y"):
        with pytest.raises(SpecError) as refused:
            names.parse_reference(text)
        assert code(refused) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("header", "size", "found"),
    [
        (None, 10, None), ("bytes=0-0", 10, (0, 1)), ("bytes=0-", 10, (0, 10)), ("bytes=9-", 10, (9, 10)),
        ("bytes=2-5", 10, (2, 6)), ("bytes=2-99", 10, (2, 10)), ("bytes=-3", 10, (7, 10)), ("bytes=-30", 10, (0, 10)),
        ("bytes=0-1,3-4", 10, None), ("bytes=-", 10, None), ("lines=0-1", 10, None), ("bytes= 1 - 2 ", 10, (1, 3)),
    ],
)  # fmt: skip
def test_range_that_is_asked_for(app: Flask, header: str | None, size: int, found: tuple[int, int] | None) -> None:
    with app.test_request_context(headers={} if header is None else {"Range": header}):
        assert http.requested_range(size) == found


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=5-4", 10), ("bytes=-0", 10), ("bytes=-1", 0), ("bytes=0-0", 0)]
)
def test_range_of_nothing(app: Flask, header: str, size: int) -> None:
    with app.test_request_context(headers={"Range": header}), pytest.raises(SpecError) as refused:
        http.requested_range(size)
    assert code(refused) == (416, "RANGE_INVALID")
    assert refused.value.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("0-9", (0, 10)),
        ("bytes 5-5/*", (5, 1)),
        ("bytes=5-9/10", (5, 5)),
        (" 3-4 ", (3, 2)),
        ("5-4", (5, 0)),
    ],
)
def test_place_of_a_chunk(app: Flask, header: str | None, found: tuple[int, int] | None) -> None:
    headers = {"Transfer-Encoding": "chunked"} | ({} if header is None else {"Content-Range": header})
    with app.test_request_context(headers=headers):
        assert http.content_range() == found


@pytest.mark.parametrize("header", ["", "x", "5-3", "-5", "5-", "bytes 1-2/x"])
def test_place_of_a_chunk_that_is_none(app: Flask, header: str) -> None:
    with app.test_request_context(headers={"Content-Range": header}), pytest.raises(SpecError) as refused:
        http.content_range()
    assert refused.value.status == 416


def test_chunk_is_as_long_as_it_says(app: Flask) -> None:
    with app.test_request_context(headers={"Content-Range": "0-4"}, data=b"12345"):
        assert http.content_range() == (0, 5)
    with app.test_request_context(headers={"Content-Range": "0-4"}, data=b"1234"), pytest.raises(SpecError) as refused:
        http.content_range()
    assert code(refused) == (400, "SIZE_INVALID")


def test_length_of_a_body(app: Flask) -> None:
    with app.test_request_context():
        assert http.body_length() == 0
    with app.test_request_context(data=b"abc"):
        assert http.body_length() == 3
    with app.test_request_context(headers={"Transfer-Encoding": "chunked"}):
        assert http.body_length() is None
    for text in ("-1", "x", "١"):
        with app.test_request_context(environ_overrides={"CONTENT_LENGTH": text}), pytest.raises(SpecError):
            http.body_length()


class Body:
    """A body that comes in pieces, and may break."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self.pieces = list(pieces)
        self.broken = broken
        self.asked: list[int] = []

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        if self.pieces:
            return self.pieces.pop(0)
        if self.broken:
            raise ConnectionResetError
        return b""


def pieces(app: Flask, body: Any, length: int | None) -> Iterator[bytes]:
    environ: dict[str, Any] = {"wsgi.input": body}
    headers = {"Transfer-Encoding": "chunked"} if length is None else {}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    with app.test_request_context(headers=headers, environ_overrides=environ):
        yield from http.body_pieces()


def test_bodies_come_in_pieces(app: Flask) -> None:
    body = Body(b"ab", b"c")
    assert list(pieces(app, body, 3)) == [b"ab", b"c"]
    assert body.asked == [3, 1]
    assert list(pieces(app, Body(b"ab", b"c"), None)) == [b"ab", b"c"]
    large = Body(b"x" * (1 << 20), b"y")
    assert len(list(pieces(app, large, (1 << 20) + 1))) == 2
    assert large.asked == [1 << 20, 1]
    assert list(pieces(app, Body(), 0)) == []


@pytest.mark.parametrize(
    ("body", "length"), [(Body(b"ab"), 3), (Body(b"a", broken=True), None), (Body(broken=True), 1)]
)
def test_body_that_breaks_off(app: Flask, body: Body, length: int | None) -> None:
    with pytest.raises(BrokenBodyError):
        list(pieces(app, body, length))


def test_small_bodies_have_a_bound(app: Flask) -> None:
    too_large = size_invalid("too large")
    with app.test_request_context(data=b"abc"):
        assert http.read_body(3, too_large) == b"abc"
    with app.test_request_context(data=b"abcd"), pytest.raises(SpecError) as refused:
        http.read_body(3, too_large)
    assert refused.value is too_large
    chunked = {"headers": {"Transfer-Encoding": "chunked"}}
    for data, fits in ((b"abc", True), (b"abcd", False)):
        with app.test_request_context(environ_overrides={"wsgi.input": io.BytesIO(data)}, **chunked):
            if fits:
                assert http.read_body(3, too_large) == data
            else:
                with pytest.raises(SpecError):
                    http.read_body(3, too_large)
    broken = {"wsgi.input": Body(b"a"), "CONTENT_LENGTH": "2"}
    with app.test_request_context(environ_overrides=broken), pytest.raises(SpecError) as early:
        http.read_body(3, too_large)
    assert "ended early" in early.value.message


@pytest.mark.parametrize(("text", "limit"), [(None, None), ("0", 0), ("7", 7), ("9" * 18, int("9" * 18))])
def test_entries_of_a_page(app: Flask, text: str | None, limit: int | None) -> None:
    with app.test_request_context(query_string={} if text is None else {"n": text}):
        assert http.page_limit() == limit


@pytest.mark.parametrize("text", ["", "-1", "x", "١", "9" * 19])
def test_entries_of_a_page_that_are_no_number(app: Flask, text: str) -> None:
    with app.test_request_context(query_string={"n": text}), pytest.raises(SpecError) as refused:
        http.page_limit()
    assert code(refused) == (400, "PAGINATION_NUMBER_INVALID")


def test_link_to_the_next_page_is_right_behind_a_proxy(app: Flask) -> None:
    with app.test_request_context(environ_overrides={"SCRIPT_NAME": "/registry"}):
        found = http.next_link("/v2/a b/tags/list", {"n": 2, "last": "x&y", "none": None, "empty": "", "zero": 0})
        assert found == {"Link": '</registry/v2/a%20b/tags/list?n=2&last=x%26y&zero=0>; rel="next"'}
        assert http.location("/v2/") == "/registry/v2/"


def test_own_address_and_what_keeps_browsers_to_it(app: Flask) -> None:
    settings = ServerSettings(public_url="https://registry.example/", other_names=frozenset({"inside:5000"}))
    with app.test_request_context(base_url="http://other.example"):
        assert http.own_url(settings) == "https://registry.example"
        assert http.own_url(ServerSettings()) == "http://other.example"
    with app.test_request_context(base_url="http://inside:5000"):
        assert http.own_url(settings) == "http://inside:5000"
    assert http.transport_headers("https://a") == {"Strict-Transport-Security": "max-age=31536000"}
    assert http.transport_headers("http://a") == {}


def test_answers(app: Flask) -> None:
    with app.test_request_context():
        found = http.json_response({"a": "ä"}, 201, {"X": "y"})
        assert (found.data, found.status_code, found.headers["X"], found.mimetype) == (
            '{"a":"ä"}'.encode(), 201, "y", "application/json",
        )  # fmt: skip
        bare = http.empty(204, {"X": "y"})
        assert (bare.data, bare.status_code, "Content-Type" in bare.headers) == (b"", 204, False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Basic", [Challenge("basic")]),
        ('Basic realm="a"', [Challenge("basic", {"realm": "a"})]),
        ('Bearer realm="https://a/t",service="s",Scope=pull', [
            Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "pull"}),
        ]),
        ('Basic realm="a", Bearer realm="b, \\"c\\""', [
            Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": 'b, "c"'}),
        ]),
        ("Negotiate, Basic", [Challenge("negotiate"), Challenge("basic")]),
        ('Basic ???, realm="a"', [Challenge("basic", {"realm": "a"})]),
        ('"nothing", Basic', [Challenge("basic")]),
    ],
)  # fmt: skip
def test_challenges(text: str, found: list[Challenge]) -> None:
    assert parse_challenges(text) == found
