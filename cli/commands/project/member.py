"""``shiplap project member``: the group and its commands, which are small."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.places import Group
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server
from cli.table import print_json, print_table

_ROLES = click.Choice(("read", "build", "maintain"))
_token_option = click.option("--token", "is_token", is_flag=True, help="WHO is the id of a robot's token.")


@click.group("member", cls=Group)
def command() -> None:
    """Say who may what in a project.

    Those who may in all projects are not its members.
    read: look, pull images. build: also start runs, push images. maintain: also settings, secrets, members.
    """


@command.command("ls")
@click.argument("project")
@json_option
@click.pass_obj
def ls(root: str | None, *, project: str, as_json: bool) -> None:
    """List who has a role in a project."""
    with Client(required_server(host_option(), root)) as client:
        members = client.call("GET", f"/projects/{segment(project)}/members")["members"]
    if as_json:
        print_json(members)
        return
    rows = [(member["kind"], member["subject"], member["name"], member["role"]) for member in members]
    print_table(("KIND", "WHO", "NAME", "ROLE"), rows)


@command.command("set")
@click.argument("project")
@click.argument("who")
@click.argument("role", type=_ROLES)
@_token_option
@click.pass_obj
def set_(root: str | None, *, project: str, who: str, role: str, is_token: bool) -> None:
    """Give a user a role in a project, in place of an earlier one.

    \b
    shiplap project member set web alice build
    shiplap project member set web 7 read --token
    """
    with Client(required_server(host_option(), root)) as client:
        client.call("PUT", f"/projects/{segment(project)}/members/{_kind(is_token)}/{segment(who)}", {"role": role})


@command.command("rm")
@click.argument("project")
@click.argument("who")
@_token_option
@click.pass_obj
def remove(root: str | None, *, project: str, who: str, is_token: bool) -> None:
    """Take a role in a project away."""
    with Client(required_server(host_option(), root)) as client:
        client.call("DELETE", f"/projects/{segment(project)}/members/{_kind(is_token)}/{segment(who)}")


def _kind(is_token: bool) -> str:
    return "token" if is_token else "user"
