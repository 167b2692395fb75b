"""What the views share: JSON answers, bodies as streams, ranges, pages, and the server's own address."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from flask import Response, request
from gunicorn.http.body import Body, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from registry.errors import ErrorCode
from registry.server.errors import SpecError, size_invalid
from registry.server.settings import ServerSettings
from registry.server.uploads import BrokenBodyError

_PIECE_BYTES: Final = 1 << 20
_YEAR_S: Final = 365 * 86400
_CONTENT_RANGE: Final = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d+|\*))?")
_RANGE: Final = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON document. Flask's own would escape and indent by the application's settings."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return Response(data, status, headers, mimetype="application/json")


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """An answer without a body."""
    response = Response(b"", status, headers)
    response.headers.pop("Content-Type", None)
    return response


def location(path: str) -> str:
    """A path of this application as clients see it; relative, so that it is right behind every proxy."""
    return request.script_root + path


def own_url(settings: ServerSettings) -> str:
    """The address that clients reach this server by: the setting, unless they used one of ``other_names``."""
    public = settings.public_url.rstrip("/")
    if public and request.host not in settings.other_names:
        return public
    return f"{request.scheme}://{request.host}{request.script_root}"


def transport_headers(public_url: str) -> dict[str, str]:
    """The headers that keep browsers to https, if ``public_url`` is https.  RFC 6797."""
    return {"Strict-Transport-Security": f"max-age={_YEAR_S}"} if public_url.startswith("https://") else {}


def body_length() -> int | None:
    """Content-Length; None for a chunked body; 0 when there is no body."""
    if request.headers.get("Transfer-Encoding"):
        return None
    text = request.headers.get("Content-Length", "0")
    if not text.isascii() or not text.isdigit():
        raise size_invalid("invalid Content-Length")
    return int(text)


def body_pieces() -> Iterator[bytes]:
    """The body in pieces of at most 1 MiB. Raises BrokenBodyError when the client stops in the middle."""
    left = body_length()
    read = _reading(request.environ["wsgi.input"])
    while left is None or left > 0:
        try:
            piece = read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
        except (OSError, ParseException) as error:  # the connection broke, or what came is no chunk
            raise BrokenBodyError from error
        if not piece:
            break
        if left is not None:
            left -= len(piece)
        yield piece
    if left:
        raise BrokenBodyError


def _reading(stream: Any) -> Callable[[int], bytes]:
    """The body's ``read``. Of a known length: what comes, as it comes, for gunicorn's own copies it four times."""
    if isinstance(stream, Body) and isinstance(stream.reader, LengthReader) and not stream.buf.tell():
        return functools.partial(_received, stream.reader)
    read: Callable[[int], bytes] = stream.read
    return read


def _received(reader: Any, size: int) -> bytes:
    wanted = min(size, reader.length)
    data: bytes = reader.unreader.read(read_ahead=wanted) if wanted else b""
    if len(data) > reader.length:  # the next request has begun
        reader.unreader.unread(data[reader.length :])
        data = data[: reader.length]
    reader.length -= len(data)
    return data


def read_body(limit: int, too_large: SpecError) -> bytes:
    """All of a small body. Raises ``too_large`` when it has more than ``limit`` bytes, before it is read."""
    length = body_length()
    if length is not None and length > limit:
        raise too_large
    data = bytearray()
    try:
        for piece in body_pieces():
            data += piece
            if len(data) > limit:
                raise too_large
    except BrokenBodyError:
        raise size_invalid("the body ended early") from None
    return bytes(data)


def content_range() -> tuple[int, int] | None:
    """``Content-Range: FIRST-LAST`` of a chunk, as (first, length); None without. Raises SpecError 400 or 416."""
    text = request.headers.get("Content-Range")
    if text is None:
        return None
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None or int(match[2]) + 1 < int(match[1]):
        raise SpecError(416, ErrorCode.BLOB_UPLOAD_INVALID, "invalid Content-Range", detail={"range": text[:100]})
    first, length = int(match[1]), int(match[2]) - int(match[1]) + 1
    announced = body_length()
    if announced is not None and announced != length:
        raise size_invalid(f"Content-Range is of {length} bytes, Content-Length is {announced}")
    return first, length


def requested_range(size: int) -> tuple[int, int] | None:
    """The one range that a GET asks for, as (first, past the last); None: send it all.  RFC 9110, 14.2.

    Several ranges are answered by everything, which is allowed. Raises SpecError 416 when there is nothing to send.
    """
    text = request.headers.get("Range")
    match = _RANGE.fullmatch(text) if text is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        first, end = max(0, size - int(match[2])), size
        satisfiable = int(match[2]) > 0 and size > 0
    else:
        first = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        satisfiable = first < size and first < end
    if not satisfiable:
        raise SpecError(
            416, ErrorCode.RANGE_INVALID, "range not satisfiable", headers={"Content-Range": f"bytes */{size}"}
        )
    return first, end


def page_limit() -> int | None:
    """The parameter ``n``; None without. Raises SpecError 400."""
    text = request.args.get("n")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise SpecError(400, ErrorCode.PAGINATION_NUMBER_INVALID, "n is no number of entries", detail={"n": text[:100]})
    return int(text)


def next_link(path: str, parameters: Mapping[str, object]) -> dict[str, str]:
    """The Link header that leads to the next page.  RFC 5988."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return {"Link": f'<{location(quote(path))}?{urlencode(given)}>; rel="next"'}
