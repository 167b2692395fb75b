"""``shiplap build`` on this machine: from the command line to the report of the result.

Most builds change nothing. ``recall`` answers them, and they load neither the planner nor what runs steps.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.contexts.opening import open_source
from builder.copying.contextfiles import ContextFiles
from builder.recall import recall
from builder.remotes.access import Remote
from builder.request.request import BuildRequest
from cli.building.cache import CacheOptions, read_cache_options
from cli.building.call import answer
from cli.building.debug import DebugOptions, read_debug_options
from cli.building.described import asked_for
from cli.building.recording import Recorder
from cli.building.report import BuildReport, metadata_document
from cli.building.secrets import read_secrets
from cli.building.sources import open_build_contexts, read_access, read_entitlements
from cli.errors import CommandError
from cli.limits import step_limits
from cli.options import environ, host_pairs, text_pairs
from cli.progress.choose import choose_mode
from cli.registry import open_client
from cli.store import as_root
from core.errors import ShiplapError
from core.platforms import Platform
from core.settings import Settings
from images.store import Store

if TYPE_CHECKING:
    from builder.request.attestations import Attestations
    from builder.request.limits import StepLimits
    from builder.request.output import Output
    from builder.result import BuildResult, RecalledResult
    from cli.building.arguments import BuildArguments
    from registry.client import Client


class _Wanted(NamedTuple):
    """The arguments that only builds on this machine have. They are read before anything is opened."""

    outputs: tuple[Output, ...]
    attestations: Attestations
    limits: StepLimits
    caching: CacheOptions
    debugging: DebugOptions


def build_locally(asked: BuildArguments) -> int:
    """Build, or answer ``--call``. Returns the exit code. Raises ShiplapErrors for arguments that make no sense."""
    began = time.monotonic()
    wanted = _read(asked)
    settings = Settings.from_environ(root=asked.root)
    as_root()
    cancelled = threading.Event()
    report = BuildReport(choose_mode(asked.progress, sys.stderr, quiet=asked.quiet), sys.stderr, explain=asked.explain)

    def connect() -> Client:
        return open_client(asked.root, asked.insecure, cancelled)

    recorder: Recorder | None = None
    try:
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(settings.root))
            request = _request(asked, wanted, settings, store, stack)
            if asked.call is not None:
                return answer(asked.call, request, store, connect)
            asked.files.remove_stale()
            recorder = Recorder(settings.root, asked_for(asked), time.time() - (time.monotonic() - began))
            recorder.masking(request.secrets.values())
            report.record(recorder)
            stack.enter_context(report)
            files = ContextFiles(request, store)
            result: BuildResult | RecalledResult | None = recall(request, store, report, files)
            if result is None:
                # Imported only now: most builds change nothing, and do not need it.
                from cli.building.steps import Ended, LocalBuild, build_steps

                recorder.open_log()
                ended = build_steps(
                    LocalBuild(request, store, files, settings, wanted.debugging, report, cancelled, connect)
                )
                if isinstance(ended, Ended):
                    state = "cancelled" if ended.exit_code > 1 else "error"
                    recorder.end(state, report.steps(), time.monotonic() - began, error=report.error)
                    return ended.exit_code
                result = ended
    except (ShiplapError, OSError) as error:
        code = report.ended_by(error)
        if recorder is not None:
            recorder.end("error", report.steps(), time.monotonic() - began, error=report.error)
        return code
    duration_s = time.monotonic() - began
    _tell(result, asked, wanted, report, duration_s)
    recorder.end(
        "completed",
        report.steps(),
        duration_s,
        ref=result.id,
        image=str(result.config_digest),
        executed=result.executed,
        cached=result.cached,
    )
    return 0


def _read(asked: BuildArguments) -> _Wanted:
    if asked_of_queue := asked.queueing.given():
        raise CommandError(f"{asked_of_queue[0]} is for builds on a server", hint="shiplap --host URL build …")
    return _Wanted(
        outputs=asked.output.all_outputs(asked.names),
        attestations=asked.output.attestations(),
        limits=step_limits(asked.limits),
        caching=read_cache_options(asked.no_cache_filter, asked.cache_from, asked.cache_to),
        debugging=read_debug_options(asked.debug, asked.invoke, context=asked.context, file=asked.file),
    )


def _request(
    asked: BuildArguments, wanted: _Wanted, settings: Settings, store: Store, stack: ExitStack
) -> BuildRequest:
    """The request. ``stack`` closes its contexts."""
    remote = Remote(
        read_access(asked.sources, asked.context, environ()),
        read_secrets(asked.secrets, environ()),
        text_pairs(asked.build_args, "--build-arg", environ=environ()),
    )
    source = open_source(asked.context, asked.file, stdin=sys.stdin.buffer, scratch=store.tmp, remote=remote)
    stack.callback(source.context.close)
    return BuildRequest(
        source.dockerfile,
        source.dockerfile_name,
        source.context,
        outputs=wanted.outputs,
        target=asked.target,
        build_args=remote.build_args,
        labels=text_pairs(asked.labels, "--label"),
        no_cache=asked.no_cache,
        pull=asked.pull,
        platforms=asked.platforms,
        attest=wanted.attestations,
        network=asked.network,
        add_hosts=host_pairs(asked.add_hosts),
        source_date_epoch=settings.source_date_epoch,
        secrets=remote.secrets,
        access=remote.access,
        named_contexts=open_build_contexts(asked.sources, store, asked.platforms or (Platform.host(),), stack),
        allow=read_entitlements(asked.sources, asked.network),
        limits=wanted.limits,
        hold_failures=wanted.debugging.wanted,
        **wanted.caching._asdict(),
    )


def _tell(
    result: BuildResult | RecalledResult,
    asked: BuildArguments,
    wanted: _Wanted,
    report: BuildReport,
    duration_s: float,
) -> None:

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

    asked.files.write(result, metadata)
    report.succeeded(result, wanted.outputs, duration_s, metadata)
    if asked.quiet and all(each.dest != "-" for each in wanted.outputs):
        sys.stdout.write(f"{result.config_digest}\n")
