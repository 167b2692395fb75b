"""Docker's documents, as far as pages show them. Pure. All of it may be chosen by whoever made a container."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from web.errors import UnavailableError

_HEALTH: Final = re.compile(r" \((?:health: )?(healthy|unhealthy|starting)\)$")
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
_TROUBLED: Final = ("restarting", "dead")
_MOST_NAME: Final = 200
_MOST_STATUS: Final = 100

_MARKS: Final = {
    "running": "succeeded", "paused": "draining", "restarting": "queued", "created": "waiting", "exited": "skipped",
    "dead": "error", "removing": "cancelled",
}  # fmt: skip
"""The sprite's mark of a container's state: what is well is an outline, and nothing turns."""


class _Port(
    msgspec.Struct,
    frozen=True,
    rename={"private": "PrivatePort", "public": "PublicPort", "kind": "Type", "address": "IP"},
):
    private: int = 0
    public: int = 0
    kind: str = ""
    address: str = ""


class _Mount(
    msgspec.Struct, frozen=True, rename={"kind": "Type", "name": "Name", "source": "Source", "target": "Destination"}
):
    kind: str = ""
    name: str = ""
    source: str = ""
    target: str = ""


class _Attached(msgspec.Struct, frozen=True, rename={"networks": "Networks"}):
    networks: dict[str, Any] | None = None


class _Listed(
    msgspec.Struct,
    frozen=True,
    rename={
        "id": "Id", "names": "Names", "image": "Image", "image_id": "ImageID", "created": "Created",
        "ports": "Ports", "state": "State", "status": "Status", "mounts": "Mounts", "attached": "NetworkSettings",
        "labels": "Labels",
    },
):  # fmt: skip
    id: str
    names: list[str] | None = None
    image: str = ""
    image_id: str = ""
    created: float = 0
    ports: list[_Port] | None = None
    state: str = ""
    status: str = ""
    mounts: list[_Mount] | None = None
    attached: _Attached | None = None
    labels: dict[str, str] | None = None


class Container(msgspec.Struct, frozen=True):
    """A container in a list.

    image, image_id: its name, and the digest of its config.
    state: docker's. status: since when, in docker's words. health: docker's; empty: nothing checks it.
    ports: published ones, as ``8080→80/tcp``. networks, volumes: names.
    project: compose's, by a label.
    """

    id: str
    name: str
    image: str
    image_id: str
    created: float
    state: str
    status: str
    health: str
    ports: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    project: str

    @property
    def short(self) -> str:
        return self.id[:12]

    @property
    def mark(self) -> str:
        """The mark of its state."""
        return mark_of(self.state, self.health)

    @property
    def word(self) -> str:
        """Its state in a word; of its health, where that is known."""
        return self.health if self.state == "running" and self.health in ("healthy", "unhealthy") else self.state

    @property
    def is_up(self) -> bool:
        return self.state in ("running", "paused", "restarting")

    @property
    def is_failing(self) -> bool:
        """Whether it needs somebody: it is unhealthy, starts again and again, or could not be removed."""
        return (self.state == "running" and self.health == "unhealthy") or self.state in _TROUBLED


class Network(msgspec.Struct, frozen=True):
    """A network. subnets: of IPv4 and IPv6. is_internal: no way out. containers: how many are in it."""

    id: str
    name: str
    driver: str
    subnets: tuple[str, ...]
    is_internal: bool
    containers: tuple[Container, ...]


class Volume(msgspec.Struct, frozen=True):
    """A volume. created: seconds since the epoch, as text. containers: that have it."""

    name: str
    driver: str
    created: str
    containers: tuple[Container, ...]


class Facts(msgspec.Struct, frozen=True):
    """A container by itself, as its page shows it. Times are RFC 3339, "" for what has not happened.

    ports: as in a list. networks: names and addresses. mounts: where, and what is there.
    checks: the last results of its health check: when it ended, its exit code, what it printed.
    restarts: how often its policy has started it.
    """

    container: Container
    command: tuple[str, ...]
    started: str
    finished: str
    exit_code: int
    error: str
    policy: str
    restarts: int
    host_name: str
    has_terminal: bool
    networks: tuple[tuple[str, str], ...]
    mounts: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, int, str], ...]
    labels: tuple[tuple[str, str], ...]


class Change(msgspec.Struct, frozen=True):
    """A path that a container changed. kind: ``added``, ``modified`` or ``removed``."""

    path: str
    kind: str


def mark_of(state: str, health: str) -> str:
    """The mark of a container's state and health."""
    if state == "running" and health in ("unhealthy", "starting"):
        return "failed" if health == "unhealthy" else "queued"
    return _MARKS.get(state, "waiting")


def containers_of(document: Any) -> list[Container]:
    """The containers of a list, those that need somebody first, then by name. Raises UnavailableError."""
    found = [_container(each) for each in _converted(document, list[_Listed])]
    return sorted(found, key=lambda each: (not each.is_failing, not each.is_up, each.name))


def networks_of(document: Any, containers: Iterable[Container]) -> list[Network]:
    """The networks of a list, by name, with the containers in each. Raises UnavailableError."""
    known = list(containers)
    return sorted(
        (
            Network(
                _text(each.get("Id")),
                _text(each.get("Name")),
                _text(each.get("Driver")),
                tuple(_subnets(each)),
                each.get("Internal") is True,
                tuple(one for one in known if _text(each.get("Name")) in one.networks),
            )
            for each in _converted(document, list[dict[str, Any]])
        ),
        key=lambda network: network.name,
    )


def volumes_of(document: Any, containers: Iterable[Container]) -> list[Volume]:
    """The volumes of a list, by name, with the containers that have each. Raises UnavailableError."""
    known = list(containers)
    listed = _converted(_member(document, "Volumes") or [], list[dict[str, Any]])
    names = [(_text(each.get("Name"), 300), _text(each.get("Driver")), _text(each.get("CreatedAt"))) for each in listed]
    return [
        Volume(name, driver, created, tuple(one for one in known if name in one.volumes))
        for name, driver, created in sorted(names)
    ]


def facts_of(document: Any) -> Facts:
    """A container's own document, as the page shows it. Raises UnavailableError."""
    state, config = _member(document, "State"), _member(document, "Config")
    host, settings = _member(document, "HostConfig"), _member(document, "NetworkSettings")
    health = _member(state, "Health")
    policy = _member(host, "RestartPolicy")
    tries = _number(_member(policy, "MaximumRetryCount"))
    mounts = _list(_member(document, "Mounts"))
    attached = _member(settings, "Networks")
    labels = {_text(name): _text(value, 2000) for name, value in _pairs(_member(config, "Labels"))}
    container = Container(
        id=_text(_member(document, "Id")),
        name=_text(_member(document, "Name")).removeprefix("/"),
        image=_text(_member(config, "Image"), 500),
        image_id=_text(_member(document, "Image")),
        created=0.0,
        state=_text(_member(state, "Status")),
        status="",
        health=_text(_member(health, "Status")).removeprefix("none"),
        ports=tuple(_published(_member(settings, "Ports"))),
        networks=tuple(name for name, _ in _pairs(attached)),
        volumes=tuple(_text(_member(each, "Name"), 300) for each in mounts if _member(each, "Type") == "volume"),
        project=labels.get("com.docker.compose.project", ""),
    )
    name = _text(_member(policy, "Name")) or "no"
    return Facts(
        container=container,
        command=tuple(_text(each, 2000) for each in [_member(document, "Path"), *_list(_member(document, "Args"))]),
        started=_moment(_member(state, "StartedAt")),
        finished=_moment(_member(state, "FinishedAt")),
        exit_code=_number(_member(state, "ExitCode")),
        error=_text(_member(state, "Error"), 2000),
        policy=f"{name}, {tries} times at most" if name == "on-failure" and tries else name,
        restarts=_number(_member(document, "RestartCount")),
        host_name=_text(_member(config, "Hostname")),
        has_terminal=_member(config, "Tty") is True,
        networks=tuple((name, _addresses(its)) for name, its in _pairs(attached)),
        mounts=tuple((_text(_member(each, "Destination"), 500), _mounted(each)) for each in mounts),
        checks=tuple(
            (_moment(_member(each, "End")), _number(_member(each, "ExitCode")), _text(_member(each, "Output"), 4096))
            for each in reversed(_list(_member(health, "Log")))
        ),
        labels=tuple(sorted(labels.items())),
    )


def changes_of(document: Any) -> list[Change]:
    """What a container changed in its image's files, by path. Raises UnavailableError."""
    kinds = ("modified", "added", "removed")
    found = []
    for each in _converted(document or [], list[dict[str, Any]]):
        kind = each.get("Kind")
        if isinstance(kind, int) and 0 <= kind < len(kinds):
            found.append(Change(_text(each.get("Path"), 4096), kinds[kind]))
    return sorted(found, key=lambda change: change.path)


def _container(listed: _Listed) -> Container:
    health = _HEALTH.search(listed.status)
    names = listed.names or []
    return Container(
        id=listed.id[:64],
        name=_text(names[0] if names else listed.id[:12]).removeprefix("/"),
        image=_text(listed.image, 500),
        image_id=_text(listed.image_id),
        created=listed.created,
        state=_text(listed.state),
        status=_text(_HEALTH.sub("", listed.status), _MOST_STATUS),
        health=health[1] if health else "",
        ports=tuple(dict.fromkeys(_port(port) for port in listed.ports or [] if port.public)),
        networks=tuple((listed.attached and listed.attached.networks) or ()),
        volumes=tuple(mount.name for mount in listed.mounts or [] if mount.kind == "volume"),
        project=_text((listed.labels or {}).get("com.docker.compose.project")),
    )


def _port(port: _Port) -> str:
    near = f"[{port.address}]:" if ":" in port.address else f"{port.address}:"
    if port.address in _EVERYWHERE:
        near = ""
    kind = "" if port.kind == "tcp" else f"/{port.kind}"
    return f"{near}{port.public}→{port.private}{kind}"


def _published(document: Any) -> Iterable[str]:
    """Published ports of a container's own document."""
    found = []
    for inside, bindings in _pairs(document):
        private, _, kind = inside.partition("/")
        for each in _list(bindings):
            public = _text(_member(each, "HostPort"))
            if public.isascii() and public.isdigit() and private.isascii() and private.isdigit():
                found.append(_port(_Port(int(private), int(public), kind, _text(_member(each, "HostIp")))))
    return dict.fromkeys(found)


def _subnets(document: Mapping[str, Any]) -> Iterable[str]:
    for each in _list(_member(document.get("IPAM"), "Config")):
        if subnet := _text(_member(each, "Subnet")):
            yield subnet


def _addresses(document: Any) -> str:
    found = [_text(_member(document, name)) for name in ("IPAddress", "GlobalIPv6Address")]
    return ", ".join(address for address in found if address)


def _mounted(document: Any) -> str:
    kind, name = _text(_member(document, "Type")), _text(_member(document, "Name"), 300)
    source = name if kind == "volume" else _text(_member(document, "Source"), 500)
    only = "" if _member(document, "RW") is not False else ", read-only"
    return f"{kind} {source}{only}".strip()


def _moment(value: Any) -> str:
    text = _text(value)
    return "" if text.startswith("0001-") else text


def _member(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None


def _pairs(document: Any) -> list[tuple[str, Any]]:
    return list(document.items()) if isinstance(document, dict) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text(value: Any, most: int = _MOST_NAME) -> str:
    return value[:most] if isinstance(value, str) else ""


def _converted(document: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UnavailableError(f"the engine's answer is none that is known: {error}") from error
