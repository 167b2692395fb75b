"""The command line of ``shiplap build`` as one object, whether the build is here or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cli.building.call import Call, parse_call
from cli.building.outputs import OutputOptions
from cli.building.queue import QueueOptions
from cli.building.report import ResultFiles
from cli.building.sources import SourceOptions
from cli.limits import STEP_OPTIONS
from cli.options import image_name
from core.platforms import Platform
from core.references import Reference


class BuildArguments(NamedTuple):
    """The command line of a build. Values that every build reads the same way are read; others are as given.

    root: the value of ``--root``.
    context: the one positional argument.
    file: the Dockerfile; None when none was named.
    names: the image's names.
    no_cache: run every step.
    no_cache_filter: run every step of these stages.
    explain: tell why steps ran.
    call: the question that is answered in place of a build; None for a build.
    debug: enter a RUN that fails.
    invoke: what to run in the failed RUN in place of a shell.
    insecure: registries that are asked without TLS.
    files: the files that the result is written to.
    platforms: each once; empty: this machine's.
    limits: the values of ``STEP_OPTIONS`` by name.
    """

    root: str | None
    context: str
    file: str | None
    names: tuple[Reference, ...]
    target: str
    build_args: Sequence[str]
    labels: Sequence[str]
    no_cache: bool
    no_cache_filter: Sequence[str]
    cache_from: Sequence[str]
    cache_to: Sequence[str]
    explain: bool
    call: Call | None
    debug: bool
    invoke: str
    pull: bool
    insecure: Sequence[str]
    progress: str
    quiet: bool
    files: ResultFiles
    network: Literal["default", "none", "host"]
    add_hosts: Sequence[str]
    secrets: Sequence[str]
    platforms: tuple[Platform, ...]
    output: OutputOptions
    queueing: QueueOptions
    sources: SourceOptions
    limits: Mapping[str, Any]


def read_arguments(root: str | None, values: Mapping[str, Any]) -> BuildArguments:
    """Read the values of all options by name. Raises CommandError and InvalidReferenceError."""
    left = dict(values)

    def taken(names: Sequence[str]) -> dict[str, Any]:
        return {name: left.pop(name) for name in names}

    output = OutputOptions(**taken(OutputOptions._fields))
    return BuildArguments(
        root=root,
        output=output,
        queueing=QueueOptions(**taken(QueueOptions._fields)),
        sources=SourceOptions(**taken(SourceOptions._fields)),
        limits=taken([option.destination for option in STEP_OPTIONS]),
        call=parse_call(left.pop("call"), check=left.pop("check")),
        names=tuple(map(image_name, left.pop("tags"))),
        files=ResultFiles(left.pop("iidfile"), left.pop("metadata_file")),
        platforms=output.all_platforms(),
        **left,
    )
