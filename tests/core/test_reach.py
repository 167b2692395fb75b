"""Which addresses a bounded reach refuses, whatever name or form they come in."""

from __future__ import annotations

import socket

import pytest

from core.errors import HostNotFoundError, OutOfReachError
from core.reach import ANYWHERE, Reach, look_up


def bounded(*addresses: str, **members: tuple[str, ...]) -> Reach:
    return Reach(public_only=True, resolve=lambda host, port: addresses, advice="ask", **members)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "::1", "64:ff9b::7f00:1", "2002:a00:1::1", "::ffff:10.0.0.1"]
)
def test_addresses_that_lead_inside_are_refused(address: str) -> None:
    with pytest.raises(OutOfReachError, match="not a public one") as caught:
        bounded("8.8.8.8", address).pin("h.test", 443)
    assert caught.value.hint == "ask"


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_public_addresses_are_pinned(address: str) -> None:
    assert bounded(address).pin("h.test", 443) == address
    assert ANYWHERE.pin("h.test", 443) is None


def test_denied_networks_are_refused_although_they_are_public() -> None:
    assert bounded("8.8.8.8", denied=("8.8.4.0/24",)).pin("h.test", 443) == "8.8.8.8"
    for address in ("8.8.8.8", "::ffff:8.8.8.8"):
        with pytest.raises(OutOfReachError, match="in a network that is denied"):
            bounded(address, denied=("9.0.0.0/8", "8.8.8.0/24")).pin("h.test", 443)


def test_what_the_administrator_named_is_let_through_and_nothing_beside_it() -> None:
    named = bounded("10.0.0.1", allowed=("git.test",), denied=("10.0.0.0/8",)).allowing("reg.test:5000", "Mirror.test")
    pinned = [named.pin(host, port) for host, port in (
        ("git.test", 22), ("GIT.test.", 22), ("reg.test", 5000), ("mirror.test", 443), ("mirror.test", 80),
    )]  # fmt: skip
    assert pinned == ["10.0.0.1"] * 5
    for host, port in (("reg.test", 6379), ("mirror.test", 8080), ("x.git.test", 22)):
        with pytest.raises(OutOfReachError):
            named.pin(host, port)
    assert bounded("::1").allowing("[::1]:5000").pin("::1", 5000) == "::1"


def test_host_without_an_address_is_another_error() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise OSError("no name server")

    with pytest.raises(HostNotFoundError, match=r"cannot find the address of h\.test"):
        Reach(public_only=True, resolve=fails).pin("h.test", 443)
    with pytest.raises(HostNotFoundError):
        bounded().pin("h.test", 443)
    Reach(public_only=True, resolve=fails).check_name("h.test", 443)  # the proxy may know it
    with pytest.raises(OutOfReachError):
        bounded("10.0.0.1").check_name("h.test", 443)


def test_of_the_addresses_of_a_host_that_is_let_through_one_that_answers_is_pinned() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        named = bounded("::1", "127.0.0.1").allowing(f"localhost:{port}")
        assert named.pin("localhost", port) == "127.0.0.1"
    assert named.pin("localhost", port) == "::1"  # nobody listens


def test_system_knows_each_address_of_a_host_once() -> None:
    assert look_up("127.0.0.1", 80) == ["127.0.0.1"]
    assert look_up("::1", 443) == ["::1"]
    found = look_up("localhost", 80)
    assert len(found) == len(set(found))
    assert "127.0.0.1" in found or "::1" in found
