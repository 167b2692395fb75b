"""``shiplap project ls``."""

from __future__ import annotations

from typing import Any

import click

from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server
from cli.table import print_json, table


@click.command("ls")
@json_option
@click.pass_obj
def command(root: str | None, *, as_json: bool) -> None:
    """List projects."""
    with Client(required_server(host_option(), root)) as client:
        projects: list[dict[str, Any]] = client.call("GET", "/projects")["projects"]
    if as_json:
        print_json(projects)
        return
    rows = [(project["name"], *_told(project)) for project in projects]
    click.echo(table(("PROJECT", "FORGE", "WEBHOOK", "STATUSES", "REPOSITORY"), rows))


def _told(project: dict[str, Any]) -> tuple[str, str, str, str]:
    hook = project.get("hook", {})
    webhook = "yes" if project.get("has_webhook_secret") else "no"
    statuses = "yes" if project.get("has_status_token") else "no"
    return hook.get("forge", "") or "-", webhook, statuses, hook.get("repository", "") or "-"
