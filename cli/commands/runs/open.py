"""``shiplap runs open``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import chosen_jobs, list_jobs
from cli.remote.servers import required_server


@click.command("open")
@click.argument("run", type=click.IntRange(1))
@click.argument("job", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and start no browser.")
@click.pass_obj
def command(root: str | None, *, run: int, job: str | None, only_print: bool) -> int:
    """Open the page of a run, or of one of its jobs, in a browser.

    The address is printed, too: it is there for those who have no browser here.
    """
    server = required_server(host_option(), root)
    with Client(server) as client:
        client.call("GET", f"/runs/{run}")
        places = [] if job is None else [each["place"] for each in chosen_jobs(list_jobs(client, run), run, job)]
    url = f"{server.url}/runs/{run}" + (f"/jobs/{places[0]}" if places else "")
    click.echo(url)
    return 0 if only_print else min(1, click.launch(url))
