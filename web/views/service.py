"""The service as a whole, for administrators: version, settings, health, disk, registry, backups."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from core.effective import EffectiveGroup, Origin
from pipelines.changes import compared
from registry.server.registry import Registry
from registry.server.settings import Policy
from registry.server.survey import list_repositories
from web import serviceview
from web.backing import administration, registry
from web.calls import Call
from web.endpoints import Api
from web.errors import ForbiddenError, NotFoundError
from web.guard import note
from web.housekeeping import collect_images
from web.serviceview import Backups, Disk, Version

api: Final = Api("service")

_NO_REGISTRY: Final = {404: "This web process has no registry"}


class HealthFinding(msgspec.Struct, frozen=True):
    """Something that was looked at.

    state: OK; WARN: this may be intended or not; FAILED: a part of the service does not work.
    remedy: the next step to take; "" for none.
    """

    name: str
    state: str
    detail: str
    remedy: str


class SettingInForce(msgspec.Struct, frozen=True):
    """A setting, as this web process has it.

    value: what counts; "set" for a secret, "" for nothing.
    origin: where it comes from: default, variable or file. place: the file, else "".
    """

    name: str
    meaning: str
    value: str
    origin: Origin
    place: str


class SettingsGroup(msgspec.Struct, frozen=True):
    """Settings under one heading."""

    title: str
    settings: list[SettingInForce]


class ServiceView(msgspec.Struct, frozen=True):
    """The service, as this web process has it.

    settings: in force here, by group, with where each comes from. Of a secret it says "set".
    health: without what needs containers or the registry's client: shiplap doctor --service has that, too.
    """

    version: Version
    settings: list[SettingsGroup]
    health: list[HealthFinding]
    examined_at: float


class RegistryRule(msgspec.Struct, frozen=True):
    """What holds for repositories whose names fit the pattern.

    Of the file's rules the first that fits counts. Those that were chosen are for one repository each, by its name as
    pattern; they hold where the file says nothing.

    quota_bytes: null: no bound.
    immutable_tags: patterns.
    mirror: "" for none.
    has_retention: whether tags are removed.
    origin: the service's file, or somebody's choice on a page or by the API.
    untagged_days: after so long what nothing leads to is collected; null: never.
    """

    pattern: str
    quota_bytes: int | None
    immutable_tags: list[str]
    mirror: str
    has_retention: bool
    origin: Literal["file", "chosen"]
    untagged_days: float | None


class RegistryView(msgspec.Struct, frozen=True):
    """The built-in registry: what it has, and its settings.

    size_bytes: what several repositories share counts in each.
    """

    repositories: int
    tags: int
    size_bytes: int
    anonymous_pull: bool
    collect_every_s: float
    grace_s: float
    rules: list[RegistryRule]


class Collected(msgspec.Struct, frozen=True):
    """What a garbage collection removed. freed_bytes: on disk."""

    tags: int
    manifests: int
    blobs: int
    uploads: int
    freed_bytes: int


class BackupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A backup that is to be made. images: whether the built-in registry's are in it."""

    images: bool = False


@api.endpoint("GET", "/service", scope="admin")
def show_service(call: Call) -> ServiceView:
    """Show version, settings in force, and health."""
    examined = administration().examiner.now()
    return ServiceView(
        serviceview.version(administration()),
        [_group(group) for group in serviceview.settings(call.service, _registry_or_none())],
        [HealthFinding(*finding) for finding in examined.findings],
        examined.at,
    )


@api.endpoint("GET", "/disk", scope="read", errors=_NO_REGISTRY)
def show_disk(call: Call) -> Disk:
    """Show how full the disk is, and when it will be at the present growth. For who may read all projects."""
    if not call.rights.may_everywhere("read"):
        raise ForbiddenError("this is for who may read all projects", hint="the role viewer may")
    return serviceview.disk(call.service, registry())[0]


@api.endpoint("GET", "/registry", scope="admin", errors=_NO_REGISTRY)
def show_registry(call: Call) -> RegistryView:
    """Show what the built-in registry has and takes, its settings, and its rules: the file's and those of pages."""
    del call
    found, settings = list_repositories(registry().store, registry().settings.hidden_range), registry().settings
    return RegistryView(
        len(found), sum(each.tags for each in found), sum(each.size_bytes for each in found),
        settings.anonymous_pull, settings.collect_every_s, settings.grace_s,
        [
            *(_rule(policy, "file") for policy in settings.policies),
            *(_rule(policy, "chosen") for policy in registry().rules.all()),
        ],
    )  # fmt: skip


@api.endpoint("POST", "/registry/collect", scope="admin", errors=_NO_REGISTRY)
def collect_garbage(call: Call) -> Collected:
    """Remove what no tag reaches any more, and what retention gives up, as happens each hour by itself."""
    done = collect_images(call.service, registry())
    freed = f"{done.tags} tags, {done.manifests} manifests, {done.freed_bytes} bytes"
    note(call.service, "collect garbage", "registry", freed, actor=call.actor)
    return Collected(done.tags, done.manifests, done.blobs, done.uploads, done.freed_bytes)


@api.endpoint("GET", "/backups", scope="admin")
def list_backups(call: Call) -> Backups:
    """List the backups that were made, and whether one is being made."""
    return serviceview.backups(call.service, administration())


@api.endpoint(
    "POST", "/backups", scope="admin", status=202, errors={409: "One is being made", 422: "There is no place for it"}
)
def start_backup(call: Call, body: BackupRequest) -> Backups:
    """Begin a backup, into the directory that the host's administrator chose: SHIPLAP_BACKUP_DIR.

    It holds the key of all secrets, so nobody gets it by the API: it stays on that host. GET /backups says when it is
    whole.
    """
    directory = administration().backups
    directory.start(call.actor, images=body.images)
    note(call.service, "start backup", str(directory.path), actor=call.actor, changes=compared(None, body))
    return serviceview.backups(call.service, administration())


def _group(group: EffectiveGroup) -> SettingsGroup:
    return SettingsGroup(group.title, [SettingInForce(*each) for each in group.settings])


def _rule(policy: Policy, origin: Literal["file", "chosen"]) -> RegistryRule:
    return RegistryRule(
        policy.pattern, policy.quota_bytes, list(policy.immutable_tags), policy.mirror, policy.retention is not None,
        origin, policy.untagged_days,
    )  # fmt: skip


def _registry_or_none() -> Registry | None:
    try:
        return registry()
    except NotFoundError:
        return None
