"""``shiplap build``."""

from __future__ import annotations

from typing import Any, Final

from cli.building.arguments import read_arguments
from cli.building.cache import CACHE_OPTIONS
from cli.building.call import CALL_OPTIONS
from cli.building.debug import DEBUG_OPTIONS
from cli.building.local import build_locally
from cli.building.outputs import OUTPUT_OPTIONS
from cli.building.queue import QUEUE_OPTIONS
from cli.building.sources import SOURCE_OPTIONS
from cli.declared import Argument, Command, Option
from cli.limits import STEP_OPTIONS
from cli.progress.choose import MODES
from cli.registry import INSECURE
from cli.remote.choice import chosen_server

_OPTIONS: Final = (
    Option(("-f", "--file"), "The Dockerfile; '-' is standard input.  [default: CONTEXT/Dockerfile]", metavar="FILE"),
    Option(("-t", "--tag"), "Name the image. Repeatable.", metavar="NAME[:TAG]", dest="tags", multiple=True),
    Option(("--target",), "Build this stage instead of the last one.", metavar="STAGE", default=""),
    Option(
        ("--build-arg",),
        "Set an ARG; without =VALUE, from the environment. Repeatable.",
        metavar="NAME[=VALUE]",
        dest="build_args",
        multiple=True,
    ),
    Option(("--label",), "Add a label to the image. Repeatable.", metavar="NAME=VALUE", dest="labels", multiple=True),
    Option(("--no-cache",), "Run every step, whatever the cache has.", flag=True),
    *CACHE_OPTIONS,
    *CALL_OPTIONS,
    *DEBUG_OPTIONS,
    Option(("--pull",), "Ask the registry for a newer base, even where one is here.", flag=True),
    Option(("--progress",), "How to show progress.  [default: auto]", default="auto", choices=MODES),
    *OUTPUT_OPTIONS,
    Option(("-q", "--quiet"), "Print nothing but the image ID.", flag=True),
    Option(("--iidfile",), "Write the image ID to this file.", file=True),
    Option(("--metadata-file",), "Write what was built to this file, as JSON.", file=True),
    Option(
        ("--network",),
        "The network of RUN steps that do not say.  [default: default]",
        default="default",
        choices=("default", "none", "host"),
    ),
    Option(
        ("--add-host",), "Add to /etc/hosts of RUN. Repeatable.", metavar="HOST:IP", dest="add_hosts", multiple=True
    ),
    Option(
        ("--secret",),
        "Give RUN --mount=type=secret,id=ID this file's or variable's content. Repeatable.",
        metavar="id=ID[,src=FILE|,env=NAME]",
        dest="secrets",
        multiple=True,
    ),
    *SOURCE_OPTIONS,
    *QUEUE_OPTIONS,
    *STEP_OPTIONS,
    INSECURE,
)


def build_image(root: str | None, /, **values: Any) -> int:
    """Build an image from a Dockerfile.

    CONTEXT is the directory that COPY takes files from; a git repository, or the URL of a tar or of a Dockerfile; or
    '-' for a tar or a Dockerfile on standard input.

    \b
    shiplap build -t app .
    shiplap build -f deploy/Dockerfile --target test --build-arg VERSION=2 .
    shiplap build -o type=oci,dest=app.tar .
    """
    asked = read_arguments(root, values)
    if url := chosen_server():
        from cli.remote.command import build_on

        return build_on(url, asked)
    return build_locally(asked)


declared_command: Final = Command("build", (Argument("context", "CONTEXT"),), _OPTIONS, build_image)
