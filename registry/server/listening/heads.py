"""As much of a request's head as the listener has to know. Gunicorn parses it again, and says what is wrong with it."""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 64 << 10
_END: Final = b"\r\n\r\n"


class Head(NamedTuple):
    """The head of a request.

    size: with the empty line at its end, in bytes.
    body: how many bytes follow; None: nobody can tell, or the client waits to be asked for them.
    forwarded_for: what proxies say of the client, with commas between.
    names_somebody: there are credentials; nobody knows yet whether they are good.
    """

    size: int
    body: int | None
    forwarded_for: str
    names_somebody: bool = False


def find_head(data: bytearray, searched: int) -> Head | None:
    """The head that ``data`` begins with; None: its end is still to come. searched: bytes that were looked at."""
    end = data.find(_END, max(0, searched - len(_END) + 1))
    if end < 0:
        return None
    body: int | None = 0
    forwarded: list[str] = []
    names_somebody = False
    for line in bytes(data[:end]).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"content-length" if body is not None:
                text = value.strip()
                body = int(text) if text.isdigit() and len(text) < 19 else 0
            case b"transfer-encoding" | b"expect" | b"upgrade":
                body = None
            case b"authorization" | b"cookie":
                names_somebody = True
            case b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
    return Head(end + len(_END), body, ",".join(forwarded), names_somebody)
