"""``shiplap image``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": LazyCommand("cli.commands.image.ls", "List images."),
    "inspect": LazyCommand("cli.commands.image.inspect", "Show all about images, as JSON."),
    "history": LazyCommand("cli.commands.image.history", "Show how an image was made."),
    "diff": LazyCommand("cli.commands.image.diff", "Show what changed from one image to another."),
    "attestations": LazyCommand(
        "cli.commands.image.attestations", "Show what is attested of an image: in-toto statements, as JSON."
    ),
    "referrers": LazyCommand("cli.commands.image.referrers", "List what refers to an image at its registry."),
    "tag": LazyCommand("cli.commands.image.tag", "Give an image another name."),
    "rm": LazyCommand("cli.commands.image.rm", "Remove names, and images that have none left."),
    "load": LazyCommand("cli.commands.image.load", "Load images from a tar (OCI layout or docker save)."),
    "save": LazyCommand("cli.commands.image.save", "Save images to a tar (OCI layout and docker load)."),
    "import": LazyCommand("cli.commands.image.import", "Make an image from a root filesystem tar."),
    "prune": LazyCommand("cli.commands.image.prune", "Remove what nothing uses, to free disk space."),
    "verify": LazyCommand("cli.commands.image.verify", "Read everything again and check it against its digests."),
}


@click.group("image", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Manage images."""
