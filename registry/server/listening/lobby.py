"""Connections that are in no thread: how many there may be, from where, for how long; and who has to go first.

Whoever has been here longest without a whole request goes first: a client in earnest sends one in some milliseconds. So
a crowd of slow connections keeps nobody out, not even others of its own address; it only keeps its own members out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol, TypeAlias

from core.proxies import parse_address

Stage: TypeAlias = Literal["handshake", "head", "body", "parked", "idle", "closing"]
_SITE_PREFIX: Final = 64  # of an IPv6 address: what one customer has, at least


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections without a thread there may be.

    waiting: that have begun, or are to begin, a request.
    waiting_per_address: of these, from one address; an IPv6 network of 64 bits counts as one.
    idle: kept open for a next request.
    closing: whose last bytes are on their way.
    """

    waiting: int = 1000
    waiting_per_address: int = 100
    idle: int = 600
    closing: int = 200


class Guest(Protocol):
    """A connection in the lobby. address: whom it counts for; empty: nobody yet. deadline: when it has to leave."""

    address: str
    stage: Stage
    deadline: float


Queue: TypeAlias = "OrderedDict[Guest, None]"


class Lobby:
    """Every connection that the listener holds. Not thread-safe: the listener's alone."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiting: Queue = OrderedDict()
        self._by_address: dict[str, Queue] = {}
        self._idle: Queue = OrderedDict()
        self._closing: Queue = OrderedDict()

    def enter(self, guest: Guest) -> Guest | None:
        """Take one in, by its stage; returns the one that has to go for it, which may be of the same address."""
        match guest.stage:
            case "idle":
                self._idle[guest] = None
                return _first(self._idle) if len(self._idle) > self._bounds.idle else None
            case "closing":
                self._closing[guest] = None
                return _first(self._closing) if len(self._closing) > self._bounds.closing else None
        self._waiting[guest] = None
        if guest.address:
            own = self._by_address.setdefault(guest.address, OrderedDict())
            own[guest] = None
            if len(own) > self._bounds.waiting_per_address:
                return _first(own)
        return _first(self._waiting) if len(self._waiting) > self._bounds.waiting else None

    def leave(self, guest: Guest) -> None:
        """It goes to a thread, to another stage, or for good. May be called again."""
        for queue in (self._waiting, self._idle, self._closing):
            queue.pop(guest, None)
        own = self._by_address.get(guest.address)
        if own is not None:
            own.pop(guest, None)
            if not own:
                del self._by_address[guest.address]

    def longest(self) -> Guest | None:
        """Who can best be spared, when no file can be opened any more."""
        return _first(self._closing) or _first(self._waiting) or _first(self._idle)

    def overdue(self, now: float) -> list[Guest]:
        """Those whose time is over."""
        return [guest for guest in self if guest.deadline <= now]

    def __iter__(self) -> Iterator[Guest]:
        for queue in (self._waiting, self._idle, self._closing):
            yield from tuple(queue)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._idle) + len(self._closing)


def _first(queue: Queue) -> Guest | None:
    return next(iter(queue), None)


@lru_cache(maxsize=4096)
def site(address: str) -> str:
    """What an address counts as: itself, or its network where anybody has any number of addresses."""
    parsed = parse_address(address.partition("%")[0])
    if parsed is None:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _SITE_PREFIX), strict=False))
