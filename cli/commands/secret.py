"""``shiplap secret``: the group and its commands, which are small."""

from __future__ import annotations

import base64
import sys
from typing import Any, BinaryIO

import click

from cli.errors import CommandError
from cli.listing import format_option
from cli.options import json_option
from cli.places import Group
from cli.remote.accountrows import SECRETS, secret_row
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.policies import policy_of, policy_options
from cli.remote.servers import require_private, required_server
from cli.table import print_json

_MAX_BYTES = 500 << 10
_project_option = click.option("--project", metavar="NAME", default="", help="Of this project, not of the service.")


@click.group("secret", cls=Group)
def command() -> None:
    """Manage the secrets that a build service keeps for its runs.

    Jobs of a pipeline name those that they need; 'RUN --mount=type=secret,id=NAME' sees one in a build, and 'build
    --secret id=NAME,type=stored' asks for one by hand. One of the project comes before one of the service. A secret's
    policy says which runs get it: those of protected branches and tags, unless it says more. Forks get none.
    """


@command.command("set")
@click.argument("name")
@click.argument("file", type=click.File("rb"), default="-")
@_project_option
@click.option(
    "--for", "given", metavar="NAME", multiple=True, help="Give the service's secret to this project; * is all."
)
@policy_options
@click.pass_obj
def set_(
    root: str | None, /, *, name: str, file: BinaryIO, project: str, given: tuple[str, ...], **policy: tuple[str, ...]
) -> None:
    """Store a secret, or replace it.

    The value is FILE's content or standard input, exactly as it is; at a terminal, it is asked for. A secret of the
    service is for the projects that it is given to: by --for, or later by 'shiplap grant add'. What is replaced keeps
    its policy, unless an option says another.

    \b
    shiplap secret set --project app DEPLOY_KEY ~/.ssh/deploy_key
    shiplap secret set --project app --branches main --events push,tag --pipelines deploy DEPLOY_KEY FILE
    printf %s "$TOKEN" | shiplap secret set NPM_TOKEN --for app --for web
    """
    if given and project:
        raise CommandError("--for gives away what is the service's, --project's is that project's", hint="take one")
    value = _value(name, file)
    server = required_server(host_option(), root)
    require_private(server, "a secret")
    with Client(server) as client:
        body: dict[str, Any] = {"value_base64": base64.b64encode(value).decode()}
        if any(policy.values()):
            body["policy"] = policy_of(policy)
        client.call("PUT", f"{_path(project)}/{segment(name)}", body)
        for owner in given:
            client.call("PUT", "/grants", {"project": owner, "kind": "secret", "name": name})
        if project or given:
            return
        has = client.call("GET", "/grants")["grants"]
    if not any(grant["kind"] == "secret" and grant["name"] == name for grant in has):
        click.echo(f"hint: no project has it yet: shiplap grant add PROJECT secret {name}", err=True)


@command.command("policy")
@click.argument("name")
@_project_option
@policy_options
@click.pass_obj
def policy(root: str | None, /, *, name: str, project: str, **given: tuple[str, ...]) -> None:
    """Say which runs get a secret, whose value stays.

    Without options: those of protected branches and tags. 'shiplap grant add' says it for one project of several that
    have a secret of the service.

    \b
    shiplap secret policy --project app DEPLOY_KEY --branches main --events push
    shiplap secret policy --project app NPM_TOKEN --branches '**'
    """
    with Client(required_server(host_option(), root)) as client:
        client.call("PUT", f"{_path(project)}/{segment(name)}/policy", policy_of(given))


@command.command("ls")
@_project_option
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def ls(root: str | None, *, project: str, quiet: bool, form: str, as_json: bool) -> None:
    """List secrets, and which runs get them. Values are never shown."""
    SECRETS.check(form)
    with Client(required_server(host_option(), root)) as client:
        secrets = client.call("GET", _path(project))["secrets"]
    if as_json:
        print_json(secrets)
        return
    SECRETS.print(map(secret_row, secrets), form, quiet=quiet)


@command.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_project_option
@click.pass_obj
def remove(root: str | None, *, names: tuple[str, ...], project: str) -> None:
    """Delete secrets. Runs that ask for them fail from now on."""
    with Client(required_server(host_option(), root)) as client:
        for name in names:
            client.call("DELETE", f"{_path(project)}/{segment(name)}")


def _path(project: str) -> str:
    return f"/projects/{segment(project)}/secrets" if project else "/secrets"


def _value(name: str, file: BinaryIO) -> bytes:
    if file.isatty():
        return str(click.prompt(f"Value of {name}", hide_input=True, err=True)).encode(errors="surrogateescape")
    value = file.read(_MAX_BYTES + 1)
    if len(value) > _MAX_BYTES:
        what = "standard input" if file is sys.stdin.buffer else file.name
        raise CommandError(f"{what} has more than {_MAX_BYTES >> 10} KiB", hint="secrets are held in memory")
    return value
