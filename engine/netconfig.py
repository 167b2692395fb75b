"""What a create body asks of a container's network: its mode, name servers, host names, links. Docker's words."""

from __future__ import annotations

import ipaddress
from typing import Any, Final, NamedTuple

from containers.switchrules import HOST_GATEWAY
from engine.errors import InvalidRequestError
from engine.fields import Fields

_HOST_GATEWAY: Final = "host-gateway"
_CONFLICTS: Final = "conflicting options: "


class Link(NamedTuple):
    """Another container, by the name that it has here. target: a name or an ID."""

    target: str
    alias: str


class NetConfig(NamedTuple):
    """What was asked for.

    mode: ``none``, ``host``, ``bridge``, a network's name or ID, or ``container:`` with a name or an ID.
    servers, search, options: of the resolver; empty: the host's.
    extra_hosts: (name, address) for /etc/hosts.
    host_gateway: whether the host may be reached, at ``switchrules.HOST_GATEWAY``.
    links: of the default network, by name.
    """

    mode: str
    servers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]
    extra_hosts: tuple[tuple[str, str], ...]
    host_gateway: bool
    links: tuple[Link, ...]

    @property
    def joined(self) -> str:
        """The container whose network this one has; "" when it has its own."""
        return self.mode.removeprefix("container:") if self.mode.startswith("container:") else ""

    @property
    def has_place(self) -> bool:
        """Whether it gets places in networks of the switch."""
        return self.mode not in ("none", "host") and not self.joined

    def resolver(self) -> dict[str, list[str]]:
        """As ``spec.json`` has it."""
        return {"servers": list(self.servers), "search": list(self.search), "options": list(self.options)}


def read(body: Fields) -> NetConfig:
    """Read a HostConfig's part. Raises InvalidRequestError."""
    mode = network_mode(body.text("NetworkMode"))
    gateway = "127.0.0.1" if mode == "host" else HOST_GATEWAY
    hosts, uses_gateway = _extra_hosts(body.texts("ExtraHosts"), gateway)
    servers = tuple(_server(text) for text in body.texts("Dns"))
    found = NetConfig(
        mode,
        servers,
        tuple(_words(body.texts("DnsSearch"), "DNS search domain")),
        tuple(_words(body.texts("DnsOptions"), "DNS option")),
        hosts,
        uses_gateway,
        links(body.texts("Links")),
    )
    if found.joined or mode == "host":
        _refuse_conflicts(body, found)
    return found


def network_mode(text: str) -> str:
    """A network mode without its other names. Raises InvalidRequestError."""
    if text in ("", "default", "bridge"):
        return "bridge"
    if text.startswith("container:") and not text.removeprefix("container:"):
        raise InvalidRequestError(f"invalid network mode: invalid container format {text}")
    return text


def check_own(config: Fields, found: NetConfig) -> None:
    """Refuse what a container cannot have beside another's network. config: the create body."""
    if not found.joined and found.mode != "host":
        return
    if found.joined and config.text("Hostname"):
        raise InvalidRequestError(f"{_CONFLICTS}hostname and the network mode")
    if config.text("MacAddress"):
        raise InvalidRequestError(f"{_CONFLICTS}mac-address and the network mode")
    if found.joined and config.keys("ExposedPorts"):
        raise InvalidRequestError(f"{_CONFLICTS}port exposing and the container type network mode")


def links(texts: list[str]) -> tuple[Link, ...]:
    """``NAME:ALIAS``; NAME alone is its own alias. Raises InvalidRequestError."""
    found = []
    for text in texts:
        target, colon, alias = text.partition(":")
        alias = alias.rpartition("/")[2] if colon else target
        if not target or not alias or ":" in alias or any(character.isspace() for character in text):
            raise InvalidRequestError(f"bad format for links: {text}")
        found.append(Link(target.removeprefix("/"), alias))
    return tuple(found)


def _refuse_conflicts(body: Fields, found: NetConfig) -> None:
    """moby runconfig/hostconfig_unix.go, validateNetMode"""
    if found.links:
        kind = "container type network" if found.joined else "host type networking"
        raise InvalidRequestError(f"{_CONFLICTS}{kind} can't be used with links")
    if not found.joined:
        return
    if found.servers:
        raise InvalidRequestError(f"{_CONFLICTS}dns and the network mode")
    if found.extra_hosts:
        raise InvalidRequestError(f"{_CONFLICTS}custom host-to-IP mapping and the network mode")
    if body.names() and (body.inner("PortBindings").names() or body.flag("PublishAllPorts")):
        raise InvalidRequestError(f"{_CONFLICTS}port publishing and the container type network mode")


def _extra_hosts(entries: list[str], gateway: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    found = []
    uses_gateway = False
    for entry in entries:
        name, _, address = entry.partition("=" if "=" in entry else ":")
        if not name or not address or any(character.isspace() for character in entry):
            raise InvalidRequestError(f'bad format for add-host: "{entry}"')
        if address == _HOST_GATEWAY:
            uses_gateway = True
            address = gateway
        else:
            address = address.strip("[]")
            if not _is_address(address):
                raise InvalidRequestError(f'invalid IP address in add-host: "{address}"')
        found.append((name, address))
    return tuple(found), uses_gateway


def _server(text: str) -> str:
    if not _is_address(text):
        raise InvalidRequestError(f"invalid DNS server: {text} is not an IP address")
    return text


def _words(texts: list[str], what: str) -> list[str]:
    for text in texts:
        if not text or any(character.isspace() or not character.isprintable() for character in text):
            raise InvalidRequestError(f"invalid {what}: {text!r}")
    return texts


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def environment_of(alias: str, container: str, address: str, config: Any) -> list[tuple[str, str]]:
    """The variables that docker gives for a link of the default network.  moby daemon/links/links.go

    container: the name of the one that has the link. config: docker's Config of the other one.
    """
    prefix = alias.replace("-", "_").upper()
    ports = sorted(_port(text) for text in config.get("ExposedPorts") or ())
    found = [(f"{prefix}_NAME", f"/{container}/{alias}")]
    if ports:
        number, protocol = ports[0]
        found.insert(0, (f"{prefix}_PORT", f"{protocol}://{address}:{number}"))
    for number, protocol in ports:
        own = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            (own, f"{protocol}://{address}:{number}"),
            (f"{own}_ADDR", address),
            (f"{own}_PORT", str(number)),
            (f"{own}_PROTO", protocol),
        ]
    for entry in config.get("Env") or ():
        name, equals, value = entry.partition("=")
        if equals and name not in ("HOME", "PATH"):
            found.append((f"{prefix}_ENV_{name}", value))
    return found


def _port(text: str) -> tuple[int, str]:
    number, _, protocol = text.partition("/")
    return int(number.partition("-")[0]), protocol or "tcp"
