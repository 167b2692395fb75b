"""The answer of a server that takes no request of a connection: in Docker's form, whole, and the last one on it."""

from __future__ import annotations

import json


def refusal(status: int, message: str, *fields: str) -> bytes:
    """An HTTP/1.1 response of JSON. fields: more of its head, each a line without its end."""
    body = json.dumps({"message": message}).encode() + b"\n"
    head = [
        f"HTTP/1.1 {status} Refused",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
