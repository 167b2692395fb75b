"""``--network`` and what goes with it, as docker's command line reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.errors import CommandError

_DOCKERS_OWN: Final = ("default", "bridge", "host", "none")
_LISTS: Final = {"alias": "Aliases", "link": "Links", "link-local-ip": "LinkLocalIPs"}
_TEXTS: Final = {"ip": "IPv4Address", "ip6": "IPv6Address", "mac-address": "MacAddress"}


def networking(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """docker's ``NetworkMode`` and ``EndpointsConfig``. Raises CommandError.

    ``--network-alias``, ``--link``, ``--ip`` and their like are for the first network.
    """
    asked = [_network(text) for text in options["network"]] or [{"name": "default"}]
    own = [name in _DOCKERS_OWN or name.startswith("container:") for name in (one["name"] for one in asked)]
    if any(own) and not all(own):
        raise CommandError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    endpoints: dict[str, Any] = {}
    for position, network in enumerate(asked):
        name = network["name"]
        if name in endpoints:
            raise CommandError(f'network "{name}" is specified multiple times')
        if position == 0:
            _apply(network, options, is_dockers=own[0])
        endpoints[name] = _endpoint(network)
    if len(asked) == 1 and not endpoints[asked[0]["name"]]:
        endpoints = {}
    return asked[0]["name"], endpoints


def addresses_asked(options: Mapping[str, Any]) -> bool:
    """Whether an option asks for more of a network than that it is there."""
    return any(options[name] for name in ("network_alias", "link", "link_local_ip", "ip", "ip6", "mac_address"))


def priority(text: str, where: str) -> int:
    """A whole number. Raises CommandError."""
    try:
        return int(text)
    except ValueError as error:
        raise CommandError(f"invalid gw-priority {text!r} in {where}: it is a whole number") from error


def _network(text: str) -> dict[str, Any]:
    """``name=…,alias=…`` or a plain name."""
    if "=" not in text:
        return {"name": text}
    import csv

    found: dict[str, Any] = {"name": ""}
    for field in next(csv.reader([text]), []):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise CommandError(f"invalid key/value pair format in driver options: {field!r} in --network {text}")
        if key in _LISTS:
            found.setdefault(key, []).append(value.strip())
        elif key == "name" or key in _TEXTS:
            found[key] = value.strip()
        elif key == "gw-priority":
            found[key] = priority(value.strip(), f"--network {text}")
        elif key == "driver-opt":
            option, _, setting = value.partition("=")
            found.setdefault(key, {})[option.strip()] = setting.strip()
        else:
            raise CommandError(f"invalid field key {key} in --network {text}")
    if not found["name"]:
        raise CommandError(f"--network {text} names no network", hint="begin with name=NETWORK")
    return found


def _apply(network: dict[str, Any], options: Mapping[str, Any], *, is_dockers: bool) -> None:
    pairs = (
        ("alias", "network_alias"), ("link", "link"), ("link-local-ip", "link_local_ip"),
        ("ip", "ip"), ("ip6", "ip6"), ("mac-address", "mac_address"),
    )  # fmt: skip
    for key, option in pairs:
        if not options[option]:
            continue
        if key in network:
            raise CommandError(
                f"conflicting options: cannot specify both --{option.replace('_', '-')} and per-network {key}"
            )
        if key == "alias" and is_dockers:
            raise CommandError(
                "network-scoped aliases are only supported for user-defined networks",
                hint=f"shiplap network create NAME makes one; {network['name']} is none",
            )
        value = options[option]
        network[key] = list(value) if key in _LISTS else value


def _endpoint(network: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    ipam: dict[str, Any] = {}
    for key, member in (*_LISTS.items(), *_TEXTS.items()):
        if key in network:
            (ipam if member in ("LinkLocalIPs", "IPv4Address", "IPv6Address") else found)[member] = network[key]
    if ipam:
        found["IPAMConfig"] = ipam
    if "gw-priority" in network:
        found["GwPriority"] = network["gw-priority"]
    if "driver-opt" in network:
        found["DriverOpts"] = network["driver-opt"]
    return found


def link_pairs(values: Sequence[str]) -> list[str]:
    """``Links`` of a host config: ``NAME:ALIAS``; NAME alone is its own alias. Raises CommandError."""
    for value in values:
        if not value or value.count(":") > 1 or value.startswith(":"):
            raise CommandError(f"invalid argument {value!r} for --link: bad format for links: {value}")
    return list(values)
