"""Responses are read to exactly their end, however they come; what is no HTTP, or breaks off, is an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.client.wire import Exchange, ProtocolError, ask

_BODY = bytes(range(256)) * 4


class Scripted:
    """A connection on which these pieces come. then: what a read after them raises, or b"" for the end."""

    def __init__(self, *pieces: bytes, then: OSError | bytes = b"", hangs_up_after: int | None = None) -> None:
        self._pieces = list(pieces)
        self._then = then
        self._hangs_up_after = hangs_up_after
        self.sent = b""

    def recv(self, size: int, /) -> bytes:
        if not self._pieces:
            if isinstance(self._then, OSError):
                raise self._then
            return self._then
        data, rest = self._pieces[0][:size], self._pieces[0][size:]
        self._pieces[:1] = [rest] if rest else []
        return data

    def sendall(self, data: bytes, /) -> None:
        self.sent += data
        if self._hangs_up_after is not None and len(self.sent) > self._hangs_up_after:
            raise BrokenPipeError


def whole(exchange: Exchange, size: int = 1 << 20) -> bytes:
    return b"".join(iter(lambda: exchange.read(size), b""))


def answer(*pieces: bytes, method: str = "GET", then: OSError | bytes = b"") -> Exchange:
    return ask(Scripted(*pieces, then=then), method, "/v2/", {})


def chunked(body: bytes, *sizes: int) -> bytes:
    said, at = b"", 0
    for size in sizes:
        said += b"%x;quiet=yes\r\n%s\r\n" % (size, body[at : at + size])
        at += size
    return said + b"0\r\nX-Sum: 1\r\n\r\n"


_FRAMED = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + _BODY, True),
    "same length twice": (b"HTTP/1.1 200 OK\nContent-Length: 1024\nContent-Length: 1024\n\n" + _BODY, True),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunked(_BODY, 1, 1000, 23), True),
    "to the end": (b"HTTP/1.1 200\r\nETag: x\r\n\r\n" + _BODY, False),
    "after hints": (
        b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:1024\r\n\r\n" + _BODY,
        True,
    ),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1024\r\n\r\n" + _BODY, False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1024\r\n\r\n" + _BODY, False),
    "1.0 that stays": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1024\r\n\r\n" + _BODY, True),
}


@pytest.mark.parametrize("name", _FRAMED)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 1100), max_size=6), size=st.integers(1, 2000))
def test_the_same_body_comes_however_it_is_cut(name: str, cuts: list[int], size: int) -> None:
    data, stays = _FRAMED[name]
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    exchange = answer(*(data[a:b] for a, b in pairwise(edges)))
    assert whole(exchange, size) == _BODY
    assert exchange.is_done
    assert exchange.is_reusable == stays


@pytest.mark.parametrize(
    ("method", "head"),
    [("HEAD", b"200 OK\r\nContent-Length: 9"), ("PUT", b"204 No Content"),
     ("GET", b"304 Not Modified\r\nContent-Length: 9"),
     ("GET", b"200 OK\r\nContent-Length: 0")],
)  # fmt: skip
def test_answers_without_a_body_leave_the_connection_as_good(method: str, head: bytes) -> None:
    exchange = answer(b"HTTP/1.1 " + head + b"\r\n\r\n", method=method, then=OSError("nobody may read on"))
    assert exchange.read(10) == b""
    assert exchange.is_reusable


def test_headers_are_found_in_any_case_and_joined() -> None:
    exchange = answer(
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nnonsense\r\nwww-authenticate: Bearer\r\n  realm="x"\r\n'
        b"Content-Length: 0\r\n\r\n"
    )
    assert exchange.headers["Www-Authenticate"] == 'Basic, Bearer realm="x"'
    assert exchange.headers.get("nonsense") is None
    assert exchange.status == 401


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "without an answer"), (b"HTTP/1.1 20", "in the middle of an answer"),
        (b"\x15\x03\x03\0\2\r\n\r\n", "no HTTP"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP"), (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "bytes of headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 10_000, "no size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "between two chunks"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 200, "none was the last"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000, "after its last chunk"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told(data: bytes, told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        whole(answer(data))


@pytest.mark.parametrize("then", [b"", ConnectionResetError(104, "reset")])
def test_what_came_before_a_break_is_returned_before_it_is_told(then: OSError | bytes) -> None:
    exchange = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + _BODY[:700], then=then)
    assert exchange.read(1024) == _BODY[:700]
    for _ in "ab":  # whoever asks again does not wait again
        with pytest.raises((ProtocolError, ConnectionResetError)):
            exchange.read(1024)
    assert not exchange.is_reusable


def test_a_short_rest_is_drained_and_a_long_one_is_not() -> None:
    short = answer(_FRAMED["length"][0])
    short.read(10)
    short.drain(2000, 10.0)
    assert short.is_reusable
    late = answer(_FRAMED["length"][0][:-10], then=OSError("nobody may read on"))
    late.drain(2000, 0.0)
    assert not late.is_reusable
    long = answer(_FRAMED["length"][0], then=OSError("nobody may read on"))
    long.drain(1000, 10.0)
    assert not long.is_reusable


def _sent(method: str, headers: Mapping[str, str], body: Any) -> list[bytes]:
    stream = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    ask(stream, method, "/v2/a?b=c", headers, body)
    head, _, rest = stream.sent.partition(b"\r\n\r\n")
    return [*head.split(b"\r\n"), rest]


def test_a_request_says_how_long_its_body_is() -> None:
    assert _sent("GET", {}, None) == [b"GET /v2/a?b=c HTTP/1.1", b""]
    assert _sent("POST", {"A": "b"}, None)[1:] == [b"A: b", b"Content-Length: 0", b""]
    assert _sent("PUT", {}, b"abc")[1:] == [b"Content-Length: 3", b"abc"]
    assert _sent("PATCH", {"content-length": "3"}, iter([b"a", b"bc"]))[1:] == [b"content-length: 3", b"abc"]
    chunked = {"Transfer-Encoding": "chunked"}
    *_, sent = _sent("PATCH", chunked, iter([b"a", b"", b"b" * 17]))
    assert sent == b"1\r\na\r\n11\r\n" + b"b" * 17 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Length": "3"}, [b"ab"]), ({"Content-Length": "3"}, [b"ab", b"cd"]), ({"A": "b\r\nEvil: c"}, None),
     ({"A": "\u20ac"}, None)],
)  # fmt: skip
def test_requests_that_would_be_read_wrongly_are_not_sent(headers: Mapping[str, str], body: Iterable[bytes]) -> None:
    stream = Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ProtocolError):
        ask(stream, "PUT", "/", headers, body)
    assert b"Evil" not in stream.sent
    assert b"cd" not in stream.sent


def test_an_answer_that_comes_before_all_was_sent_is_heard_and_the_connection_left() -> None:
    stream = Scripted(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", hangs_up_after=1000)

    def pieces() -> Iterator[bytes]:
        yield from [b"x" * 600] * 10

    exchange = ask(stream, "PUT", "/", {"Content-Length": "6000"}, pieces())
    assert exchange.status == 413
    assert not exchange.is_reusable
    assert len(stream.sent) < 2000
