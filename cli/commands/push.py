"""``shiplap push``."""

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
        ("--compression",),
        "Of layers.  [default: an image that was pulled goes as it came; gzip for others]",
        choices=("gzip", "zstd"),
    ),
    Option(("--platform",), "Of an image for several, only this one.", metavar="OS/ARCH[/VARIANT]"),
    Option(("-q", "--quiet"), "Print only the name in full.", flag=True),
    PROGRESS,
    INSECURE,
)


def send(
    root: str | None,
    /,
    *,
    names: Sequence[str],
    compression: Literal["gzip", "zstd"] | None,
    platform: str | None,
    quiet: bool,
    progress: str,
    insecure: Sequence[str],
) -> int:
    """Send images to the registries that their names begin with.

    An image for several platforms is sent whole, with its attestations.

    \b
    shiplap tag app ci:5000/app:1
    shiplap push ci:5000/app:1
    """
    from registry.client import push

    wanted = Platform.parse(platform) if platform else None

    def send_one(name: str) -> None:
        reference = Reference.parse(name).with_default_tag()
        with transferring(root, insecure, progress, quiet=quiet) as transfer:
            push(
                reference,
                transfer.store,
                client=transfer.client,
                platform=wanted,
                compression=compression,
                monitor=transfer.display,
            )
        if quiet:
            tell(str(reference))

    return for_each(names, send_one)


declared_command: Final = Command("push", (Argument("names", "NAME...", many=True),), _OPTIONS, send)
