"""``shiplap login``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from cli.errors import CommandError
from cli.registry import client_config, insecure_option
from cli.remote.choice import host_option
from cli.remote.servers import LOCAL


@click.command("login")
@click.argument("server", metavar="[REGISTRY]", default="")
@click.option("-u", "--username", metavar="USER", help="The user's name.  [default: asked for]")
@click.option("-p", "--password", metavar="PASSWORD", help="The password; others can see it: rather --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--host", metavar="URL", help="Log in to a build service with an API token, and not to a registry.")
@insecure_option
@click.pass_obj
def command(
    root: str | None,
    *,
    server: str,
    host: str | None,
    username: str | None,
    password: str | None,
    password_stdin: bool,
    insecure: Sequence[str],
) -> None:
    """Log in to a registry: docker.io, or HOST[:PORT].

    What works is stored where docker has it: ~/.docker/config.json, or a credential helper that is named there.

    \b
    shiplap login ci:5000
    shiplap login --host http://ci:8080
    echo "$TOKEN" | shiplap login -u robot --password-stdin ci:5000
    """
    if (service := host or host_option()) and service != LOCAL:
        from cli.remote.login import login_to_service

        login_to_service(service, from_stdin=password_stdin)
        return
    from registry.client import login, registry_domain

    domain = registry_domain(server)
    config = client_config(root, insecure)
    if password_stdin:
        username, password = _from_stdin(username, password)
    elif password is not None:
        click.echo("warning: other users of this machine can see --password; --password-stdin hides it", err=True)
    if username is None and password is None and _still_good(domain, root, insecure):
        return
    if password is None or username is None:
        username, password = _asked(domain, username, password)
    done = login(domain, username, password, config=config)
    click.echo("Login Succeeded")
    if done.plain_text:
        click.echo(f"warning: the password can be read in {done.stored_in}; a credential helper hides it", err=True)


def _from_stdin(username: str | None, password: str | None) -> tuple[str, str]:
    if password is not None:
        raise CommandError("--password and --password-stdin exclude each other", hint="use --password-stdin")
    if not username:
        raise CommandError("--password-stdin needs the user's name", hint="add -u USER")
    given = sys.stdin.buffer.read(64 << 10).decode(errors="replace")
    return username, given.removesuffix("\n").removesuffix("\r")


def _asked(domain: str, username: str | None, password: str | None) -> tuple[str, str]:
    if not sys.stdin.isatty():
        raise CommandError(
            "there is no terminal to ask for user and password", hint="-u USER --password-stdin < FILE-WITH-PASSWORD"
        )
    name = username or click.prompt(f"Username for {domain}", err=True)
    return name, click.prompt("Password", hide_input=True, err=True) if password is None else password


def _still_good(domain: str, root: str | None, insecure: Sequence[str]) -> bool:
    """Whether the stored credentials still work: docker tries them when none are given."""
    from registry.client import verify
    from registry.credentials import CredentialStore
    from registry.errors import UnauthorizedError

    config = client_config(root, insecure)
    stored = CredentialStore(config.docker_config).get(domain)
    if stored is None:
        return False
    try:
        verify(domain, stored, config=config)
    except UnauthorizedError:
        click.echo(f"The stored credentials for {domain} are not accepted any more.", err=True)
        return False
    click.echo("Authenticated with existing credentials\nLogin Succeeded")
    return True
