"""``shiplap ci run``: from the command line to the summary of a run on this machine."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from functools import partial
from typing import Any

from msgspec.structs import replace

from ci.local.looking import why_always
from ci.local.runner import LocalRun, RunRequest
from ci.local.watching import RunEnd
from ci.planning import Plan, PlannedJob
from cli.errors import CommandError, describe
from cli.guarding import say
from cli.jobs.asked import RunArguments
from cli.jobs.gates import deciding
from cli.jobs.jsonlines import end_members, json_line
from cli.jobs.keeping import keep_caches, keep_results
from cli.jobs.opened import WRONG, NothingIsRunError, OpenedRun, opened_run, warn_in_words
from cli.jobs.outputs import WrittenOutput, write_outputs
from cli.jobs.report import JobsReport
from cli.jobs.shell import enter_failed
from cli.jobs.summary import failure_lines, summary_lines
from cli.jobs.words import ALWAYS
from cli.progress.choose import Mode, choose_mode
from cli.progress.text import files_text, one_line, size_text
from cli.store import as_root
from cli.unpacking import check_free


def run_here(asked: RunArguments) -> int:
    """Run the jobs. Returns the exit code. Raises ShiplapErrors and OSErrors for what the machine did wrong."""
    as_root()  # the store would ask for it, too late: a process with threads cannot enter a user namespace
    # Git looks at the files in processes of its own; until it has, this one loads what does jobs.
    threading.Thread(target=importlib.import_module, args=["ci.execution.job"], name="loading", daemon=True).start()
    mode = choose_mode(asked.progress, sys.stderr, quiet=False)
    warn = _warn_in_json if mode == "json" else warn_in_words
    try:
        with opened_run(asked.root, asked.insecure, asked.about, asked.jobs, warn, reuse=not asked.no_reuse) as opened:
            code = _run(asked, opened, mode)
    except NothingIsRunError as error:
        return error.code
    return opened.received.exit_code if opened.requests.stop else code


def _run(asked: RunArguments, opened: OpenedRun, mode: Mode) -> int:
    """Run the jobs, and tell how it went. Returns the exit code, but for signals."""
    from ci.execution.job import execute

    if not opened.plan.jobs:
        _tell_of_nothing(mode, opened.plan)
        return 0
    names = [job.name for job in opened.plan.jobs]
    gates = [job.name for job in opened.plan.jobs if job.job.approve is not None]
    try:
        decide = deciding(gates, opened.requests, is_yes=asked.yes)
        if asked.outputs is not None:
            check_free(asked.outputs)
    except CommandError as error:
        say(describe(error))
        return WRONG
    with JobsReport(mode, sys.stderr, names, opened.given.secrets.values()) as report:
        enter = partial(enter_failed, report=report, launcher=opened.launcher) if asked.shell_on_failure else None
        request = RunRequest(opened.pipeline, opened.plan, opened.given, asked.at_once)
        end = LocalRun(request, execute, opened.tools, report, opened.requests, enter, decide(report)).run()
    shown = replace(end, jobs={name: report.masked(job) for name, job in end.jobs.items()})
    if mode != "json":
        _tell(opened.plan, shown, report)
    try:
        keep_results(opened.store, end)
        if any(planned.job.caches for planned in opened.plan.jobs):
            keep_caches(asked.root, opened.store)
        for output in write_outputs(opened.store, end, asked.outputs) if asked.outputs is not None else ():
            _tell_of_output(mode, output)
    finally:
        if mode == "json":  # the end of the run is the last line, whatever becomes of its outputs
            _write_json(end.outcome.state, {name: end_members(job) for name, job in shown.jobs.items()}, opened.plan)
    return 0 if end.outcome.state == "succeeded" else 1


def _warn_in_json(message: str) -> None:
    _write(json_line({"event": "warning", "message": message}))


def _tell_of_nothing(mode: Mode, planned: Plan) -> None:
    if mode == "json":
        _write_json("succeeded", {}, planned)
        return
    say(f"nothing is run: {one_line(planned.reason)}")
    for name, reason in planned.left_out.items():
        say(f"{one_line(name)} is left out: {one_line(reason)}")


def _tell_of_output(mode: Mode, output: WrittenOutput) -> None:
    if mode == "json":
        where = {"job": output.job, "name": output.name, "path": str(output.path)}
        _write(json_line({"event": "output-written", **where, "files": output.files, "size": output.size}))
        return
    say(f"{one_line(str(output.path))}: {files_text(output.files)}, {size_text(output.size)}")


def _tell(planned: Plan, end: RunEnd, report: JobsReport) -> None:
    reasons = {job.name: _why(job, report) for job in planned.jobs}
    lines = failure_lines(end, report.logs, colours=report.colours)
    more = summary_lines(planned.jobs, planned.left_out, end, reasons, colours=report.colours)
    _write("\n".join([*lines, *more]) + "\n")


def _why(job: PlannedJob, report: JobsReport) -> str:
    """Why a job ran."""
    always = why_always(job)
    return ALWAYS[always] if always else report.logs[job.name].why


def _write_json(state: str, jobs: dict[str, dict[str, Any]], planned: Plan) -> None:
    found = {"event": "run-end", "state": state, "jobs": jobs, "left_out": dict(planned.left_out)}
    _write(json_line({**found, "reason": planned.reason}))


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is closed, or the pipe: the run has ended all the same
        sys.stderr.write(text)
        sys.stderr.flush()
