"""``shiplap ci run``: from the command line to the summary of a run on this machine."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from builder.bases import Connect
from ci.errors import CiError, JobCancelledError
from ci.execution.job import execute
from ci.local.ending import EndRequests
from ci.local.runner import LocalRun, RunRequest, ToolsFor
from ci.local.selecting import selected
from ci.local.watching import RunEnd
from ci.outcome import Given, JobTools, MemoryPins, Publisher
from ci.parsing import ParsedFile
from ci.planning import Plan, plan
from cli.building.secrets import read_named_secrets
from cli.errors import CommandError, describe
from cli.guarding import say
from cli.jobs.asked import RunArguments
from cli.jobs.files import read_pipeline
from cli.jobs.fingerprints import fingerprints
from cli.jobs.jsonlines import end_members, json_line
from cli.jobs.keeping import keep_results
from cli.jobs.report import JobsReport
from cli.jobs.shell import enter_failed
from cli.jobs.summary import failure_lines, summary_lines
from cli.jobs.tree import WorkingTree, check_event, opened_repository, read_tree
from cli.options import environ
from cli.progress.choose import Mode, choose_mode
from cli.progress.text import one_line
from cli.registry import open_client
from cli.signals import asking_to_end
from cli.store import open_store
from containers.launcher import Launcher
from core.cancellation import asking
from core.settings import Settings
from images.store import Store
from registry.client import Client

WRONG: Final = 2
"""The exit code for a file or a command line that cannot be used."""


class _Wanted(NamedTuple):
    """What is known before anything is opened."""

    parsed: ParsedFile
    secrets: dict[str, bytes]
    mode: Mode


def run_here(asked: RunArguments) -> int:
    """Run the jobs. Returns the exit code. Raises ShiplapErrors and OSErrors for what the machine did wrong."""
    requests = EndRequests()
    with ExitStack() as stack:
        try:
            secrets = read_named_secrets(asked.about.secrets, environ())
            check_event(asked.about)
            store = stack.enter_context(open_store(asked.root, asked.insecure))
            repository = stack.enter_context(opened_repository(store.root))
            parsed = read_pipeline(repository.top, asked.about.path, asked.about.pipeline)
        except (CiError, CommandError) as error:
            return _refused(error)
        denied = Settings.from_environ(root=asked.root).denied_networks
        launcher = stack.enter_context(Launcher(store.tmp, denied_networks=denied))
        received = stack.enter_context(asking_to_end(requests.ask, times=2, at_once=launcher.close))
        mode = choose_mode(asked.progress, sys.stderr, quiet=False)
        here = _Here(asked, _Wanted(parsed, secrets, mode), store, launcher, requests)
        try:
            with asking(requests.check):
                tree = read_tree(repository, asked.about, store)
                planned = here.plan(tree)
        except JobCancelledError:
            return received.exit_code
        except (CiError, CommandError) as error:
            return _refused(error)
        code = here.run(planned, tree)
    return received.exit_code if requests.stop else code


class _Here:
    """One run on this machine."""

    def __init__(
        self, asked: RunArguments, wanted: _Wanted, store: Store, launcher: Launcher, requests: EndRequests
    ) -> None:
        self._asked = asked
        self._wanted = wanted
        self._store = store
        self._launcher = launcher
        self._requests = requests

    def plan(self, tree: WorkingTree) -> Plan:
        """The jobs that are to run. Raises PipelineFileError, and CiError for a JOB that is not among them."""
        return selected(plan(self._wanted.parsed, tree.event), self._asked.jobs)

    def run(self, planned: Plan, tree: WorkingTree) -> int:
        """Run them, and tell how it went. Returns the exit code."""
        if not planned.jobs:
            self._tell_of_nothing(planned)
            return 0
        names = [job.name for job in planned.jobs]
        report = JobsReport(self._wanted.mode, sys.stderr, names, self._wanted.secrets.values())
        with report:
            end = self._end(planned, tree, report)
        keep_results(self._store, end)
        shown = replace(end, jobs={name: report.masked(job) for name, job in end.jobs.items()})
        self._tell(planned, shown, report)
        return 0 if end.outcome.state == "succeeded" else 1

    def _end(self, planned: Plan, tree: WorkingTree, report: JobsReport) -> RunEnd:
        pipeline, parallel = self._wanted.parsed.pipeline, self._asked.at_once
        given = Given(
            facts=tree.event.facts,
            source=tree.layers,
            secrets=self._wanted.secrets,
            git=tree.git,
            reuse=not self._asked.no_reuse,
        )
        enter = None
        if self._asked.shell_on_failure:
            enter = partial(enter_failed, report=report, launcher=self._launcher)
        request = RunRequest(pipeline, planned, given, parallel)
        return LocalRun(request, execute, self._tools_for(), report, self._requests, enter).run()

    def _tools_for(self) -> ToolsFor:
        secrets, pins = tuple(self._wanted.secrets.values()), MemoryPins()
        fingerprint = fingerprints(self._store.root) if secrets else None
        pushes = self._asked.about.event != "local"

        def tools(cancelled: threading.Event) -> JobTools:
            def connect() -> Client:
                return open_client(self._asked.root, self._asked.insecure, cancelled)

            return JobTools(
                self._store,
                self._launcher,
                connect=connect,
                masked=secrets,
                fingerprint=fingerprint,
                pins=pins,
                publisher=_publisher(self._store, connect) if pushes else None,
            )

        return tools

    def _tell_of_nothing(self, planned: Plan) -> None:
        if self._wanted.mode == "json":
            self._write_json("succeeded", {}, planned)
            return
        say(f"nothing is run: {one_line(planned.reason)}")
        for name, reason in planned.left_out.items():
            say(f"{one_line(name)} is left out: {one_line(reason)}")

    def _tell(self, planned: Plan, end: RunEnd, report: JobsReport) -> None:
        if self._wanted.mode == "json":
            self._write_json(end.outcome.state, {name: end_members(job) for name, job in end.jobs.items()}, planned)
            return
        for line in failure_lines(end, report.logs, colours=report.colours):
            say(line)
        for line in summary_lines(planned.jobs, planned.left_out, end, {}, colours=report.colours):
            say(line)

    def _write_json(self, state: str, jobs: dict[str, dict[str, Any]], planned: Plan) -> None:
        found = {"event": "run-end", "state": state, "jobs": jobs, "left_out": dict(planned.left_out)}
        sys.stderr.write(json_line({**found, "reason": planned.reason}))
        sys.stderr.flush()


def _publisher(store: Store, connect: Connect) -> Publisher:
    from cli.jobs.publishing import LocalPublisher  # most runs push nothing

    return LocalPublisher(store, connect)


def _refused(error: CiError | CommandError) -> int:
    say(describe(error))
    return WRONG
