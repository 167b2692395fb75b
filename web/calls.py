"""What a handler works with besides its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from web.hub import Hub

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.service import Service
    from pipelines.tokens import Token


@dataclass(frozen=True, slots=True)
class Call:
    """One request. token: who asks; None where the endpoint asks for none."""

    service: Service
    hub: Hub
    token: Token | None
    request: Request


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is not JSON: its pieces, made while they are sent."""

    pieces: Iterator[bytes]
