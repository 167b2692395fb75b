"""Finding runs: every filter, paging both ways, and text that has a meaning elsewhere."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, text

from pipelines.migrations.versions import v0031_texts_of_runs as backfill
from pipelines.model import BuildOptions, ContextSource, GitSource, RunRequest, Trigger
from pipelines.runs import texts
from pipelines.runs.finding import find_runs
from pipelines.runs.listing import RunFilter
from pipelines.runs.rows import select_runs
from pipelines.schema import jobs as job_rows
from pipelines.schema import run_texts
from pipelines.schema import runs as run_rows
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
        (RunFilter(text="Ü"), [2]),
        (RunFilter(by="AD"), []),
        (RunFilter(by="Ada", text="tide"), [2]),
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


@pytest.fixture
def found_by_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the newest run, or the oldest of those that come after one."""
    monkeypatch.setattr(texts, "_NEAR", 1)


_TITLES = (
    "Change number 1 of many", "Ändere «Größe»", "修复价格四舍五入", "\u202eתקן מחיר\u202c",
    "it's \"quoted\" AND NOT %_*", "tab\there\x00nul", "x" * 10_000,
    "Change number 2 of many", "Change number 3 of many",
)  # fmt: skip


@pytest.mark.usefixtures("found_by_the_index")
def test_the_index_finds_texts_in_every_script_and_leaves_none_behind(service: Service) -> None:
    numbers = []
    for title in _TITLES:
        trigger = Trigger(kind="push", by="Ana Ruiz", branch="main", title=title.replace("\x00", ""))
        numbers.append(service.runs.submit(RunRequest(_CONTEXT, "shop"), trigger).number)

    def found(text: str, **more: str) -> list[int]:
        listed = service.listing.page(RunFilter(text=text, **more)).runs  # type: ignore[arg-type]
        assert [run.number for run in find_runs(service.database, text)] == [run.number for run in listed] or more
        return [numbers.index(run.number) for run in listed]

    assert found("number") == [8, 7, 0], "the oldest is not among the newest, which are looked through"
    assert found("ändere «grösse»") == found("ÄNDERE «GRÖSSE»") == [1]
    assert found("价格") == found("修复价格") == [2], "shorter than what the index knows, and not"
    assert found("תקן מחיר") == [3], "without the marks of direction"
    assert found('"quoted" and NOT %_*') == found("IT'S") == [4]
    assert found("tab here") == [5]
    assert found("x" * 300) == [6]
    assert found("number many") == found("main\nshop") == found("ana ruiz\x02") == []
    assert found("number", by="ana ruiz") == [8, 7, 0]
    assert found("number", by="ana") == found("number", branch="other") == found("number", state="running") == []
    page = service.listing.page(RunFilter(text="of many"), before=numbers[8], limit=1)
    assert ([run.number for run in page.runs], page.older) == ([numbers[7]], numbers[7])
    back = service.listing.page(RunFilter(text="of many"), after=numbers[0], limit=1)
    assert ([run.number for run in back.runs], back.newer) == ([numbers[7]], numbers[7])
    with service.database.write() as connection:
        rows = connection.execute(select_runs()).all()
        written = {row.run: row.text for row in connection.execute(select(run_texts))}
        assert {row.number: backfill._text(row) for row in rows} == written, "of runs before the migration, too"
        connection.execute(delete(job_rows).where(job_rows.c.run == numbers[0]))
        connection.execute(text("DELETE FROM heads"))
        connection.execute(delete(run_rows).where(run_rows.c.number == numbers[0]))
        if service.database.is_sqlite:
            connection.execute(text("INSERT INTO run_grams (run_grams) VALUES ('integrity-check')"))
    assert found("number") == [8, 7]


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
