"""``shiplap runs show``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from cli.options import json_option
from cli.progress.text import harmless, one_line, size_text
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import is_of_pipeline, known_jobs
from cli.remote.jobstable import jobs_table
from cli.remote.servers import required_server
from cli.remote.wording import dockerfile_hint, outcome, repeats, source_text, took
from cli.table import age, looks_of, print_json, print_table, rfc3339
from pipelines.logs.lines import LogLine
from pipelines.logs.tail import last_output


@click.command("show")
@click.argument("run", type=click.IntRange(1))
@json_option
@click.pass_obj
def command(root: str | None, *, run: int, as_json: bool) -> None:
    """Show a run with its steps or its jobs."""
    with Client(required_server(host_option(), root)) as client:
        shown: dict[str, Any] = client.call("GET", f"/runs/{run}")
        steps: list[dict[str, Any]] = client.call("GET", f"/runs/{run}/steps")["steps"]
        jobs = list(filter(is_of_pipeline, known_jobs(client, run)))
        tail = [] if as_json or shown["state"] != "failed" else _tail(client, run, steps)
    if as_json:
        print_json({**shown, "steps": steps, **({"jobs": jobs} if jobs else {})})
        return
    now = time.time()
    click.echo(harmless("\n".join(_facts(shown, now)), colours=False))
    if jobs:
        looks = looks_of(sys.stdout)
        click.echo("\n" + jobs_table(jobs, now, looks), color=looks.colours or None)
    if steps:
        click.echo()
        print_table(("LINE", "STEP", "STATE", "TOOK", "SIZE", "LOG"), [_row(step) for step in steps])
    error = (shown["result"] or {}).get("error")
    if tail:
        click.echo("\n" + "\n".join(tail))
    if error:
        click.echo("\n" + harmless(error))
    if hint := dockerfile_hint(shown):
        click.echo(f"hint: {hint}")


def _tail(client: Client, run: int, steps: list[dict[str, Any]]) -> list[str]:
    """The failed step's name and last output lines; empty where no step failed, or it printed nothing."""

    def read(first: int, limit: int) -> Sequence[LogLine]:
        page = client.call("GET", f"/runs/{run}/log", query={"first": str(first), "limit": str(limit)})
        return msgspec.convert(page["lines"], list[LogLine])

    for step in steps:
        if step["state"] == "failed":
            lines = last_output(read, step=step["index"], first_line=step["first_line"], last_line=step["last_line"])
            return ["------", f" > {one_line(step['name'])}:", *map(harmless, lines), "------"] if lines else []
    return []


def _facts(run: dict[str, Any], now: float) -> list[str]:
    result = run["result"] or {}
    facts = {
        "run": f"{run['number']} of project {run['project']}",
        "state": outcome(run),
        "reason": run["reason"] if _tells_more(run) else "",
        "what": source_text(run),
        "repeats": repeats(run),
        "created": f"{rfc3339(int(run['created_at']))} ({age(max(0.0, now - run['created_at']))})",
        "took": took(run, now),
        "worker": run["worker"],
        "attempt": f"{run['attempt']} of {run['max_attempts']}" if run["attempt"] else "",
        "image": result.get("image", ""),
        "names": ", ".join(result.get("names", ())),
        "steps": f"{result.get('executed', 0)} executed, {result.get('cached', 0)} cached" if result else "",
    }
    return [f"{name + ':':9} {value}" for name, value in facts.items() if value]


_TOLD: Final = ("queued", "blocked", "succeeded", "warnings", "cancelled")
"""States that are shown with their reasons."""


def _tells_more(run: dict[str, Any]) -> bool:
    """Whether the reason adds to what the run's state, or a failed run's error, already tells."""
    error = (run["result"] or {}).get("error") or ""
    told_by_state = run["cancel_requested"] or run["state"] in _TOLD
    return not told_by_state and run["reason"] not in error


def _row(step: dict[str, Any]) -> tuple[str, ...]:
    lines = f"{step['first_line']}-{step['last_line']}" if step["first_line"] else ""
    took_text = f"{step['duration_s']:.1f}s" if step["state"] not in ("waiting", "cached") else ""
    size = size_text(step["size_bytes"]) if step["size_bytes"] else ""
    return (str(step["line"] or ""), step["name"], step["state"], took_text, size, lines)
