"""``shiplap inspect``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.inspecting import print_inspected, template_of
from cli.containers.opening import opened
from cli.errors import CommandError
from cli.images.documents import image_document
from cli.store import open_store
from core.platforms import Platform

_KINDS = ("container", "image", "volume")


@container_command("inspect")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-f", "--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@click.option("-s", "--size", is_flag=True, help="With what a container takes of the disk.")
@click.option("--type", "kind", metavar="KIND", default="", help="Only a container, image or volume.")
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of an image's platforms.  [default: this host's]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], form: str, size: bool, kind: str, platform: str | None) -> int:
    """Show all about containers, images and volumes, as JSON.

    A name may be any of these: a container's counts before an image's.

    \b
    shiplap inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
    """
    if kind and kind not in _KINDS:
        raise CommandError(f'"{kind}" is not a valid value for --type')
    template = template_of(form)
    wanted = Platform.parse(platform) if platform else None
    with opened(root) as engine:

        def container(name: str) -> dict[str, Any]:
            return engine.inspect(name, size=size)

        def image(name: str) -> dict[str, Any]:
            with open_store(root) as store:
                return image_document(store, name, wanted)

        kinds = {"container": container, "image": image, "volume": engine.volumes.inspect}
        if platform:
            kinds = {"image": image}
        looks = [kinds[kind]] if kind else list(kinds.values())
        return print_inspected(names, lambda name: _found(name, looks, kind), template)


def _found(name: str, looks: Sequence[Callable[[str], dict[str, Any]]], kind: str) -> dict[str, Any]:
    from engine.errors import NotFoundError
    from images.errors import ImageNotFoundError

    for look in looks:
        try:
            return look(name)
        except (NotFoundError, ImageNotFoundError):
            if len(looks) == 1:
                raise
    raise CommandError(f"No such {kind or 'object'}: {name}")
