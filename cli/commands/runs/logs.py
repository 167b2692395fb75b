"""``shiplap runs logs``."""

from __future__ import annotations

from typing import Final

import click

from cli.guarding import say
from cli.progress.text import harmless
from cli.remote.choice import host_option
from cli.remote.following import Follower
from cli.remote.http import Client
from cli.remote.servers import required_server

_PAGE: Final = 5000
_FOUND: Final = 1000


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
    if follow:
        with Client(server) as client:
            client.call("GET", f"/runs/{run}")  # report at once what is wrong from the start
        wanted = (search or "").casefold()
        for line in Follower(server, run, after=first - 1, onlooker=_Onlooker()).lines():
            if wanted in line.text.casefold():
                _print(line.n, line.text, numbers=numbers)
        return
    path, asked = f"/runs/{run}/log", {"limit": str(_PAGE)}
    if search is not None:
        path, asked = f"{path}/search", {"limit": str(_FOUND), "text": search}
    following: int | None = first
    with Client(server) as client:
        while following is not None:
            page = client.call("GET", path, query={**asked, "first": str(following)})
            for line in page["lines"]:
                _print(line["n"], line["text"], numbers=numbers)
            following = page["next"]


class _Onlooker:
    """Prints to standard error what is not part of the log."""

    def away(self, text: str) -> None:
        say(f"warning: {text}")

    def back(self) -> None:
        say("the service answers again")


def _print(number: int, text: str, *, numbers: bool) -> None:
    click.echo(f"{number:6} {harmless(text)}" if numbers else harmless(text))
