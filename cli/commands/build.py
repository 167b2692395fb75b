"""``shiplap build``."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.contexts.opening import open_source
from builder.copying.contextfiles import ContextFiles
from builder.recall import recall
from builder.remotes.access import Remote
from builder.request.request import BuildRequest
from cli.building.cache import CACHE_OPTIONS, read_cache_options
from cli.building.call import CALL_OPTIONS, answer, parse_call
from cli.building.debug import DEBUG_OPTIONS, read_debug_options
from cli.building.outputs import OUTPUT_OPTIONS, OutputOptions
from cli.building.queue import QUEUE_OPTIONS, QueueOptions
from cli.building.report import BuildReport, ResultFiles, metadata_document
from cli.building.secrets import read_secrets
from cli.building.sources import SOURCE_OPTIONS, SourceOptions, open_build_contexts, read_access, read_entitlements
from cli.declared import Command, Option
from cli.errors import CommandError
from cli.limits import STEP_OPTIONS, step_limits
from cli.options import environ, host_pairs, image_name, text_pairs
from cli.progress.choose import MODES, choose_mode
from cli.registry import INSECURE, open_client
from cli.remote.choice import chosen_server
from cli.store import as_root
from core.errors import ShiplapError
from core.platforms import Platform
from core.settings import Settings
from images.store import Store

if TYPE_CHECKING:
    from builder.result import BuildResult, RecalledResult
    from registry.client import Client

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


def build_image(
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
    quiet: bool,
    iidfile: str | None,
    metadata_file: str | None,
    network: Literal["default", "none", "host"],
    add_hosts: Sequence[str],
    secrets: Sequence[str],
    build_contexts: Sequence[str],
    ssh: Sequence[str],
    allow: Sequence[str],
    **others: Any,
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
    output = OutputOptions(**{name: others.pop(name) for name in OutputOptions._fields})
    queueing = QueueOptions(**{name: others.pop(name) for name in QueueOptions._fields})
    limits = others
    asked = parse_call(call, check=check)
    names = tuple(map(image_name, tags))
    files = ResultFiles(iidfile, metadata_file)
    platforms = output.all_platforms()
    if url := chosen_server():
        from cli.remote.command import RemoteOptions, build_on

        not_there = {
            **output.not_on_a_server(),
            "--network host": network == "host",
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
            **({"pull": True} if pull else {}),  # servers of before would refuse the word
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
    report = BuildReport(choose_mode(progress, sys.stderr, quiet=quiet), sys.stderr, explain=explain)

    def connect() -> Client:
        return open_client(root, insecure, cancelled)

    try:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(settings.root))
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
                return answer(asked, request, store, connect)
            files.remove_stale()
            stack.enter_context(report)
            copied = ContextFiles(request, store)
            result: BuildResult | RecalledResult | None = recall(request, store, report, copied)
            if result is None:
                # Not imported before: most builds change nothing, and need nothing of it.
                from cli.building.local import Ended, build_steps

                ended = build_steps(request, store, copied, settings, debugging, report, cancelled, connect)
                if isinstance(ended, Ended):
                    return ended.exit_code
                result = ended
    except (ShiplapError, OSError) as error:
        return report.ended_by(error)

    def metadata() -> dict[str, Any]:
        return metadata_document(
            result,
            result.names,
            report.steps(),
            duration_s,
            root=result.root,
            is_index=result.is_index,
            only_files=result.root is None,
            ref=f"shiplap/{os.uname().nodename}/{result.id}",
        )

    duration_s = time.monotonic() - began
    files.write(result, metadata)
    report.succeeded(result, wanted, duration_s, metadata)
    if quiet and all(each.dest != "-" for each in wanted):
        sys.stdout.write(f"{result.config_digest}\n")
    return 0


declared_command: Final = Command("build", "context", _OPTIONS, build_image)
