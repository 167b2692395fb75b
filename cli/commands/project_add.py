"""``shiplap project add``."""

from __future__ import annotations

from typing import Any

import click

from cli.errors import CommandError
from cli.project_options import changed, settings_options
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server


@click.command("add")
@click.argument("name")
@settings_options
@click.pass_obj
def command(root: str | None, /, *, name: str, **given: Any) -> None:
    """Make a project, and a webhook if it has a repository.

    What is printed is for the forge: the address of the webhook, and its secret, which is shown only now.

    \b
    shiplap project add web --repository https://github.com/me/web.git --branch main --path '!docs'
    """
    with Client(required_server(host_option(), root)) as client:
        if any(project["name"] == name for project in client.call("GET", "/projects")["projects"]):
            raise CommandError(f"there is a project {name} already", hint=f"shiplap project set {name} …")
        client.call("PUT", f"/projects/{name}", changed({}, given))
        if given["repository"]:
            webhook = client.call("POST", f"/projects/{name}/webhook", {})
            click.echo(f"URL      {webhook['url']}\nsecret   {webhook['secret']}")
