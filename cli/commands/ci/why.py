"""``shiplap ci why``."""

from __future__ import annotations

from typing import Any

import click

from cli.declared import declared
from cli.jobs.asked import EVENT_OPTIONS, About
from cli.jobs.why import why_here
from cli.registry import INSECURE


@click.command("why")
@click.argument("job", metavar="JOB")
@declared((*EVENT_OPTIONS, INSECURE))
@click.pass_obj
def command(root: str | None, /, job: str, insecure: tuple[str, ...], **about: Any) -> int:
    """Say why a job would run, or whose result it has.

    Nothing is run but what the job's image needs: it is pulled or built where it is not here. Of a matrix, each job is
    told of.

    \b
    shiplap ci why test
    shiplap ci why "test (3.11)"
    """
    return why_here(root, insecure, About(**about), job)
