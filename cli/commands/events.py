"""``shiplap events``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.filters import filter_option, read_filters
from cli.containers.opening import opened
from cli.containers.times import fixed_time
from cli.gotemplate import Template
from cli.listing import shown


@container_command("events")
@click.option("--since", metavar="TIME", default="", help="From then on: a time, or how long ago, as in 10m.")
@click.option("--until", metavar="TIME", default="", help="Up to then, instead of for ever.")
@filter_option
@click.option("--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@click.pass_obj
def command(root: str | None, *, since: str, until: str, filters: Sequence[str], form: str) -> None:
    """Show what happens to containers, and to volumes and networks.

    Filters are docker's: container, event, id, image, label, network, scope, type, volume.

    \b
    shiplap events --since 1h --until 0s --filter event=die
    """
    wanted = read_filters(filters)
    template = Template(form) if form not in ("", "json") else None
    with opened(root) as engine:
        for event in engine.events(since=since, until=until, filters=wanted):
            if template is not None:
                text = template.run(_named(event))
            elif form == "json":
                text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
            else:
                text = _line(event)
            click.echo(shown(text))


def _line(event: Mapping[str, Any]) -> str:
    attributes = event["Actor"]["Attributes"]
    shown_attributes = ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes))
    moment = fixed_time(event["timeNano"], is_local=True)
    actor = f"{moment} {event['Type']} {event['Action']} {event['Actor']['ID']}"
    return f"{actor} ({shown_attributes})" if attributes else actor


def _named(event: Mapping[str, Any]) -> dict[str, Any]:
    """As docker's client names the members: those that were there first have no names of their own."""
    old = {"Status": "status", "ID": "id", "From": "from", "Time": "time", "TimeNano": "timeNano", "Scope": "scope"}
    return {**event, **{name: event[key] for name, key in old.items() if key in event}}
