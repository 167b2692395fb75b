"""``shiplap login --host``: checks an API token, and keeps it for later commands."""

from __future__ import annotations

import sys

import click

from cli.errors import CommandError
from cli.remote.http import Client
from cli.remote.servers import Contexts, Server, parse_url, trusted_places
from core.settings import RemoteSettings

_TOKEN_BYTES = 4096


def login_to_service(host: str, *, from_stdin: bool) -> None:
    """Ask for a token, or read it from standard input, and store it once the server at ``host`` accepts it.

    host: a URL, or the name of a context. Raises RemoteError, CommandError.
    """
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    url = contexts.urls.get(host) or parse_url(host)
    token = _token(url, from_stdin=from_stdin)
    with Client(Server(url, token, trusted_places(url, None))) as client:
        known = client.call("GET", "/whoami")
    contexts.tokens[url] = token
    contexts.save()
    click.echo(f"Login Succeeded: {known['name']}, allowed to {', '.join(known['scopes'])}")


def log_out_of_service(host: str) -> None:
    """Forget the token for the server at ``host``: a URL, or the name of a context. Raises RemoteError."""
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    url = contexts.urls.get(host) or parse_url(host)
    if contexts.tokens.pop(url, None) is None:
        click.echo(f"Not logged in to {url}")
        return
    contexts.save()
    click.echo(f"Removed the API token for {url}")


def _token(url: str, *, from_stdin: bool) -> str:
    if from_stdin:
        text = sys.stdin.buffer.read(_TOKEN_BYTES).decode(errors="replace").strip()
    elif sys.stdin.isatty():
        text = click.prompt(f"API token for {url}", hide_input=True, err=True).strip()
    else:
        raise CommandError("there is no terminal to ask for the token", hint="--password-stdin < FILE-WITH-TOKEN")
    if not text.isascii() or not text.isprintable() or not text:
        raise CommandError("that is no API token", hint="an administrator makes one: POST /api/v1/tokens")
    return str(text)
