"""``shiplap user``: the group and its commands, which are small."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from cli.errors import CommandError
from cli.listing import format_option
from cli.options import json_option
from cli.places import Group
from cli.remote.accountrows import USERS, user_row
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server
from cli.table import print_json

_ROLES = click.Choice(("guest", "viewer", "member", "admin"))
_MAX_PASSWORD_BYTES = 4096


@click.group("user", cls=Group)
def command() -> None:
    """Manage the people who may sign in to a build service.

    A viewer looks, a member also builds, an admin does everything; a guest may what roles in projects allow: 'shiplap
    project member'. Robots get tokens instead: 'shiplap token'.
    """


@command.command("add")
@click.argument("name")
@click.option("--role", type=_ROLES, default="member", help="[default: member]")
@click.option("--password-stdin", is_flag=True, help="Read a password from standard input.  [default: print a link]")
@click.pass_obj
def add(root: str | None, *, name: str, role: str, password_stdin: bool) -> None:
    """Make a user, and print the link by which a password is chosen: once, within 24 hours.

    \b
    shiplap user add alice --role admin
    """
    body: dict[str, Any] = {"name": name.lower(), "role": role}
    if password_stdin:
        body["password"] = _password_from_stdin()
    with Client(required_server(host_option(), root)) as client:
        made = client.call("POST", "/users", body)
    if made["link"]:
        click.echo(made["link"])


@command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def ls(root: str | None, *, quiet: bool, form: str, as_json: bool) -> None:
    """List users, the disabled included."""
    USERS.check(form)
    with Client(required_server(host_option(), root)) as client:
        users = client.call("GET", "/users")["users"]
    if as_json:
        print_json(users)
        return
    now = time.time()
    USERS.print([user_row(user, now) for user in users], form, quiet=quiet)


@command.command("passwd")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def passwd(root: str | None, *, name: str, password_stdin: bool) -> None:
    """Set a user's password, which ends all of the user's sessions."""
    _change(root, name, {"password": _password_from_stdin() if password_stdin else _ask(name)})


@command.command("role")
@click.argument("name")
@click.argument("role", type=_ROLES)
@click.pass_obj
def set_role(root: str | None, *, name: str, role: str) -> None:
    """Give a user another role."""
    _change(root, name, {"role": role})


@command.command("disable")
@click.argument("name")
@click.pass_obj
def disable(root: str | None, *, name: str) -> None:
    """Close every way in for a user: password, sessions, links and tokens."""
    _change(root, name, {"disabled": True})


@command.command("enable")
@click.argument("name")
@click.pass_obj
def enable(root: str | None, *, name: str) -> None:
    """Let a disabled user in again."""
    _change(root, name, {"disabled": False})


@command.command("link")
@click.argument("name")
@click.pass_obj
def link(root: str | None, *, name: str) -> None:
    """Print a link by which a user chooses a new password: once, within 24 hours."""
    with Client(required_server(host_option(), root)) as client:
        click.echo(client.call("POST", f"/users/{segment(name.lower())}/link")["link"])


def _change(root: str | None, name: str, change: dict[str, Any]) -> None:
    with Client(required_server(host_option(), root)) as client:
        client.call("PATCH", f"/users/{segment(name.lower())}", change)


def _password_from_stdin() -> str:
    data = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES).decode(errors="replace")
    return data.removesuffix("\n").removesuffix("\r")


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for the password", hint="--password-stdin < FILE")
    return str(click.prompt(f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True))
