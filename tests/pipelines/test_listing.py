"""Finding runs: every filter, paging both ways, and text that has a meaning elsewhere."""

from __future__ import annotations

import pytest

from pipelines.model import BuildOptions, ContextSource, GitSource, RunRequest, Trigger
from pipelines.runs.listing import RunFilter
from pipelines.service import Service

_CONTEXT = ContextSource("sha256:" + "0" * 64)


@pytest.fixture
def runs(service: Service) -> list[int]:
    requests = [
        (RunRequest(_CONTEXT, "web"), Trigger(by="ada")),
        (RunRequest(_CONTEXT, "web"), Trigger(kind="push", by="adam", branch="main", title='Say "100 %_"')),
        (RunRequest(GitSource("https://git.example.org/Tide.git")), Trigger(kind="push", by="ada", branch="fix/ü")),
        (RunRequest(_CONTEXT, options=BuildOptions(tags=("registry/world:1",))), Trigger()),
    ]
    return [service.runs.submit(*request).number for request in requests]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunFilter(), [3, 2, 1, 0]),
        (RunFilter(project="web"), [1, 0]),
        (RunFilter(by="ada"), [2, 0]),
        (RunFilter(branch="fix/ü"), [2]),
        (RunFilter(text="tide"), [2]),
        (RunFilter(text='say "100 %_"'), [1]),
        (RunFilter(text="%"), [1]),
        (RunFilter(text="WORLD:1"), [3]),
        (RunFilter(text="nothing of that"), []),
        (RunFilter(state="active"), [3, 2, 1, 0]),
        (RunFilter(state="failed"), []),
        (RunFilter(project="web", by="adam", state="queued"), [1]),
    ],
)
def test_filters(service: Service, runs: list[int], wanted: RunFilter, found: list[int]) -> None:
    assert [run.number for run in service.listing.page(wanted).runs] == [runs[index] for index in found]


def test_a_number_finds_its_run(service: Service, runs: list[int]) -> None:
    assert [run.number for run in service.listing.page(RunFilter(text=f"#{runs[2]}")).runs][:1] == [runs[2]]


@pytest.mark.parametrize("text", ["²", "#²", "٣", "9" * 30, "#"])
def test_what_is_no_number_of_a_run_finds_none(service: Service, runs: list[int], text: str) -> None:
    assert service.listing.page(RunFilter(text=text)).runs == []


def test_pages_go_both_ways(service: Service, runs: list[int]) -> None:
    first = service.listing.page(RunFilter(), limit=3)
    assert ([run.number for run in first.runs], first.newer, first.older) == (runs[:0:-1], None, runs[1])
    second = service.listing.page(RunFilter(), before=first.older, limit=3)
    assert ([run.number for run in second.runs], second.newer, second.older) == ([runs[0]], runs[0], None)
    back = service.listing.page(RunFilter(), after=second.newer, limit=2)
    assert ([run.number for run in back.runs], back.newer, back.older) == ([runs[2], runs[1]], runs[2], runs[1])


def test_waiting_runs_come_in_the_order_they_are_taken_with_the_reason(service: Service, runs: list[int]) -> None:
    urgent = service.runs.submit(RunRequest(_CONTEXT, priority=5)).number
    waiting = service.listing.waiting()
    assert [run.number for run in waiting] == [urgent, *runs]
    assert {run.reason for run in waiting} == {"no worker is running"}
    assert service.listing.count("queued") == 5
    claim = service.claims.take("w", ())
    assert claim is not None
    assert [run.number for run in service.listing.running()] == [urgent]
    late = service.runs.submit(RunRequest(_CONTEXT, "late")).number
    assert [run.number for run in service.listing.waiting(1, projects={"late"})] == [late], "whoever is before it"
