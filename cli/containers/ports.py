"""``--publish`` and ``--expose``, as docker's go-connections/nat reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from cli.errors import CommandError

Exposed: TypeAlias = dict[str, dict[str, Any]]
Bindings: TypeAlias = dict[str, list[dict[str, str]]]

_PROTOCOLS = ("tcp", "udp", "sctp")


def published(values: Sequence[str]) -> tuple[Exposed, Bindings]:
    """Docker's ``ExposedPorts`` and ``PortBindings`` for ``-p`` values. Raises CommandError."""
    exposed: Exposed = {}
    bindings: Bindings = {}
    for value in values:
        for port, binding in _bindings(_short(value)):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


def exposed(values: Sequence[str]) -> Exposed:
    """Docker's ``ExposedPorts`` for ``--expose`` values. Raises CommandError."""
    found: Exposed = {}
    for value in values:
        if ":" in value:
            raise CommandError(f"invalid port format for --expose: {value}")
        ports, protocol = _protocol(value)
        try:
            first, last = _range(ports)
        except ValueError as error:
            raise CommandError(f"invalid range format for --expose: {value}, error: {error}") from error
        found |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    return found


def _short(value: str) -> str:
    """``target=80,published=8080,protocol=tcp`` as ``8080:80/tcp``; other values as they are."""
    if "=" not in value:
        return value
    parts = {"target": "", "published": "", "protocol": "tcp", "mode": ""}
    for part in value.split(","):
        name, equals, text = part.partition("=")
        if not equals or name not in parts:
            raise CommandError(f"invalid field {part!r} in --publish {value}", hint="write 8080:80")
        parts[name] = text
    if not parts["target"]:
        raise CommandError(f"--publish {value} has no target", hint="write 8080:80")
    return f"{parts['published']}:{parts['target']}/{parts['protocol']}".lstrip(":")


def _bindings(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    rest, _, container = value.rpartition(":")
    address, _, host = rest.rpartition(":")
    address = _address(address)
    ports, protocol = _protocol(container)
    if not ports:
        raise CommandError(f"No port specified: {value}<empty>")
    first, last = _ports(ports, "containerPort")
    if not host:
        for port in range(first, last + 1):
            yield f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}
        return
    host_first, host_last = _ports(host, "hostPort")
    if last - first != host_last - host_first:
        if first != last:
            raise CommandError(f"Invalid ranges specified for container and host Ports: {ports} and {host}")
        yield f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{host_first}-{host_last}"}
        return
    for offset in range(last - first + 1):
        yield f"{first + offset}/{protocol}", {"HostIp": address, "HostPort": str(host_first + offset)}


def _address(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in text and bare == text:
        message = f"Invalid ip address {text}: address {text}:: too many colons in address"
        raise CommandError(message, hint="write an IPv6 address as [::1]")
    if bare:
        try:
            ipaddress.ip_address(bare)
        except ValueError as error:
            raise CommandError(f"Invalid ip address: {bare}") from error
    return bare


def _protocol(text: str) -> tuple[str, str]:
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise CommandError(f"Invalid proto: {protocol}")
    return ports, protocol


def _ports(text: str, what: str) -> tuple[int, int]:
    try:
        return _range(text)
    except ValueError as error:
        raise CommandError(f"Invalid {what}: {text}") from error


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    found = int(_digits(first)), int(_digits(last if dash else first))
    if found[1] < found[0] or found[1] > 65535:
        raise ValueError(f"invalid range specified for the port: {text}")
    return found


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return text
