"""``shiplap image referrers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.progress.text import size_text
from cli.registry import insecure_option
from cli.table import print_json, print_table
from core.references import Reference

if TYPE_CHECKING:
    from images.oci import Descriptor

_CREATED = "org.opencontainers.image.created"


@click.command("referrers")
@click.argument("name", metavar="NAME")
@click.option("--artifact-type", default="", metavar="TYPE", help="Only these, as in application/spdx+json.")
@json_option
@insecure_option
@click.pass_obj
def command(root: str | None, *, name: str, artifact_type: str, as_json: bool, insecure: Sequence[str]) -> None:
    """List what refers to an image at its registry.

    That is signatures, SBOMs and other artifacts whose subject it is, whoever pushed them. Attestations that are in
    the image's own index are shown by image inspect.

    \b
    shiplap image referrers ci:5000/app:1
    shiplap image referrers --artifact-type application/spdx+json ci:5000/app@sha256:4a94…
    """
    import threading

    from cli.registry import open_client
    from registry.client import referrers_of

    with open_client(root, insecure, threading.Event()) as client:
        subject, found = referrers_of(Reference.parse(name), client=client, artifact_type=artifact_type)
    if as_json:
        print_json({"subject": subject, "referrers": [_document(entry) for entry in found]})
        return
    rows = [(e.digest, e.artifact_type, size_text(e.size), e.annotations.get(_CREATED, "")) for e in found]
    print_table(("DIGEST", "ARTIFACT TYPE", "SIZE", "CREATED"), rows)


def _document(entry: Descriptor) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "artifact_type": entry.artifact_type,
        "media_type": entry.media_type,
        "size_bytes": entry.size,
        "annotations": entry.annotations,
    }
