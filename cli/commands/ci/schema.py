"""``shiplap ci schema``."""

from __future__ import annotations

import json

import click

from ci.schema import pipeline_schema


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    click.echo(json.dumps(pipeline_schema(), indent=2))
