"""``shiplap token``: the group and its commands, which are small."""

from __future__ import annotations

import time
from typing import Any

import click

from cli.errors import CommandError
from cli.listing import format_option
from cli.options import json_option
from cli.places import Group
from cli.remote.accountrows import TOKENS, token_row
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server
from cli.table import print_json

_DAY_S = 86400.0


@click.group("token", cls=Group)
def command() -> None:
    """Manage the API tokens of a build service.

    The same token is a password for its registry: scope read may pull, build may push.
    """


@command.command("add")
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(("read", "build", "admin")),
    help="What it allows in all projects; each includes those before it.  [default: build]",
)  # fmt: skip
@click.option("--project", metavar="NAME", help="Let it be for this project alone.")
@click.option(
    "--role", type=click.Choice(("read", "build", "maintain")), help="What it may there.  [default: build]"
)  # fmt: skip
@click.option("--days", type=click.FloatRange(min=0, min_open=True, max=3660), help="Let it expire.  [default: never]")
@json_option
@click.pass_obj
def add(
    root: str | None,
    *,
    name: str,
    scope: str | None,
    project: str | None,
    role: str | None,
    days: float | None,
    as_json: bool,
) -> None:
    """Make a token and print it. It is shown this once: only its hash is kept.

    \b
    shiplap token add ci --scope build --days 90
    shiplap token add ci --project web --role build
    """
    if (project and scope) or (role and not project):
        raise CommandError("--scope is for all projects, --project and --role are for one", hint="take either")
    body: dict[str, Any] = {"name": name, **({"role": role or "build"} if project else {"scopes": [scope or "build"]})}
    if days:
        body["expires_in_s"] = max(1, round(days * _DAY_S))
    with Client(required_server(host_option(), root)) as client:
        made = client.call("POST", f"/projects/{segment(project)}/tokens" if project else "/tokens", body)
    if as_json:
        print_json({**made["token"], "secret": made["secret"]})
    else:
        click.echo(made["secret"])


@command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@format_option
@json_option
@click.pass_obj
def ls(root: str | None, *, quiet: bool, form: str, as_json: bool) -> None:
    """List tokens, the expired included."""
    TOKENS.check(form)
    with Client(required_server(host_option(), root)) as client:
        tokens = client.call("GET", "/tokens")["tokens"]
    if as_json:
        print_json(tokens)
        return
    now = time.time()
    TOKENS.print([token_row(token, now) for token in tokens], form, quiet=quiet)


@command.command("rm")
@click.argument("tokens", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@click.pass_obj
def remove(root: str | None, *, tokens: tuple[int, ...]) -> None:
    """Take tokens back: they are refused from now on."""
    with Client(required_server(host_option(), root)) as client:
        for token in tokens:
            client.call("DELETE", f"/tokens/{token}")
