"""Runs a build that ``recall`` could not answer: with containers, Ctrl-C, and a shell in a step that fails."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuildCancelledError
from cli.building.debug import DebugOptions, FailureShownError, entering_failures
from cli.signals import Received, cancelling
from containers.errors import ContainerError
from containers.launcher import Launcher

if TYPE_CHECKING:
    from builder.bases import Connect
    from builder.copying.contextfiles import ContextFiles
    from builder.request.request import BuildRequest
    from builder.result import BuildResult
    from cli.building.report import BuildReport
    from core.settings import Settings
    from images.store import Store


class Ended(NamedTuple):
    """The build ended without a result. The reason has been printed."""

    exit_code: int


class LocalBuild(NamedTuple):
    """A build on this machine, in its state when ``recall`` could not answer it.

    files: what has been read of the request's contexts.
    debugging: whether to enter a RUN that fails.
    report: receives the build's events.
    cancelled: set by Ctrl-C, and by whatever else ends the build.
    connect: opens a registry client.
    """

    request: BuildRequest
    store: Store
    files: ContextFiles
    settings: Settings
    debugging: DebugOptions
    report: BuildReport
    cancelled: threading.Event
    connect: Connect


def build_steps(local: LocalBuild) -> BuildResult | Ended:
    """Build what was asked for. Raises ShiplapError and OSError."""
    request, store, settings, report = local.request, local.store, local.settings, local.report
    received = Received()
    try:
        with ExitStack() as stack:
            launcher = stack.enter_context(
                Launcher(store.tmp, denied_networks=settings.denied_networks, uplink=settings.uplink)
            )
            received = stack.enter_context(cancelling(local.cancelled, at_once=launcher.close))
            stack.enter_context(entering_failures(local.debugging, launcher, report, store, request.secrets))
            if request.will_run:
                with suppress(ContainerError):  # the first step reports it
                    launcher.warm()
            from builder.build import BuildTools, build  # planner and solver are loaded while the launcher starts

            tools = BuildTools(
                store,
                launcher,
                monitor=report,
                cancelled=local.cancelled,
                connect=local.connect,
                cache_max=settings.cache_max,
                solved=launcher.retire,
                files=local.files,
            )
            return build(request, tools)
    except FailureShownError:
        return Ended(1)
    except BuildCancelledError as error:
        report.close()
        report.failed(error)
        return Ended(received.exit_code)
