"""What came and went with each version of the API: one table, which the serialisers read.

    documents are made as the newest version has them, and older members beside; ``shown`` leaves out what the version
    of a request does not have.

Source: moby's API changelog. Only what can be in our documents stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self, TypeAlias

from dockerapi.errors import bad


class Version(NamedTuple):
    """A version of the API, as 1.45."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of a path's ``v1.45``, without the v. Raises ApiError."""
        match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text, re.ASCII)
        if match is None:
            raise bad(f"invalid API version {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


OLDEST: Final = Version(1, 24)
NEWEST: Final = Version(1, 52)


def v(minor: int) -> Version:
    """1.MINOR."""
    return Version(1, minor)


def checked(version: Version) -> Version:
    """The version, if there is such a one here. Raises ApiError, in docker's words."""
    if version < OLDEST:
        raise bad(
            f"client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your"
            " client to a newer version"
        )
    if version > NEWEST:
        raise bad(f"client version {version} is too new. Maximum supported API version is {NEWEST}")
    return version


class Member(NamedTuple):
    """A member of a document that not every version has.

    path: from the document's top; ``*`` is every member of an object, ``[]`` every entry of a list.
    since: the first version that has it; until: the first one that has it no more.
    """

    path: str
    since: Version = OLDEST
    until: Version = Version(9, 0)


_OLD_NETWORK_SETTINGS: Final = (
    "Bridge", "HairpinMode", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "SecondaryIPAddresses",
    "SecondaryIPv6Addresses", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress",
    "IPPrefixLen", "IPv6Gateway", "MacAddress",
)  # fmt: skip
_OF_NO_IMAGE: Final = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
)  # fmt: skip

MEMBERS: Final[Mapping[str, tuple[Member, ...]]] = {
    "container": (
        *(Member(f"NetworkSettings.{name}", until=v(52)) for name in _OLD_NETWORK_SETTINGS),
        Member("NetworkSettings.Networks.*.DNSNames", since=v(44)),
        Member("NetworkSettings.Networks.*.GwPriority", since=v(48)),
        Member("HostConfig.Annotations", since=v(43)),
        Member("Platform", since=v(32)),
    ),
    "containers": (
        Member("[].NetworkSettings.Networks.*.DNSNames", since=v(44)),
        Member("[].NetworkSettings.Networks.*.GwPriority", since=v(48)),
        Member("[].Health", since=v(52)),
    ),
    "image": (
        Member("VirtualSize", until=v(44)),
        Member("Container", until=v(45)),
        Member("ContainerConfig", until=v(45)),
        Member("Metadata", since=v(25)),
        Member("Descriptor", since=v(48)),
        Member("Manifests", since=v(48)),
        *(Member(f"Config.{name}", until=v(50)) for name in _OF_NO_IMAGE),
    ),
    "images": (
        Member("[].VirtualSize", until=v(44)),
        Member("[].SharedSize", since=v(25)),
        Member("[].Containers", since=v(25)),
        Member("[].Descriptor", since=v(48)),
        Member("[].Manifests", since=v(47)),
    ),
    "info": (
        Member("BridgeNfIptables", until=v(50)),
        Member("BridgeNfIp6tables", until=v(50)),
        Member("CgroupVersion", since=v(41)),
        Member("DefaultAddressPools", since=v(41)),
        Member("CDISpecDirs", since=v(44)),
        Member("DiscoveredDevices", since=v(50)),
        Member("FirewallBackend", since=v(49)),
        Member("Warnings", since=v(37)),
        Member("ContainerdCommit.Expected", until=v(49)),
        Member("RuncCommit.Expected", until=v(49)),
        Member("InitCommit.Expected", until=v(49)),
    ),
    "version": (
        Member("Platform", since=v(35)),
        Member("Components", since=v(35)),
    ),
    "event": (
        Member("status", until=v(52)),
        Member("id", until=v(52)),
        Member("from", until=v(52)),
    ),
    "network": (
        Member("EnableIPv4", since=v(48)),
        Member("Status", since=v(52)),
    ),
    "networks": (Member("[].EnableIPv4", since=v(48)),),
    "stats": (Member("os_type", since=v(52)),),
    "usage": (
        Member("Images.[].VirtualSize", until=v(44)),
        Member("BuildCache", since=v(39)),
        Member("BuilderSize", since=v(31), until=v(42)),
        Member("BuildCache.[].Parent", until=v(42)),
        Member("BuildCache.[].Parents", since=v(42)),
        Member("ImageUsage", since=v(52)),
        Member("ContainerUsage", since=v(52)),
        Member("VolumeUsage", since=v(52)),
        Member("BuildCacheUsage", since=v(52)),
    ),
}
"""By the kind of a document."""


class Behaviour(NamedTuple):
    """Something that is done from a version on. what: in words, for the page."""

    since: Version
    what: str


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "stream-type": Behaviour(v(42), "a multiplexed stream has a content type of its own"),
    "anonymous-prune": Behaviour(v(42), "a prune of volumes takes only those without a name"),
    "empty-tags": Behaviour(v(43), "an image without a name has empty lists, not <none>:<none>"),
    "aliases-as-asked": Behaviour(v(45), "aliases are those that were asked for, without the short ID"),
    "several-networks": Behaviour(v(44), "a create takes several networks"),
    "shared-size-asked": Behaviour(v(42), "a list of images measures what they share only when asked"),
    "wait-conditions": Behaviour(v(30), "a wait has a condition, and its head comes at once"),
    "history-of-platform": Behaviour(v(48), "an image's history is of the platform that was asked for"),
    "image-of-platform": Behaviour(v(49), "an image is looked at for the platform that was asked for"),
    "containers-counted": Behaviour(v(51), "a list of images counts the containers of each"),
}
"""What is done otherwise from a version on, by a word."""


def has(word: str, version: Version) -> bool:
    """Whether the version does it: see ``BEHAVIOURS``."""
    return version >= BEHAVIOURS[word].since


Document: TypeAlias = Any


def shown(kind: str, document: Document, version: Version) -> Document:
    """The document without what the version does not have. It is not changed; what is left out is copied around."""
    for member in MEMBERS.get(kind, ()):
        if not member.since <= version < member.until:
            document = _without(document, member.path.split("."))
    return document


def _without(document: Document, path: list[str]) -> Document:
    name, *rest = path
    if name == "[]":
        return [_without(each, rest) for each in document] if isinstance(document, list) else document
    if not isinstance(document, dict):
        return document
    if name == "*":
        return {key: _without(each, rest) for key, each in document.items()}
    if name not in document:
        return document
    if rest:
        return {**document, name: _without(document[name], rest)}
    return {key: each for key, each in document.items() if key != name}
