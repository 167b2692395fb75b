"""What is known of the service as a whole, for its page and the API: version, settings, disk, backups."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from core.effective import EffectiveGroup, EffectiveSetting, effective_settings
from core.release import VERSION, commit
from pipelines.keeping.diskuse import LOOKS_BACK_S, DiskSample, Forecast, forecast, samples
from pipelines.keeping.records import MadeBackup, last_whole, made_backups
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from web.backing import Administration
from web.housekeeping import measured

_SET_BY_US: Final = {"access", "public_url", "hidden"}


class Version(msgspec.Struct, frozen=True):
    """Which Shiplap this is.

    commit: that it was built from; "" where nobody knows.
    started_at: when this web process began to serve, in seconds since the epoch.
    """

    version: str
    commit: str
    started_at: float


class Disk(msgspec.Struct, frozen=True):
    """The disk of the web process's root.

    now: as measured at this moment.
    forecast: null until it was measured for six hours.
    """

    root: str
    now: DiskSample
    forecast: Forecast | None


class Backups(msgspec.Struct, frozen=True):
    """The backups of the service.

    directory: where those go that are asked for by page or API; "": none can be asked for so.
    keep: how many of those stay; 0: all.
    being_made_by: who asked for the one that is being made now; null: none is. being_made_since: since when.
    last: the newest that is whole; null: none was made.
    made: the newest first, those that failed, too.
    """

    directory: str
    keep: int
    being_made_by: str | None
    being_made_since: float | None
    last: MadeBackup | None
    made: list[MadeBackup]


def version(administration: Administration) -> Version:
    """Which Shiplap answers, and since when."""
    return Version(VERSION, commit(), administration.started_at)


def disk(service: Service, registry: Registry) -> tuple[Disk, list[DiskSample]]:
    """The disk, and the samples of the last two weeks, the oldest first, the last one of now."""
    now = measured(service, registry)
    found = [*samples(service.database, registry.store.identity, now.at - LOOKS_BACK_S), now]
    return Disk(str(registry.store.root), now, forecast(found)), found


def backups(service: Service, administration: Administration) -> Backups:
    """What is known of backups."""
    directory = administration.backups
    making = directory.being_made()
    return Backups(
        str(directory.path or ""), service.settings.backup_keep,
        making.by if making else None, making.at if making else None,
        last_whole(service.database), made_backups(service.database),
    )  # fmt: skip


def settings(service: Service, registry: Registry | None) -> list[EffectiveGroup]:
    """The settings in force in this process, with those of ROOT/serve/registry.toml."""
    ours = service.settings
    known = {
        "SHIPLAP_ROOT": str(ours.root),
        "SHIPLAP_DATABASE_URL": f"sqlite:///{ours.root}/serve/service.db",
        "SHIPLAP_REDIS_URL": f"unix://{ours.root}/serve/redis/redis.sock",
        "SHIPLAP_SECRET_KEY_FILE": f"{ours.root}/serve/secret.key",
    }
    groups = effective_settings(known)
    return groups if registry is None else [*groups, _of_registry(registry)]


def _of_registry(registry: Registry) -> EffectiveGroup:
    path = registry.store.root / "serve" / "registry.toml"
    usual = ServerSettings()
    found = []
    for field in dataclasses.fields(ServerSettings):
        value, default = getattr(registry.settings, field.name), getattr(usual, field.name)
        if field.name not in _SET_BY_US and isinstance(value, bool | int | float | str):
            found.append(_from_file(field.name, _text(value), "" if value == default else str(path)))
    rules = len(registry.settings.policies)
    found.append(_from_file("[[repository]]", str(rules) if rules else "", str(path) if rules else ""))
    return EffectiveGroup("The registry", tuple(found))


def _from_file(name: str, value: str, place: str) -> EffectiveSetting:
    """A setting that a file may have. place: the file; "" for a default."""
    return EffectiveSetting(name, "", value, "file" if place else "default", place)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
