"""``shiplap registry user``: the group and its commands, which are small."""

from __future__ import annotations

import sys

import click

from cli.commands.registry.admin import parse_right, users_of
from cli.errors import CommandError
from cli.options import json_option
from cli.places import Group
from cli.store import open_store
from cli.table import print_json, print_table


@click.group("user", cls=Group)
def command() -> None:
    """Manage users and their rights.

    A right is PATTERN:ACTIONS; * in the pattern stands for anything, the actions are pull, push, delete or *.
    """


@command.command("add")
@click.argument("name")
@click.argument("rights", metavar="[RIGHT]...", nargs=-1)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def add(root: str | None, *, name: str, rights: tuple[str, ...], password_stdin: bool) -> None:
    """Make a user.

    \b
    shiplap registry user add admin '*:*'
    shiplap registry user add alice 'team/*:pull,push' '*:pull'
    """
    wanted = [parse_right(right) for right in rights]
    password = _password(password_stdin)
    with open_store(root) as store, users_of(store) as users:
        users.set_password(name, password, new=True)
        for pattern, actions in wanted:
            users.grant(name, pattern, actions)


@command.command("password")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def password(root: str | None, *, name: str, password_stdin: bool) -> None:
    """Change a user's password."""
    new = _password(password_stdin)
    with open_store(root) as store, users_of(store) as users:
        users.set_password(name, new, new=False)


@command.command("rm")
@click.argument("name")
@click.pass_obj
def remove(root: str | None, *, name: str) -> None:
    """Remove a user, with all rights and access tokens."""
    with open_store(root) as store, users_of(store) as users:
        users.remove(name)


@command.command("grant")
@click.argument("name")
@click.argument("rights", metavar="RIGHT...", nargs=-1, required=True)
@click.pass_obj
def grant(root: str | None, *, name: str, rights: tuple[str, ...]) -> None:
    """Give rights to a user, or to 'everyone', also without a password."""
    wanted = [parse_right(right) for right in rights]
    with open_store(root) as store, users_of(store) as users:
        for pattern, actions in wanted:
            users.grant(_user(name), pattern, actions)


@command.command("revoke")
@click.argument("name")
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.pass_obj
def revoke(root: str | None, *, name: str, patterns: tuple[str, ...]) -> None:
    """Take the rights of these patterns away."""
    with open_store(root) as store, users_of(store) as users:
        for pattern in patterns:
            users.revoke(_user(name), pattern)


@command.command("ls")
@json_option
@click.pass_obj
def ls(root: str | None, *, as_json: bool) -> None:
    """List users and their rights."""
    from registry.server.users import EVERYONE, RESERVED

    with open_store(root) as store, users_of(store) as users:
        grants = {name: users.grants(name) for name in users.names()}
        open_to_all = users.grants(EVERYONE)
    if open_to_all:
        grants[RESERVED] = open_to_all
    rights = {name: [f"{g.pattern}:{','.join(sorted(g.actions))}" for g in given] for name, given in grants.items()}
    if as_json:
        print_json([{"name": name, "rights": given} for name, given in rights.items()])
    else:
        print_table(("USER", "RIGHTS"), [(name, " ".join(given)) for name, given in rights.items()])


def _user(name: str) -> str:
    from registry.server.users import EVERYONE, RESERVED

    return EVERYONE if name == RESERVED else name


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for the password", hint="use --password-stdin")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
