"""``shiplap build`` on a server."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import click

from builder.request.request import Output
from cli.building.arguments import BuildArguments
from cli.building.report import BuildReport, metadata_document
from cli.building.secrets import split_secrets
from cli.errors import CommandError
from cli.options import environ, host_pairs, text_pairs
from cli.progress.choose import choose_mode
from cli.remote.build import RemoteRequest, RemoteResult, build_remotely, is_repository, submit
from cli.remote.errors import RemoteCancelledError
from cli.remote.http import Client
from cli.remote.servers import Server, server
from core.errors import ShiplapError
from core.references import Reference


def build_on(url: str, asked: BuildArguments) -> int:
    """Build on the server at ``url``. Returns the exit code. Raises CommandError."""
    build = _options(asked)
    for option, given in _not_there(asked).items():
        if given:
            raise CommandError(f"{option} does not work with a server", hint="--host local builds on this machine")
    if asked.queueing.pipeline and not is_repository(asked.context):
        raise CommandError(
            f"--pipeline: {asked.context!r} is no git repository", hint="name its URL: https://…/app.git#main"
        )
    began = time.monotonic()
    detach = asked.queueing.detach
    secrets = split_secrets(asked.secrets, environ())
    request = RemoteRequest(
        asked.context, asked.file, {**build, "secrets": secrets.stored}, asked.queueing, secrets.values
    )
    chosen = server(url, asked.root)
    report = BuildReport(choose_mode(asked.progress, sys.stderr, quiet=asked.quiet or detach), sys.stderr)
    asked.files.remove_stale()
    try:
        if detach:
            return _detach(chosen, request, report)
        result = build_remotely(chosen, request, report)
    except RemoteCancelledError as error:
        report.failed(error)
        return error.exit_code
    except (ShiplapError, OSError) as error:
        return report.ended_by(error)
    if result is None:
        return 0
    _tell(result, report, asked, time.monotonic() - began)
    return 0


def _options(asked: BuildArguments) -> dict[str, Any]:
    """The API's BuildOptions, without the secrets. Raises CommandError."""
    return {
        "tags": [name.familiar for name in asked.names],
        "target": asked.target,
        "build_args": text_pairs(asked.build_args, "--build-arg", environ=environ()),
        "labels": text_pairs(asked.labels, "--label"),
        "no_cache": asked.no_cache,
        "platform": str(asked.platforms[0]) if asked.platforms else None,
        "network": asked.network,
        "add_hosts": host_pairs(asked.add_hosts),
        **({"pull": True} if asked.pull else {}),  # older servers refuse this member
    }


def _not_there(asked: BuildArguments) -> dict[str, object]:
    """Options that no server takes, and whether they were given."""
    return {
        **asked.output.not_on_a_server(),
        "--network host": asked.network == "host",
        "--no-cache-filter": asked.no_cache_filter,
        "--cache-from": asked.cache_from,
        "--cache-to": asked.cache_to,
        "--explain": asked.explain,
        "--call": asked.call is not None,
        "--debug": asked.debug,
        "--build-context": asked.sources.build_contexts,
        "--ssh": asked.sources.ssh,
        "--allow": asked.sources.allow,
        "--insecure-registry": asked.insecure,
        "limits of steps": any(asked.limits.values()),
    }


def _detach(chosen: Server, request: RemoteRequest, report: BuildReport) -> int:
    with Client(chosen) as client:
        run = submit(client, request, report, threading.Event())
    click.echo(f"{chosen.url}/runs/{run['number']}")
    return 0


def _tell(result: RemoteResult, report: BuildReport, asked: BuildArguments, duration_s: float) -> None:

    def metadata() -> dict[str, Any]:
        return metadata_document(result, asked.names, report.steps(), duration_s)

    asked.files.write(result, metadata)
    report.succeeded(result, (Output("image", "", tuple(map(Reference.parse, result.names))),), duration_s, metadata)
    if asked.quiet:
        click.echo(result.config_digest)
