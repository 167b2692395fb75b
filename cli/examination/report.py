"""The report of all looks at a service. It never shows a secret of the settings."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from cli.examination import addresses, registries
from cli.examination.running import examine
from cli.table import print_json, table
from core.settings import OidcSettings, ServiceSettings
from pipelines.examination.findings import Finding, Look
from pipelines.examination.hiding import hider
from pipelines.examination.host import look_at_disk, look_at_git
from pipelines.examination.stores import look_at_database, look_at_key, look_at_redis
from pipelines.keys.keynumbers import ORIGIN

_BOUND_S: Final = 20.0
_LONG_BOUND_S: Final = 30.0


def examine_service(root: str | None, *, as_json: bool) -> int:
    """Print what all looks find. Returns the exit code."""
    settings = ServiceSettings.from_environ(root=root)
    hide = hider(settings)
    with tempfile.TemporaryDirectory(prefix="shiplap-doctor-") as folder:
        looked = examine(looks(settings, Path(folder)))
    found = [finding._replace(detail=hide(finding.detail), remedy=hide(finding.remedy)) for finding in looked]
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        click.echo(report(found))
    return 1 if any(finding.state == "FAILED" for finding in found) else 0


def looks(settings: ServiceSettings, folder: Path) -> list[Look]:
    """The looks, in the order of the report. folder: an empty private directory."""
    public = "see SHIPLAP_PUBLIC_URL"
    return [
        Look("database", lambda: look_at_database(settings), _BOUND_S, "see SHIPLAP_DATABASE_URL"),
        Look("key of secrets", lambda: look_at_key(settings), _BOUND_S, f"copy it anew from {ORIGIN}"),
        Look("Redis", lambda: look_at_redis(settings), _BOUND_S, "see SHIPLAP_REDIS_URL"),
        Look(registries.NAME, lambda: registries.look_at_registry(settings), _LONG_BOUND_S, "see SHIPLAP_REGISTRY"),
        Look(addresses.HERE, lambda: addresses.look_at_public_url(settings), _BOUND_S, public),
        Look(addresses.STEP, lambda: addresses.look_from_step(settings, folder), _LONG_BOUND_S, public),
        Look(addresses.OIDC, _look_at_oidc, _BOUND_S, "see SHIPLAP_OIDC_ISSUER"),
        Look("git's tools", lambda: look_at_git(settings), _BOUND_S, "apt-get install git openssh-client"),
        Look("disk", lambda: look_at_disk(settings), _BOUND_S, "see SHIPLAP_ROOT"),
    ]


def _look_at_oidc() -> Iterator[Finding]:
    yield from addresses.look_at_oidc(OidcSettings.from_environ())


def report(found: Sequence[Finding]) -> str:
    """The findings as a table, then what to do, then the verdict."""
    rows = [(finding.name, finding.state, " ".join(finding.detail.split())) for finding in found]
    lines = [table(("CHECK", "STATE", "DETAIL"), rows)]
    remedies = [f"  {finding.name}: {finding.remedy}" for finding in found if finding.state != "OK" and finding.remedy]
    if remedies:
        lines += ["", "What to do:", *remedies]
    count = Counter(finding.state for finding in found)
    if count["FAILED"]:
        verdict = f"{count['FAILED']} of {len(found)} checks failed."
    elif count["WARN"]:
        verdict = "The service can work; see whether what is marked WARN is meant so."
    else:
        verdict = "All that the service needs is there."
    return "\n".join([*lines, "", verdict])
