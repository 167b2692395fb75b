"""``shiplap project add``."""

from __future__ import annotations

from typing import Any

import click

from cli.commands.project.options import changed, settings_options
from cli.errors import CommandError
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import is_here, required_server
from core.settings import Settings


@click.command("add")
@click.argument("name")
@click.option("--bare", is_flag=True, help="Make a bare repository beside the service, to push to.")
@settings_options
@click.pass_obj
def command(root: str | None, /, *, name: str, bare: bool, **given: Any) -> None:
    """Make a project, and a webhook if it has a repository.

    What is printed is for the forge: the address of the webhook, and its secret, which is shown only now. With --bare
    nothing has to be done but to push, by path or from elsewhere; it is for the machine that the service runs on.

    \b
    shiplap project add web --repository https://github.com/me/web.git --branch main --path '!docs'
    shiplap project add app --bare
    """
    from pipelines.bare.making import install_hook, make_repository, repository_path

    if bare and given["repository"]:
        raise CommandError("--bare makes a repository, --repository names one that there is", hint="give one of them")
    server = required_server(host_option(), root)
    if bare and not is_here(server, root):
        raise CommandError(
            f"--bare makes a repository on the machine of the service, and {server.url} is not the one that runs here",
            hint="run it there, or shiplap --host local project add … --bare",
        )
    with Client(server) as client:
        if any(project["name"] == name for project in client.call("GET", "/projects")["projects"]):
            raise CommandError(f"there is a project {name} already", hint=f"shiplap project set {name} …")
        if not bare:
            client.call("PUT", f"/projects/{segment(name)}", changed({}, given))
            if given["repository"]:
                webhook = client.call("POST", f"/projects/{segment(name)}/webhook", {})
                click.echo(f"URL      {webhook['url']}\nsecret   {webhook['secret']}")
            return
        place = Settings.from_environ(root=root).root
        given |= {"forge": "plain", "repository": f"file://{repository_path(place, name)}"}
        client.call("PUT", f"/projects/{segment(name)}", changed({}, given))  # which checks the name
        repository = make_repository(place, name)
        webhook = client.call("POST", f"/projects/{segment(name)}/webhook", {})
        install_hook(repository, f"{server.url}/hooks/{name}", webhook["secret"])
    click.echo(f"git push {repository} HEAD:main")
    base = str(webhook["url"]).removesuffix(f"/hooks/{name}")
    click.echo(
        f"git push {base}/git/{name}.git HEAD:main    # from anywhere: a token is the password (shiplap token add)"
    )
