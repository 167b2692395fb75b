"""``shiplap pull``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from cli.declared import Argument, Command, Option
from cli.guarding import for_each, tell
from cli.registry import INSECURE, PROGRESS
from cli.transfers import transferring
from core.platforms import Platform
from core.references import Reference

_OPTIONS: Final = (
    Option(
        ("--platform",),
        "Which of an image's platforms; all brings the whole index.  [default: this host's]",
        metavar="OS/ARCH[/VARIANT]|all",
    ),
    Option(("-q", "--quiet"), "Print only the name in full.", flag=True),
    PROGRESS,
    INSECURE,
)


def fetch(
    root: str | None,
    /,
    *,
    names: Sequence[str],
    platform: str | None,
    quiet: bool,
    progress: str,
    insecure: Sequence[str],
) -> int:
    """Fetch images from their registries.

    \b
    shiplap pull debian:12
    shiplap pull ci:5000/app@sha256:4a94…
    shiplap pull --platform all ci:5000/app
    """
    from registry.client import pull

    wanted: Platform | Literal["all"] | None = None
    if platform:
        wanted = "all" if platform == "all" else Platform.parse(platform)

    def fetch_one(name: str) -> None:
        reference = Reference.parse(name).with_default_tag()
        with transferring(root, insecure, progress, quiet=quiet) as transfer:
            pulled = pull(reference, transfer.store, client=transfer.client, platform=wanted, monitor=transfer.display)
            transfer.display.message(f"Digest: {pulled.digest}")
            done = "Downloaded newer image for" if pulled.fresh else "Image is up to date for"
            transfer.display.message(f"Status: {done} {reference.familiar}")
        tell(str(reference))

    return for_each(names, fetch_one)


declared_command: Final = Command("pull", (Argument("names", "NAME...", many=True),), _OPTIONS, fetch)
