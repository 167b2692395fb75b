"""Eight pipelines of real projects: each is in order, and a table says which jobs each event runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from ci.conditions import Event
from ci.parsing import parse_pipeline
from ci.planning import plan

_DIRECTORY: Final = Path(__file__).parent / "pipelines"
_TABLE: Final = _DIRECTORY / "jobs.md"
_FILES: Final = sorted(path.stem for path in _DIRECTORY.glob("*.yml"))
_DIRECTORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "services/*": (
        "auth",
        "billing",
        "cart",
        "geo",
        "invoices",
        "mail",
        "orders",
        "search",
        "stock",
        "tax",
        "users",
        "web",
    ),
    "live/*": ("network", "shop"),
}


def event_of(column: str) -> Event:
    """What each column of the table stands for."""
    facts = {"SHIPLAP_COMMIT": "3f2a9c1d" * 5, "SHIPLAP_SHORT_COMMIT": "3f2a9c1d3f2a"}
    directories = _DIRECTORIES.__getitem__
    members = {
        "push to main": Event("push", branch="main", facts=facts, directories=directories),
        "push to feature/x": Event("push", branch="feature/x", facts=facts, directories=directories),
        "own pull request": Event("pull_request", "feature/x", "main", facts=facts, directories=directories),
        "fork": Event("pull_request", "feature/x", "main", is_fork=True, facts=facts, directories=directories),
        "tag v1.2.3": Event("tag", tag="v1.2.3", facts=facts, directories=directories),
        "by hand": Event("manual", branch="main", facts=facts, directories=directories),
    }
    return members[column]


_EVENTS: Final = ("push to main", "push to feature/x", "own pull request", "fork", "tag v1.2.3", "by hand")


def jobs_of(name: str, column: str) -> str:
    """The jobs in the order of the file, those of a matrix together; or why there are none."""
    found = plan(parse_pipeline((_DIRECTORY / f"{name}.yml").read_bytes(), f"{name}.yml"), event_of(column))
    if found.reason:
        return f"none: {found.reason}"
    of_base: dict[str, list[str]] = {}
    for job in found.jobs:
        of_base.setdefault(job.base, []).extend([", ".join(job.combination.values())] if job.combination else [])
    return ", ".join(f"{base} × {len(values)}" if values else base for base, values in of_base.items())


def test_eight_pipelines_are_there() -> None:
    assert len(_FILES) == 8


def test_table_says_which_jobs_each_event_runs() -> None:
    lines = ["| pipeline | event | jobs |", "| --- | --- | --- |"]
    lines += [f"| {name} | {column} | {jobs_of(name, column)} |" for name in _FILES for column in _EVENTS]
    assert _TABLE.read_text().splitlines() == lines


@pytest.mark.parametrize("name", _FILES)
def test_each_is_in_order_and_nothing_in_it_is_warned_of(name: str) -> None:
    assert parse_pipeline((_DIRECTORY / f"{name}.yml").read_bytes(), f"{name}.yml").problems.render() == ""
