"""``shiplap audit``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server
from cli.table import print_json, print_table, rfc3339
from pipelines.changes import Change, in_words

_DAY = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"))


@click.command("audit")
@click.option("--by", metavar="NAME", default="", help="Only what this user, or 'token NAME', did.")
@click.option("--action", metavar="WORDS", default="", help="Only this action, as the list has it.")
@click.option("--about", metavar="TEXT", default="", help="Only what was done to things with this in their names.")
@click.option("--since", type=_DAY, metavar="DAY", help="Only from this day on (UTC).")
@click.option("-n", "--last", type=click.IntRange(1, 1000), default=50, help="How many.  [default: 50]")
@json_option
@click.pass_obj
def command(
    root: str | None, *, by: str, action: str, about: str, since: datetime | None, last: int, as_json: bool
) -> None:
    """List who did what in a build service, and what that changed.

    The newest comes first. Of a secret it says that it was set or changed, never what it is. Administrators see all,
    others what was done in the projects that they maintain.

    \b
    shiplap audit --about project=web --since 2026-11-01
    """
    asked = {"actor": by, "action": action, "subject": about, "limit": str(last)}
    if since is not None:
        asked["since"] = str(since.replace(tzinfo=UTC).timestamp())
    with Client(required_server(host_option(), root)) as client:
        query = {name: text for name, text in asked.items() if text}
        entries: list[dict[str, Any]] = client.call("GET", "/audit", query=query)["entries"]
    if as_json:
        print_json(entries)
        return
    rows = [
        (rfc3339(int(entry["at"])), entry["actor"], entry["action"], entry["subject"], _told(entry))
        for entry in entries
    ]
    print_table(("WHEN", "WHO", "DID", "TO", "WHAT CHANGED"), rows)


def _told(entry: dict[str, Any]) -> str:
    """What the entry changed; of an entry without changes, its detail."""
    changes = msgspec.convert(entry.get("changes", []), list[Change])  # an older service sends none
    return "; ".join(map(in_words, changes)) or str(entry["detail"])
