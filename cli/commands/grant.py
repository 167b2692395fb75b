"""``shiplap grant``: the group and its commands, which are small."""

from __future__ import annotations

import sys
from typing import Any

import click

from cli.errors import CommandError
from cli.listing import format_option
from cli.options import json_option
from cli.places import Group
from cli.remote.accountrows import GRANTS, LOGINS, grant_row, login_row
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.policies import policy_of, policy_options
from cli.remote.servers import require_private, required_server
from cli.table import print_json

_MAX_PASSWORD_BYTES = 64 << 10
_KINDS = click.Choice(("secret", "login", "image", "bare"))


@click.group("grant", cls=Group)
def command() -> None:
    """Give projects of a build service what is not their own.

    A run has the rights of its project: its own images, bare repositories and secrets. What else it may use, an
    administrator gives to the project by name: a secret of the service, a login to a registry elsewhere, images of
    other projects (a pattern: base/*), another project's bare repositories.
    """


@command.command("add")
@click.argument("project")
@click.argument("kind", type=_KINDS)
@click.argument("name")
@click.option("--push", is_flag=True, help="Images may be pushed, too.")
@policy_options
@click.pass_obj
def add(root: str | None, /, *, project: str, kind: str, name: str, push: bool, **policy: tuple[str, ...]) -> None:
    """Give it to a project; '*' gives it to all.

    A policy says which of the project's runs get a secret, in place of its own ('shiplap secret policy'), or a login;
    without one, that is for protected branches and tags.

    \b
    shiplap grant add web secret NPM_TOKEN
    shiplap grant add web login ghcr.io --branches '**'
    shiplap grant add '*' image 'base/*'
    """
    with Client(required_server(host_option(), root)) as client:
        body: dict[str, Any] = {"project": project, "kind": kind, "name": name, "may_push": push}
        if any(policy.values()):
            body["policy"] = policy_of(policy)
        client.call("PUT", "/grants", body)


@command.command("ls")
@click.option("--project", metavar="NAME", default="", help="What this project has, with what all have.")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def ls(root: str | None, *, project: str, quiet: bool, form: str, as_json: bool) -> None:
    """List what projects were given."""
    GRANTS.check(form)
    with Client(required_server(host_option(), root)) as client:
        grants = client.call("GET", "/grants", query={"project": project} if project else None)["grants"]
    if as_json:
        print_json(grants)
        return
    GRANTS.print(map(grant_row, grants), form, quiet=quiet)


@command.command("rm")
@click.argument("project")
@click.argument("kind", type=_KINDS)
@click.argument("name")
@click.pass_obj
def remove(root: str | None, *, project: str, kind: str, name: str) -> None:
    """Take it from a project. Runs that need it fail from now on."""
    with Client(required_server(host_option(), root)) as client:
        client.call("DELETE", "/grants", query={"project": project, "kind": kind, "name": name})


@command.command("login")
@click.argument("registry")
@click.option("-u", "--username", metavar="USER", required=True, help="The user's name there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--for", "given", metavar="NAME", multiple=True, help="Give it to this project; * is all.")
@policy_options
@click.pass_obj
def login(
    root: str | None,
    /,
    *,
    registry: str,
    username: str,
    password_stdin: bool,
    given: tuple[str, ...],
    **policy: tuple[str, ...],
) -> None:
    """Store a login to a registry elsewhere, for the projects that it is given to.

    What is given by --for is for runs of protected branches and tags, unless a policy says more. One that was given
    before keeps its policy.

    Without a stored one, a project that was given the login of a registry has the one that the worker's own docker
    configuration has for it.

    \b
    shiplap grant login ghcr.io -u robot --password-stdin --for web < TOKEN
    """
    if any(policy.values()) and not given:
        raise CommandError("a policy is of what a project is given", hint="--for PROJECT says which")
    password = _password(registry, from_stdin=password_stdin)
    server = required_server(host_option(), root)
    require_private(server, "a password")
    with Client(server) as client:
        client.call("PUT", f"/logins/{segment(registry)}", {"username": username, "password": password})
        for project in given:
            body: dict[str, Any] = {"project": project, "kind": "login", "name": registry}
            if any(policy.values()):
                body["policy"] = policy_of(policy)
            client.call("PUT", "/grants", body)


@command.command("logins")
@click.option("-q", "--quiet", is_flag=True, help="Print only registries.")
@format_option
@json_option
@click.pass_obj
def logins(root: str | None, *, quiet: bool, form: str, as_json: bool) -> None:
    """List the logins that are stored. Passwords are never shown."""
    LOGINS.check(form)
    with Client(required_server(host_option(), root)) as client:
        found = client.call("GET", "/logins")["logins"]
    if as_json:
        print_json(found)
        return
    LOGINS.print(map(login_row, found), form, quiet=quiet)


@command.command("logout")
@click.argument("registry")
@click.pass_obj
def logout(root: str | None, *, registry: str) -> None:
    """Forget the login to a registry."""
    with Client(required_server(host_option(), root)) as client:
        client.call("DELETE", f"/logins/{segment(registry)}")


def _password(registry: str, *, from_stdin: bool) -> str:
    if not from_stdin and sys.stdin.isatty():
        return str(click.prompt(f"Password for {registry}", hide_input=True, err=True))
    if not from_stdin:
        raise CommandError("there is no terminal to ask for the password", hint="--password-stdin < FILE")
    given = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES + 1).decode(errors="replace")
    return given.removesuffix("\n").removesuffix("\r")
