"""What tables and templates can show of what a service has: fields named as docker's, of the answers of its API.

Titles, names of branches and reasons come from whoever pushes: a ``Listing`` keeps them from steering a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.listing import Listing, Row
from cli.remote.wording import job_why, outcome, title_text, took
from cli.table import age, rfc3339

RUNS: Final = Listing(
    {
        "Number": "RUN",
        "Project": "PROJECT",
        "State": "STATE",
        "Status": "STATE",
        "Reason": "REASON",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Took": "TOOK",
        "Title": "WHAT",
        "Branch": "BRANCH",
        "Commit": "COMMIT",
        "By": "BY",
        "Event": "EVENT",
        "Tags": "TAGS",
        "URL": "URL",
    },
    ("Number", "Project", "Status", "CreatedSince", "Took", "Title"),
    "Number",
    "run",
    least=0,
)
"""State is a word of the API; Status has the reason, too."""

JOBS: Final = Listing(
    {
        "Place": "JOB",
        "Name": "NAME",
        "State": "STATE",
        "Took": "TOOK",
        "Worker": "WORKER",
        "Why": "WHY",
        "Attempt": "ATTEMPT",
        "Matrix": "MATRIX",
        "Needs": "NEEDS",
        "Lines": "LINES",
    },
    ("Place", "Name", "State", "Took", "Worker", "Why"),
    "Place",
    "job",
    least=0,
)

PROJECTS: Final = Listing(
    {
        "Name": "PROJECT",
        "Forge": "FORGE",
        "Webhook": "WEBHOOK",
        "Statuses": "STATUSES",
        "Repository": "REPOSITORY",
        "ArchivedAt": "ARCHIVED AT",
    },
    ("Name", "Forge", "Webhook", "Statuses", "Repository"),
    "Name",
    "project",
    least=0,
)

WORKERS: Final = Listing(
    {
        "Name": "NAME",
        "State": "STATE",
        "Labels": "LABELS",
        "Slots": "SLOTS",
        "Runs": "RUNS",
        "Seen": "SEEN",
        "Trouble": "TROUBLE",
    },
    ("Name", "State", "Slots", "Runs", "Labels", "Seen", "Trouble"),
    "Name",
    "worker",
    least=0,
)


def run_row(run: Mapping[str, Any], now: float, server: str) -> Row:
    """A run's fields. now: seconds since the epoch. server: its address."""
    shown, trigger = dict(run), run["trigger"]
    return {
        "Number": str(run["number"]),
        "Project": run["project"],
        "State": run["state"],
        "Status": outcome(shown),
        "Reason": run["reason"],
        "CreatedSince": age(max(0.0, now - run["created_at"])),
        "CreatedAt": rfc3339(int(run["created_at"])),
        "Took": took(shown, now),
        "Title": title_text(shown),
        "Branch": trigger.get("branch") or "",
        "Commit": trigger.get("commit") or "",
        "By": trigger.get("by") or "",
        "Event": trigger.get("kind", "manual"),
        "Tags": ",".join(run["options"].get("tags", ())),
        "URL": f"{server}/runs/{run['number']}",
    }


def job_row(job: Mapping[str, Any], now: float) -> Row:
    """A job's fields. now: seconds since the epoch."""
    shown = dict(job)
    return {
        "Place": str(job["place"]),
        "Name": job["name"],
        "State": job["state"],
        "Took": took(shown, now),
        "Worker": job["worker"],
        "Why": job_why(shown),
        "Attempt": str(job["attempt"]),
        "Matrix": job.get("matrix", ""),
        "Needs": ",".join(job["needs"]),
        "Lines": str(job["lines"]),
    }


def project_row(project: Mapping[str, Any]) -> Row:
    """A project's fields."""
    hook = project.get("hook", {})
    return {
        "Name": project["name"],
        "Forge": hook.get("forge", "") or "-",
        "Webhook": "yes" if project.get("has_webhook_secret") else "no",
        "Statuses": "yes" if project.get("has_status_token") else "no",
        "Repository": hook.get("repository", "") or "-",
        "ArchivedAt": rfc3339(int(project["archived_at"])) if project.get("archived_at") else "",
    }


def worker_row(worker: Mapping[str, Any], now: float) -> Row:
    """A worker's fields. now: seconds since the epoch."""
    return {
        "Name": worker["name"],
        "State": worker["state"],
        "Labels": ",".join(worker["labels"]),
        "Slots": f"{len(worker['runs'])}/{worker['concurrency']}",
        "Runs": ",".join(map(str, worker["runs"])),
        "Seen": age(max(0.0, now - worker["heartbeat_at"])),
        "Trouble": worker.get("trouble", ""),
    }
