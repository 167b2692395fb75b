"""What a request says of bytes and pages: ranges to read, ranges to write, lengths, and links to the next page."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask

from registry.errors import ErrorCode
from registry.server.errors import SpecError
from registry.server.http import (
    body_length,
    body_pieces,
    content_range,
    json_response,
    next_link,
    own_url,
    page_limit,
    read_body,
    requested_range,
    transport_headers,
)
from registry.server.names import is_name, parse_digest, parse_name, parse_reference, parse_tag
from registry.server.settings import ServerSettings
from registry.server.uploads import BrokenBodyError

_app = Flask(__name__)
_LARGE = SpecError(413, ErrorCode.SIZE_INVALID, "too large")


def asked(path: str = "/", **more: Any) -> Any:
    """A request that is being answered."""
    return _app.test_request_context(path, **more)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)), ("bytes=2-5", 10, (2, 6)), ("bytes=2-", 10, (2, 10)), ("bytes=9-", 10, (9, 10)),
        ("bytes=2-99", 10, (2, 10)), ("bytes=-3", 10, (7, 10)), ("bytes=-99", 10, (0, 10)), ("bytes=-10", 10, (0, 10)),
        ("bytes= 2 - 5 ", 10, (2, 6)), (None, 10, None), ("bytes=-", 10, None), ("bytes=1-2,4-5", 10, None),
        ("lines=1-2", 10, None), ("bytes=-1", 1, (0, 1)),
    ],
)  # fmt: skip
def test_range_to_read(text: str | None, size: int, expected: tuple[int, int] | None) -> None:
    with asked(headers={} if text is None else {"Range": text}):
        assert requested_range(size) == expected


@pytest.mark.parametrize(
    ("text", "size"), [("bytes=10-", 10), ("bytes=5-4", 10), ("bytes=-0", 10), ("bytes=-1", 0), ("bytes=0-", 0)]
)
def test_range_that_has_nothing_to_read(text: str, size: int) -> None:
    with asked(headers={"Range": text}), pytest.raises(SpecError, match="range not satisfiable") as refused:
        requested_range(size)
    assert (refused.value.status, refused.value.code) == (416, ErrorCode.RANGE_INVALID)
    assert refused.value.headers == {"Content-Range": f"bytes */{size}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-9", (0, 10)), ("5-5", (5, 1)), ("bytes 5-9/20", (5, 5)), ("bytes=5-9/*", (5, 5)), (" 5-9 ", (5, 5)),
        ("5-4", (5, 0)), (None, None),
    ],
)  # fmt: skip
def test_range_to_write(text: str | None, expected: tuple[int, int] | None) -> None:
    headers = {"Transfer-Encoding": "chunked"} | ({} if text is None else {"Content-Range": text})
    with asked(method="PATCH", headers=headers):
        assert content_range() == expected


@pytest.mark.parametrize("text", ["5-3", "x", "1-", "-1", "1-2/x"])
def test_what_is_no_range_to_write(text: str) -> None:
    with (
        asked(method="PATCH", environ_base={"HTTP_CONTENT_RANGE": text, "HTTP_TRANSFER_ENCODING": "chunked"}),
        pytest.raises(SpecError, match="invalid Content-Range") as refused,
    ):
        content_range()
    assert (refused.value.status, refused.value.detail) == (416, {"range": text})


def test_range_to_write_is_as_long_as_the_body() -> None:
    with asked(method="PATCH", headers={"Content-Range": "5-9"}, data=b"12345"):
        assert content_range() == (5, 5)
    with (
        asked(method="PATCH", headers={"Content-Range": "5-9"}, data=b"1234"),
        pytest.raises(SpecError, match="Content-Range is of 5 bytes, Content-Length is 4") as refused,
    ):
        content_range()
    assert refused.value.status == 400


def test_length_is_a_number_or_unknown() -> None:
    with asked(method="PUT"):
        assert body_length() == 0
    with asked(method="PUT", data=b"123"):
        assert body_length() == 3
    with asked(method="PUT", headers={"Transfer-Encoding": "chunked", "Content-Length": "3"}):
        assert body_length() is None
    for text in ("-1", "x", "1 2", "³"):
        with (
            asked(method="PUT", environ_base={"CONTENT_LENGTH": text}),
            pytest.raises(SpecError, match="invalid Content-Length"),
        ):
            body_length()


def test_body_comes_in_pieces_of_a_mebibyte_and_no_more_than_was_announced() -> None:
    data = bytes(range(256)) * 6000
    with asked(method="PUT", data=data):
        pieces = list(body_pieces())
    assert [len(piece) for piece in pieces] == [1 << 20, len(data) - (1 << 20)]
    assert b"".join(pieces) == data
    with asked(method="PUT", input_stream=io.BytesIO(b"123456"), environ_overrides={"CONTENT_LENGTH": "4"}):
        assert b"".join(body_pieces()) == b"1234"
    with asked(method="PUT", input_stream=io.BytesIO(b"123456"), headers={"Transfer-Encoding": "chunked"}):
        assert b"".join(body_pieces()) == b"123456"


class _Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError


def test_body_that_ends_early_is_broken() -> None:
    short: dict[str, Any] = {"input_stream": io.BytesIO(b"12"), "environ_overrides": {"CONTENT_LENGTH": "4"}}
    with asked(method="PUT", **short), pytest.raises(BrokenBodyError):
        list(body_pieces())
    with (
        asked(method="PUT", input_stream=_Broken(), environ_overrides={"CONTENT_LENGTH": "4"}),
        pytest.raises(BrokenBodyError),
    ):
        list(body_pieces())
    short["input_stream"] = io.BytesIO(b"12")
    with asked(method="PUT", **short), pytest.raises(SpecError, match="the body ended early"):
        read_body(10, _LARGE)


def test_small_body_is_read_whole_up_to_its_bound() -> None:
    with asked(method="PUT", data=b"1234"):
        assert read_body(4, _LARGE) == b"1234"
    with asked(method="PUT", data=b"12345"), pytest.raises(SpecError, match="too large"):
        read_body(4, _LARGE)
    chunked = {"Transfer-Encoding": "chunked"}
    with asked(method="PUT", input_stream=io.BytesIO(b"1234"), headers=chunked):
        assert read_body(4, _LARGE) == b"1234"
    with (
        asked(method="PUT", input_stream=io.BytesIO(b"12345"), headers=chunked),
        pytest.raises(SpecError, match="too large"),
    ):
        read_body(4, _LARGE)


def test_page_has_as_many_entries_as_was_asked_for() -> None:
    for query, expected in (("", None), ("?n=0", 0), ("?n=100", 100), ("?n=" + "9" * 18, int("9" * 18))):
        with asked(f"/{query}"):
            assert page_limit() == expected
    for text in ("", "-1", "x", "9" * 19, "%C2%B3"):
        with asked(f"/?n={text}"), pytest.raises(SpecError, match="n is no number of entries") as refused:
            page_limit()
        assert (refused.value.status, refused.value.code) == (400, ErrorCode.PAGINATION_NUMBER_INVALID)


def test_next_page_is_linked_by_what_was_asked_for() -> None:
    with asked("/"):
        assert next_link("/v2/a b/tags", {"n": 2, "last": "x&y", "none": None, "empty": ""}) == {
            "Link": '</v2/a%20b/tags?n=2&last=x%26y>; rel="next"'
        }


def test_own_address_is_the_public_one_unless_another_known_name_was_used() -> None:
    settings = ServerSettings(access="open", public_url="https://r.example/", other_names=frozenset({"r.lan:5000"}))
    with asked("/", base_url="http://any:5000/"):
        assert own_url(settings) == "https://r.example"
        assert own_url(ServerSettings(access="open")) == "http://any:5000"
    with asked("/", base_url="http://r.lan:5000/"):
        assert own_url(settings) == "http://r.lan:5000"


def test_browsers_are_kept_to_https_where_it_is_the_address() -> None:
    assert transport_headers("https://r.example") == {"Strict-Transport-Security": "max-age=31536000"}
    assert transport_headers("http://r.example") == {}
    assert transport_headers("") == {}


def test_documents_are_compact_and_not_escaped() -> None:
    answer = json_response({"ä": [1, 2]}, 201, {"X-A": "b"})
    assert (answer.status_code, answer.data, answer.headers["X-A"]) == (201, '{"ä":[1,2]}'.encode(), "b")
    assert answer.mimetype == "application/json"
    assert json_response("\udc80").status_code == 200


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True), ("a/b-c__d.e", True), ("a" * 255, True), ("a" * 256, False), ("A", False), ("a//b", False),
        ("a/", False), ("-a", False), ("", False),
    ],
)  # fmt: skip
def test_names_of_repositories(name: str, good: bool) -> None:
    assert is_name(name) == good
    if good:
        assert parse_name(name) == name
    else:
        with pytest.raises(SpecError, match="invalid repository name") as refused:
            parse_name(name)
        assert (refused.value.status, refused.value.detail) == (400, {"name": name[:255]})


def test_tags_and_digests() -> None:
    digest = "sha256:" + "a" * 64
    assert (parse_reference("v1.0"), parse_reference(digest), parse_tag("t" * 128)) == ("v1.0", digest, "t" * 128)
    for text in ("", "-a", "a b", "t" * 129):
        with pytest.raises(SpecError, match="invalid tag") as refused:
            parse_tag(text)
        assert (refused.value.status, refused.value.code) == (400, ErrorCode.TAG_INVALID)
        with pytest.raises(SpecError) as absent:
            parse_reference(text)
        assert absent.value.status == 404, "what can be no tag does not exist"
    for parse in (parse_reference, parse_digest):
        with pytest.raises(SpecError, match="invalid digest: expected sha256") as wrong:
            parse("sha256:x")
        assert (wrong.value.status, wrong.value.detail) == (400, {"digest": "sha256:x"})
