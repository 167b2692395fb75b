"""``shiplap image attestations``."""

from __future__ import annotations

import json

import click

from cli.errors import CommandError
from cli.store import open_store
from cli.table import print_json
from core.platforms import Platform

_TYPES = {"provenance": "https://slsa.dev/provenance/", "sbom": "https://spdx.dev/Document"}


@click.command("attestations")
@click.argument("name", metavar="IMAGE")
@click.option("--type", "kind", type=click.Choice(tuple(_TYPES)), help="Only these.  [default: all]")
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Only those about this platform's image.  [default: all]")
@click.pass_obj
def command(root: str | None, *, name: str, kind: str | None, platform: str | None) -> None:
    """Show what is attested of an image: in-toto statements, as JSON.

    \b
    shiplap build --provenance mode=max --sbom true -t app .
    shiplap image attestations --type sbom app
    """
    from images.attestations import attestations

    wanted = Platform.parse(platform) if platform else None
    with open_store(root) as store:
        found = [
            json.loads(attestation.statement)
            for attestation in attestations(store, name)
            if wanted in (None, attestation.platform)
            and (kind is None or attestation.predicate_type.startswith(_TYPES[kind]))
        ]
    if not found:
        raise CommandError(
            f"nothing of that kind is attested of {name}" if kind or platform else f"{name} has no attestations",
            hint="shiplap build --provenance true --sbom true attaches them",
        )
    print_json(found)
