"""What ``shiplap build`` does when it is for a server."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from builder.request.request import Output
from cli.building.queue import QueueOptions
from cli.building.report import BuildReport, ResultFiles, metadata_document
from cli.building.secrets import split_secrets
from cli.errors import CommandError
from cli.options import environ
from cli.progress.choose import choose_mode
from cli.remote.build import RemoteRequest, RemoteResult, build_remotely, submit
from cli.remote.errors import RemoteCancelledError
from cli.remote.http import Client
from cli.remote.servers import Server, server
from core.errors import ShiplapError
from core.references import Reference


class RemoteOptions(NamedTuple):
    """The options of ``shiplap build`` that this side deals with. not_there: given ones that no server takes.

    secrets: values of ``--secret``.
    """

    names: Sequence[Reference]
    progress: str
    quiet: bool
    files: ResultFiles
    queueing: QueueOptions
    not_there: Mapping[str, object]
    secrets: Sequence[str] = ()


def build_on(
    url: str, root: str | None, context: str, file: str | None, build: dict[str, Any], options: RemoteOptions
) -> int:
    """Build on the server at ``url``; the exit code. build: as the API's BuildOptions. Raises CommandError."""
    for option, given in options.not_there.items():
        if given:
            raise CommandError(f"{option} does not work with a server", hint="--host local builds on this machine")
    began = time.monotonic()
    secrets = split_secrets(options.secrets, environ())
    request = RemoteRequest(context, file, {**build, "secrets": secrets.stored}, options.queueing, secrets.values)
    chosen = server(url, root)
    report = BuildReport(
        choose_mode(options.progress, sys.stderr, quiet=options.quiet or options.queueing.detach), sys.stderr
    )
    options.files.remove_stale()
    try:
        if options.queueing.detach:
            return _detach(chosen, request, report)
        result = build_remotely(chosen, request, report)
    except RemoteCancelledError as error:
        report.failed(error)
        return error.exit_code
    except (ShiplapError, OSError) as error:
        return report.ended_by(error)
    _tell(result, report, options, time.monotonic() - began)
    return 0


def _detach(chosen: Server, request: RemoteRequest, report: BuildReport) -> int:
    with Client(chosen) as client:
        run = submit(client, request, report, threading.Event())
    click.echo(f"{chosen.url}/runs/{run['number']}")
    return 0


def _tell(result: RemoteResult, report: BuildReport, options: RemoteOptions, duration_s: float) -> None:

    def metadata() -> dict[str, Any]:
        return metadata_document(result, options.names, report.steps(), duration_s)

    options.files.write(result, metadata)
    report.succeeded(result, (Output("image", "", tuple(map(Reference.parse, result.names))),), duration_s, metadata)
    if options.quiet:
        click.echo(result.config_digest)
