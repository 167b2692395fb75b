"""Answers to the gates of runs at a server."""

from __future__ import annotations

from typing import Literal

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import job_path
from cli.remote.servers import required_server
from cli.remote.wording import printable


def answer(root: str | None, run: int, job: str, said: Literal["approve", "refuse"], comment: str) -> None:
    """Say yes or no, and print what the gate had asked. Raises ServerErrors."""
    with Client(required_server(host_option(), root)) as client:
        gate = client.call("POST", f"{job_path(run, job)}/{said}", {"comment": comment})
    for line in gate["message"].splitlines():
        click.echo(printable(line))
