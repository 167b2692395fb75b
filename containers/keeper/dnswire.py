"""DNS messages as far as a container's name server reads and writes them.  RFC 1035, 4; RFC 6891 is passed through."""

from __future__ import annotations

import _socket
import struct

A, PTR, AAAA = 1, 12, 28
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 2, 3, 4
HEADER_BYTES = 12
_MOST_NAME_BYTES = 255
_MOST_PLAIN_BYTES = 512  # of an answer by UDP to who does not say that it takes more
_TTL_S = 600
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION, _AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_QUESTION_POINTER = b"\xc0\x0c"


class Query:
    """A question that was read.

    number: the client's.
    name: in lower case, labels joined by dots, without the last one.
    question: its bytes: name, type and class.
    """

    __slots__ = ("flags", "kind", "name", "number", "question")

    def __init__(self, number: int, flags: int, name: str, kind: int, question: bytes) -> None:
        self.number = number
        self.flags = flags
        self.name = name
        self.kind = kind
        self.question = question


def read_query(message: bytes) -> Query | int | None:
    """The one question of a message; a response code where it cannot be answered; None: it is no query at all."""
    if len(message) < HEADER_BYTES:
        return None
    number, flags, questions = struct.unpack_from(">HHH", message)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return NOT_IMPLEMENTED
    read = read_question(message) if questions == 1 else None
    if read is None:
        return FORMAT_ERROR
    name, kind, question = read
    return Query(number, flags, name, kind, question)


def read_question(message: bytes) -> tuple[str, int, bytes] | None:
    """Name (lower case), type and bytes of a message's first question; None when it cannot be read."""
    labels = []
    offset = HEADER_BYTES
    while True:
        if offset >= len(message):
            return None
        length = message[offset]
        if length == 0:
            break
        if length > 63 or offset - HEADER_BYTES + length + 2 > _MOST_NAME_BYTES:
            return None  # compressed, which a first name cannot be, or too long
        labels.append(message[offset + 1 : offset + 1 + length])
        offset += 1 + length
    end = offset + 5
    if end > len(message):
        return None
    kind = int(struct.unpack_from(">H", message, offset + 1)[0])
    return b".".join(labels).decode("latin-1").lower(), kind, message[HEADER_BYTES:end]


def answer(query: Query, records: list[bytes], code: int = NO_ERROR, *, most_bytes: int = _MOST_PLAIN_BYTES) -> bytes:
    """Records are contents: 4 bytes of an A, 16 of an AAAA, a name of a PTR; of the type that was asked for."""
    flags = _RESPONSE | _AUTHORITATIVE | _AVAILABLE | (query.flags & _RECURSION) | code
    body = query.question
    count = 0
    for record in records:
        head = _QUESTION_POINTER + struct.pack(">HHIH", query.kind, IN, _TTL_S, len(record))
        if HEADER_BYTES + len(body) + len(head) + len(record) > most_bytes:
            flags |= _TRUNCATED
            break
        body += head + record
        count += 1
    return struct.pack(">HHHHHH", query.number, flags, 1, count, 0, 0) + body


def failure(message: bytes, code: int) -> bytes:
    """The answer to a message that says only what is wrong."""
    number, flags = struct.unpack_from(">HH", message)
    return struct.pack(">HHHHHH", number, _RESPONSE | _AVAILABLE | flags & (_RECURSION | _OPCODE) | code, 0, 0, 0, 0)


def answers(message: bytes, number: int, question: bytes) -> bool:
    """Whether a message is the answer to this question under this number."""
    if len(message) < HEADER_BYTES:
        return False
    its_number, flags, questions = struct.unpack_from(">HHH", message)
    if its_number != number or not flags & _RESPONSE:
        return False
    read = read_question(message) if questions == 1 else None
    return read is not None and read[2] == question


def renumbered(message: bytes, number: int) -> bytes:
    """The same message under another number."""
    return struct.pack(">H", number) + message[2:]


def encode_name(name: str) -> bytes:
    """ "web.front" as labels."""
    found = b""
    for label in name.encode("latin-1", "replace").split(b"."):
        found += bytes([min(63, len(label))]) + label[:63]
    return found + b"\0"


def reversed_address(name: str) -> bytes | None:
    """The address that a name below in-addr.arpa or ip6.arpa asks for; None for other names."""
    labels = name.split(".")
    if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
        text, version = ".".join(labels[3::-1]), _socket.AF_INET
    elif labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
        digits = "".join(labels[31::-1])
        text, version = ":".join(digits[start : start + 4] for start in range(0, 32, 4)), _socket.AF_INET6
    else:
        return None
    try:
        return _socket.inet_pton(version, text)
    except OSError:
        return None
