"""``shiplap build``."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import click

from builder.build import build
from builder.errors import BuildCancelledError
from builder.load import open_source
from builder.remotes.access import Remote
from builder.request import BuildRequest
from cli.build_cache import cache_options, read_cache_options
from cli.build_call import answer, call_options, parse_call
from cli.build_debug import debug_options, entering_failures, read_debug_options
from cli.build_outputs import OutputOptions, output_options
from cli.build_report import BuildReport, ResultFiles, metadata_document
from cli.build_sources import SourceOptions, open_build_contexts, read_access, read_entitlements, source_options
from cli.errors import CommandError
from cli.limits import step_limit_options, step_limits
from cli.options import environ, host_pairs, image_name, text_pairs
from cli.progress.choose import MODES, choose_mode
from cli.queueing import QueueOptions, queue_options
from cli.registry import insecure_option, open_client
from cli.remote.choice import chosen_server
from cli.secrets import read_secrets
from cli.signals import Received, cancelling
from cli.store import as_root
from containers.launcher import Launcher
from core.errors import ShiplapError
from core.platforms import Platform
from core.settings import Settings
from images.store import Store


@click.command("build")
@click.argument("context", metavar="CONTEXT")
@click.option(
    "-f", "--file", metavar="FILE", help="The Dockerfile; '-' is standard input.  [default: CONTEXT/Dockerfile]"
)
@click.option("-t", "--tag", "tags", metavar="NAME[:TAG]", multiple=True, help="Name the image. Repeatable.")
@click.option("--target", metavar="STAGE", default="", help="Build this stage instead of the last one.")
@click.option(
    "--build-arg", "build_args", metavar="NAME[=VALUE]", multiple=True,
    help="Set an ARG; without =VALUE, from the environment. Repeatable.",
)  # fmt: skip
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="Add a label to the image. Repeatable.")
@click.option("--no-cache", is_flag=True, help="Run every step, whatever the cache has.")
@cache_options
@call_options
@debug_options
@click.option("--pull", is_flag=True, help="Ask the registry for a newer base, even where one is here.")
@click.option("--progress", type=click.Choice(MODES), default="auto", help="How to show progress.  [default: auto]")
@output_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the image ID.")
@click.option("--iidfile", type=click.Path(dir_okay=False), help="Write the image ID to this file.")
@click.option("--metadata-file", type=click.Path(dir_okay=False), help="Write what was built to this file, as JSON.")
@click.option(
    "--network", type=click.Choice(("default", "none", "host")), default="default",
    help="The network of RUN steps that do not say.  [default: default]",
)  # fmt: skip
@click.option("--add-host", "add_hosts", metavar="HOST:IP", multiple=True, help="Add to /etc/hosts of RUN. Repeatable.")
@click.option(
    "--secret", "secrets", metavar="id=ID[,src=FILE|,env=NAME]", multiple=True,
    help="Give RUN --mount=type=secret,id=ID this file's or variable's content. Repeatable.",
)  # fmt: skip
@source_options
@queue_options
@step_limit_options
@insecure_option
@click.pass_obj
def command(
    root: str | None,
    /,
    *,
    context: str,
    file: str | None,
    tags: Sequence[str],
    target: str,
    build_args: Sequence[str],
    labels: Sequence[str],
    no_cache: bool,
    no_cache_filter: Sequence[str],
    cache_from: Sequence[str],
    cache_to: Sequence[str],
    explain: bool,
    call: str,
    check: bool,
    debug: bool,
    invoke: str,
    pull: bool,
    insecure: Sequence[str],
    progress: str,
    output: OutputOptions,
    quiet: bool,
    iidfile: str | None,
    metadata_file: str | None,
    network: Literal["default", "none", "host"],
    add_hosts: Sequence[str],
    secrets: Sequence[str],
    build_contexts: Sequence[str],
    ssh: Sequence[str],
    allow: Sequence[str],
    queueing: QueueOptions,
    **limits: Any,
) -> int:
    """Build an image from a Dockerfile.

    CONTEXT is the directory that COPY takes files from; a git repository, or the URL of a tar or of a Dockerfile; or
    '-' for a tar or a Dockerfile on standard input.

    \b
    shiplap build -t app .
    shiplap build -f deploy/Dockerfile --target test --build-arg VERSION=2 .
    shiplap build -o type=oci,dest=app.tar .
    """
    began = time.monotonic()
    asked = parse_call(call, check=check)
    names = tuple(map(image_name, tags))
    files = ResultFiles(iidfile, metadata_file)
    platforms = output.all_platforms()
    if url := chosen_server():
        from cli.remote.command import RemoteOptions, build_on

        not_there = {
            **output.not_on_a_server(),
            "--network host": network == "host",
            "--pull": pull,
            "--no-cache-filter": no_cache_filter,
            "--cache-from": cache_from,
            "--cache-to": cache_to,
            "--explain": explain,
            "--call": asked is not None,
            "--debug": debug,
            "--build-context": build_contexts,
            "--ssh": ssh,
            "--allow": allow,
            "--insecure-registry": insecure,
            "limits of steps": any(limits.values()),
        }
        options: dict[str, object] = {
            "tags": [name.familiar for name in names],
            "target": target,
            "build_args": text_pairs(build_args, "--build-arg", environ=environ()),
            "labels": text_pairs(labels, "--label"),
            "no_cache": no_cache,
            "platform": str(platforms[0]) if platforms else None,
            "network": network,
            "add_hosts": host_pairs(add_hosts),
        }
        return build_on(
            url, root, context, file, options,
            RemoteOptions(names, progress, quiet, files, queueing, not_there, secrets),
        )  # fmt: skip
    if asked_of_queue := queueing.given():
        raise CommandError(f"{asked_of_queue[0]} is for builds on a server", hint="shiplap --host URL build …")
    wanted = output.all_outputs(names)
    attestations = output.attestations()
    wanted_limits = step_limits(limits)
    caching = read_cache_options(no_cache_filter, cache_from, cache_to)
    debugging = read_debug_options(debug, invoke, context=context, file=file)
    settings = Settings.from_environ(root=root)
    as_root()
    cancelled = threading.Event()
    received = Received()
    report = BuildReport(choose_mode(progress, sys.stderr, quiet=quiet), sys.stderr, explain=explain)
    try:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(settings.root))
            launcher = stack.enter_context(Launcher(store.tmp, denied_networks=settings.denied_networks))
            sources = SourceOptions(build_contexts, ssh, allow)
            remote = Remote(
                read_access(sources, context, environ()),
                read_secrets(secrets, environ()),
                text_pairs(build_args, "--build-arg", environ=environ()),
            )
            source = open_source(context, file, stdin=sys.stdin.buffer, scratch=store.tmp, remote=remote)
            stack.callback(source.context.close)
            request = BuildRequest(
                source.dockerfile,
                source.dockerfile_name,
                source.context,
                outputs=wanted,
                target=target,
                build_args=remote.build_args,
                labels=text_pairs(labels, "--label"),
                no_cache=no_cache,
                pull=pull,
                platforms=platforms,
                attest=attestations,
                network=network,
                add_hosts=host_pairs(add_hosts),
                source_date_epoch=settings.source_date_epoch,
                secrets=remote.secrets,
                access=remote.access,
                named_contexts=open_build_contexts(sources, store, platforms or (Platform.host(),), stack),
                allow=read_entitlements(sources, network),
                limits=wanted_limits,
                hold_failures=debugging.wanted,
                **caching._asdict(),
            )
            if asked is not None:
                return answer(asked, request, store, lambda: open_client(root, insecure, cancelled))
            files.remove_stale()
            received = stack.enter_context(cancelling(cancelled, at_once=launcher.close))
            stack.enter_context(report)
            stack.enter_context(entering_failures(debugging, launcher, report))
            result = build(
                request,
                store=store,
                launcher=launcher,
                monitor=report,
                cancelled=cancelled,
                connect=lambda: open_client(root, insecure, cancelled),
                cache_max=settings.cache_max,
                solved=launcher.retire,
            )
    except BuildCancelledError as error:
        report.failed(error)
        return received.exit_code
    except (ShiplapError, OSError) as error:
        return report.ended_by(error)
    metadata = metadata_document(
        result,
        result.names,
        report.steps(),
        time.monotonic() - began,
        root=result.root,
        is_index=result.is_index,
        only_files=result.root is None,
        ref=f"shiplap/{os.uname().nodename}/{result.id}",
    )
    files.write(result, metadata)
    report.succeeded(result, wanted, metadata)
    if quiet and all(each.dest != "-" for each in wanted):
        click.echo(result.config_digest)
    return 0
