"""``shiplap web``."""

from __future__ import annotations

import click

from cli.service.processes import become


@click.command("web")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="[default: 127.0.0.1:8080]")
@click.pass_obj
def command(root: str | None, *, listen: str) -> None:
    """Serve the API, log streams and the registry, without a worker.

    Needs SHIPLAP_DATABASE_URL and SHIPLAP_REDIS_URL where the other parts are on other hosts, and a database that
    'shiplap migrate' has prepared.
    """
    become("web", root, ["--listen", listen])
