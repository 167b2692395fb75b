"""Published ports: docker's ``PortBindings`` and ``PublishAllPorts``, and what became of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.ports import check_port

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what docker does where no address is asked for


def wanted(host: Fields, exposed: Iterable[str]) -> list[dict[str, Any]]:
    """What ``spec.json`` has of published ports. exposed: ``80/tcp``; for PublishAllPorts.

    Raises InvalidRequestError, NotDoneError.
    """
    found: list[dict[str, Any]] = []
    bindings = host.inner("PortBindings")
    for port in bindings.names():
        first, last, protocol = _port(port)
        if first != last:
            raise InvalidRequestError(f"invalid port specification: {port!r}")
        for binding in bindings.objects(port) or [Fields({}, "PortBindings")]:
            found += _binding(first, protocol, binding.text("HostIp"), binding.text("HostPort"))
    if host.flag("PublishAllPorts"):
        known = {(each["to_port"], each["protocol"]) for each in found}
        for port in exposed:
            first, last, protocol = _port(port)
            for number in range(first, last + 1):
                if (number, protocol) not in known:
                    found += _binding(number, protocol, "", "")
    return found


def _port(text: str) -> tuple[int, int, str]:
    first, last, protocol = check_port(text)
    if protocol == "sctp":
        raise NotDoneError("ports of the protocol sctp are not published here")
    return first, last, protocol


def _binding(to_port: int, protocol: str, address: str, port: str) -> list[dict[str, Any]]:
    if address:
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError as error:
            raise InvalidRequestError(f"invalid IP address: {address}") from error
    addresses = [address] if address and address != "0.0.0.0" else list(_EVERYWHERE if not address else ("0.0.0.0",))  # noqa: S104
    first, _, last = port.partition("-")
    try:
        numbers = (int(first or 0), int(last or first or 0))
    except ValueError as error:
        raise InvalidRequestError(f"invalid port specification: {port!r}") from error
    if not 0 <= numbers[0] <= numbers[1] <= 65535:
        raise InvalidRequestError(f"invalid port specification: {port!r}")
    if not numbers[0] and numbers[1]:
        raise InvalidRequestError(f"invalid port specification: {port!r}")
    return [{"addresses": addresses, "protocol": protocol, "port": numbers[0], "last": numbers[1], "to_port": to_port}]


def as_map(exposed: Iterable[str], bound: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``NetworkSettings.Ports``: every exposed port, and where it is published."""
    found: dict[str, Any] = {port if "/" in port else f"{port}/tcp": None for port in exposed}
    for each in bound:
        place = {"HostIp": each["address"], "HostPort": str(each["port"])}
        key = f"{each['to_port']}/{each['protocol']}"
        found[key] = [*(found.get(key) or ()), place]
    return found


def as_list(exposed: Iterable[str], bound: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``Ports`` of an entry of a list."""
    found: list[dict[str, Any]] = [
        {"IP": each["address"], "PrivatePort": each["to_port"], "PublicPort": each["port"], "Type": each["protocol"]}
        for each in bound
    ]
    known = {(each["to_port"], each["protocol"]) for each in bound}
    for port in exposed:
        first, last, protocol = check_port(port)
        found += [
            {"PrivatePort": number, "Type": protocol}
            for number in range(first, last + 1)
            if (number, protocol) not in known
        ]
    return found
