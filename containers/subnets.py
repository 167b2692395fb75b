"""IPv4 addresses as integers, and which private range is free for containers."""

from __future__ import annotations

from containers.errors import NetworkError

# Where the containers' addresses may come from: the block for benchmarks (RFC 2544), which no real network uses; then
# corners of the private ranges.
CANDIDATES = ("198.18.0.0", "198.19.0.0", "10.213.0.0", "10.87.0.0", "172.29.0.0", "100.127.0.0")
PREFIX = 16


def parse_address(text: str) -> int | None:
    """A dotted IPv4 address as an integer; None when it is not one."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        return None
    return int.from_bytes(bytes(map(int, parts)), "big")


def format_address(address: int) -> str:
    """Dotted."""
    return ".".join(map(str, address.to_bytes(4, "big")))


def choose_subnet(routes: list[tuple[int, int]], candidates: tuple[str, ...] = CANDIDATES) -> int:
    """The first candidate /16 that no route (network, prefix length) overlaps. Raises NetworkError."""
    for text in candidates:
        candidate = parse_address(text) or 0
        if not any((candidate ^ network) >> (32 - min(prefix, PREFIX)) == 0 for network, prefix in routes):
            return candidate
    raise NetworkError(
        "no private IPv4 range is free for containers: the host has routes into all of " + ", ".join(candidates),
        hint="use --network=host or --network=none",
    )
