"""``shiplap runs logs``."""

from __future__ import annotations

import click

from cli.progress.text import harmless
from cli.remote.choice import host_option
from cli.remote.following import Follower
from cli.remote.http import Client
from cli.remote.servers import Server, required_server

_PAGE = 5000


@click.command("logs")
@click.argument("run", type=click.IntRange(1))
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
@click.option("-n", "--numbers", is_flag=True, help="Print each line's number before it.")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="The first line to print.  [default: 1]")
@click.option("--search", metavar="TEXT", help="Only lines that contain this, in any case.")
@click.pass_obj
def command(root: str | None, *, run: int, follow: bool, numbers: bool, first: int, search: str | None) -> None:
    """Print a run's log."""
    server = required_server(host_option(), root)
    if follow and search is None:
        for line in Follower(server, run, after=first - 1).lines():
            _print(line.n, line.text, numbers=numbers)
        return
    with Client(server) as client:
        if search is not None:
            page = client.call("GET", f"/runs/{run}/log/search", query={"text": search, "limit": "1000"})
            for found in page["lines"]:
                if found["n"] >= first:
                    _print(found["n"], found["text"], numbers=numbers)
            return
    _print_stored(server, run, first, numbers=numbers)


def _print_stored(server: Server, run: int, first: int, *, numbers: bool) -> None:
    following: int | None = first
    with Client(server) as client:
        while following is not None:
            page = client.call("GET", f"/runs/{run}/log", query={"first": str(following), "limit": str(_PAGE)})
            for line in page["lines"]:
                _print(line["n"], line["text"], numbers=numbers)
            following = page["next"]


def _print(number: int, text: str, *, numbers: bool) -> None:
    click.echo(f"{number:6} {harmless(text)}" if numbers else harmless(text))
