"""``shiplap registry token``: the group and its commands, which are small."""

from __future__ import annotations

import click

from cli.commands.registry.admin import parse_right, users_of
from cli.options import json_option
from cli.places import Group
from cli.store import open_store
from cli.table import print_json, print_table, rfc3339

_DAY_S = 86400.0


@click.group("token", cls=Group)
def command() -> None:
    """Manage access tokens: passwords for machines."""


@command.command("create")
@click.argument("user")
@click.argument("right", required=False, default="*:*")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Let it expire.  [default: never]")
@click.pass_obj
def create(root: str | None, *, user: str, right: str, days: float | None) -> None:
    """Print a new access token of USER, with at most USER's own rights. It is shown this once.

    \b
    shiplap registry token create alice 'team/app:pull' --days 90
    """
    pattern, actions = parse_right(right)
    with open_store(root) as store, users_of(store) as users:
        _, secret = users.create_token(user, pattern, actions, lifetime_s=days * _DAY_S if days else None)
    click.echo(secret)


@command.command("ls")
@json_option
@click.pass_obj
def ls(root: str | None, *, as_json: bool) -> None:
    """List access tokens."""
    with open_store(root) as store, users_of(store) as users:
        rows = [
            (
                token.id,
                token.user,
                f"{token.limit.pattern}:{','.join(sorted(token.limit.actions))}",
                rfc3339(token.created_at),
                "never" if token.expires_at is None else rfc3339(token.expires_at),
            )
            for token in users.tokens()
        ]
    header = ("ID", "USER", "RIGHT", "CREATED", "EXPIRES")
    if as_json:
        print_json([dict(zip((name.lower() for name in header), row, strict=True)) for row in rows])
    else:
        print_table(header, rows)


@command.command("rm")
@click.argument("identity", metavar="ID")
@click.pass_obj
def remove(root: str | None, *, identity: str) -> None:
    """Take an access token back."""
    with open_store(root) as store, users_of(store) as users:
        users.remove_token(identity)
