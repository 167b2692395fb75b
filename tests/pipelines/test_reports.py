"""What jobs reported: kept with the end of the attempt, told as a history, and bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.reports.model import Case, Reports, Tally
from pipelines.errors import StaleAttemptError
from pipelines.model import Claim, RunRequest
from pipelines.runs import histories, reports
from pipelines.runs.histories import Histories, History
from pipelines.runs.reports import CoveragePoint, JobReports, keep_reports
from pipelines.schema import job_reports, runs, test_failures, test_histories
from pipelines.service import Service
from tests.pipelines.test_pipelines import COMMIT, SOURCE, TRIGGER, claimed, node, pipeline, write

OTHER = "c" * 40
GROUP = histories.Group("app", "main", "test")
FROM_ROWS = histories._from_rows


def begun(service: Service, *nodes: JobNode, pipe: str = "main") -> int:
    run = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    write(service, claimed(service), pipeline(*nodes, name=pipe))
    return run.number


def case(name: str, outcome: Any = "passed", **members: Any) -> Case:
    return Case("s", name, outcome, 0.5, **members)


def end(
    service: Service, claim: Claim, *cases: Case, base: str = "", commit: str = COMMIT, counts: bool = True,
    coverage: float | None = None, at: float = 0.0, again: bool = False,
) -> None:  # fmt: skip
    """End an attempt, with what it reported."""
    found = JobReports(base or claim.name, commit, counts, Reports(cases, coverage))

    def store(connection: Connection) -> None:
        keep_reports(connection, claim, found, at or 1000.0 + claim.number)

    if again:
        service.claims.try_again(claim, "failed", store=store)
        return
    state = "failed" if any(each.has_failed for each in cases) else "succeeded"
    service.claims.finish(claim, state, "", JobOutcome(state), store=store)  # type: ignore[arg-type]


def ran(service: Service, *cases: Case, **options: Any) -> int:
    """The number of a run of one job, which has ended."""
    number = begun(service, node("test"))
    end(service, claimed(service), *cases, **options)
    return number


def test_reports_come_with_the_end_of_the_attempt(service: Service) -> None:
    number = begun(service, node("lint"), node("test"))
    end(service, claimed(service))
    claim = claimed(service)
    end(service, claim, case("a"), case("b", "failed", message="why"), case("c", "skipped"), coverage=81.5)
    found = service.reports.of_run(number)
    assert [(view.job, view.place, view.attempt) for view in found] == [("lint", 2, 1), ("test", 3, 1)]
    assert found[1].tests == Tally(3, 1, 1, 0, 1.5)
    assert found[1].coverage == 81.5
    whole = service.reports.of_job(number, 3)
    assert whole is not None
    assert [each.message for each in whole[1].cases] == ["", "why", ""]
    assert service.reports.of_job(number, 1) is None
    assert service.reports.of_job(number, 9) is None


def test_attempt_that_lost_its_job_reports_nothing(service: Service) -> None:
    number = begun(service, node("test"))
    claim = claimed(service)
    service.claims.release(claim.number, claim.attempt, "gone")
    with pytest.raises(StaleAttemptError):
        end(service, claim, case("a", "failed"))
    assert service.reports.of_run(number) == []
    assert service.reports.of_project("app") == []


def test_how_often_a_test_failed_of_the_last_hundred(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "COUNTED", 3)
    ran(service, case("old", "failed"), commit="1" * 40)
    ran(service, case("a", "failed"), case("b"), commit="2" * 40)
    ran(service, case("a", "error"), case("b", "failed"), commit="3" * 40)
    last = ran(service, case("a"), case("b", "failed"), commit="4" * 40)
    found = service.reports.of_project("app")
    assert [(test.name, test.history, test.last_run) for test in found] == [
        ("a", History(2, 0, 3), last - 1),
        ("b", History(2, 0, 3), last),
    ]
    assert service.reports.of_project("app", flaky=True) == []
    cases = [case("a"), case("new"), case("b", "failed")]
    assert service.reports.histories(last, 2, cases) == [History(2, 0, 3), History(0, 0, 3), History(2, 0, 3)]
    nothing = History(failed=0, flaky=0, of=0)
    assert service.reports.histories(last, 9, cases) == [nothing] * 3, "of a job that reported nothing"


def test_all_of_a_matrix_are_one_test_and_pipelines_are_not(service: Service) -> None:
    number = begun(service, node("test (3.11)", matrix="test"), node("test (3.13)", matrix="test"))
    for _ in range(2):
        end(service, claimed(service), case("a", "failed"), base="test", commit=OTHER)
    begun(service, node("test"), pipe="nightly")
    end(service, claimed(service), case("a", "failed"))
    found = service.reports.of_project("app")
    assert [(test.pipeline, test.job, test.history) for test in found] == [
        ("main", "test", History(2, 0, 2)),
        ("nightly", "test", History(1, 0, 1)),
    ]
    assert [view.job for view in service.reports.of_run(number)] == ["test (3.11)", "test (3.13)"]


def test_flaky_is_what_failed_and_passed_with_one_commit(service: Service) -> None:
    ran(service, case("a", "failed"), case("b", "failed"), case("c"), commit="1" * 40)
    ran(service, case("a"), case("b", "failed"), case("c", "failed"), commit="1" * 40)
    ran(service, case("a"), case("b"), case("c"), commit="2" * 40)
    found = {test.name: test.history for test in service.reports.of_project("app")}
    assert found == {"a": History(1, 1, 3), "b": History(2, 0, 3), "c": History(1, 1, 3)}
    assert [test.name for test in service.reports.of_project("app", flaky=True)] == ["a", "c"]


def test_flaky_is_what_passed_at_the_next_attempt_or_within_one(service: Service) -> None:
    begun(service, node("test"))
    end(service, claimed(service), case("a", "failed"), case("z", "failed"), again=True)
    end(service, claimed(service), case("a"), case("r", is_flaky=True), case("z", "failed"))
    found = {test.name: test.history for test in service.reports.of_project("app")}
    assert found == {"a": History(1, 1, 2), "r": History(0, 1, 2), "z": History(2, 0, 2)}


def test_another_value_of_the_matrix_that_passes_makes_nothing_flaky(service: Service) -> None:
    for outcomes in (("failed", "passed"), ("failed", "failed")):
        begun(service, node("test (3.11)", matrix="test"), node("test (3.13)", matrix="test"))
        for outcome in outcomes:
            end(service, claimed(service), case("a", outcome), base="test")
        shaky = outcomes.count("failed") - 1  # that of 3.13 has passed before, and that of 3.11 has not
        assert service.reports.of_project("app")[0].history.flaky == shaky
    begun(service, node("test (3.11)", matrix="test"))
    end(service, claimed(service), case("a"), base="test")
    assert [test.history for test in service.reports.of_project("app")] == [History(3, 3, 5)]


def test_what_does_not_count_is_shown_and_in_no_history(service: Service) -> None:
    number = ran(service, case("a", "failed"), counts=False, coverage=5.0)
    ran(service, case("a"), coverage=80.0)
    assert service.reports.of_run(number)[0].tests.failed == 1
    assert service.reports.of_project("app") == []
    (course,) = service.reports.coverage("app")
    assert [point.coverage for point in course.points] == [80.0]


def test_coverage_is_a_course_from_the_oldest(service: Service) -> None:
    runs = [ran(service, coverage=number) for number in (70.0, 80.5)]
    ran(service, case("a"))
    (course,) = service.reports.coverage("app")
    assert (course.pipeline, course.job) == ("main", "test")
    assert [(point.run, point.coverage) for point in course.points] == list(zip(runs, (70.0, 80.5), strict=True))
    assert isinstance(course.points[0], CoveragePoint)


def test_a_job_s_history_is_bounded_however_often_it_runs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_KEPT", 2)
    monkeypatch.setattr(reports, "_MOST_FAILURES", 3)
    numbers = [ran(service, *[case(f"t{at}", "failed") for at in range(5)], commit=f"{at}" * 40) for at in range(4)]
    with service.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(test_failures)).scalar() == 2 * 3
        kept = connection.execute(select(job_reports.c.document).order_by(job_reports.c.at)).scalars().all()
    assert [bool(document) for document in kept] == [False, False, True, True]
    oldest = service.reports.of_job(numbers[0], 2)
    assert oldest is not None
    assert oldest[0].tests.failed == 5
    assert oldest[1].notes == ("the tests are not kept any more",)


def test_reports_of_forks_are_bounded_and_push_no_others_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_KEPT", 2)
    monkeypatch.setattr(histories, "COUNTED", 2)
    own = [ran(service, case("a", "failed"), commit=f"{at}" * 40) for at in range(2)]
    forks = [ran(service, case("b", "failed"), counts=False, commit="9" * 40) for _ in range(3)]
    own.append(ran(service, case("a"), commit="3" * 40))
    kept = {number: bool(found[1].cases) for number in own + forks if (found := service.reports.of_job(number, 2))}
    assert kept == {own[0]: False, own[1]: True, own[2]: True, forks[0]: False, forks[1]: True, forks[2]: True}
    assert [(test.name, test.history.failed) for test in service.reports.of_project("app")] == [("a", 1)]


def test_history_is_added_up_once_and_anew_when_a_report_comes_or_goes(service: Service) -> None:
    asked: list[str] = []

    def note(*arguments: Any) -> None:
        asked.append(arguments[2])

    def history() -> tuple[History | None, bool]:
        asked.clear()
        found = service.reports.of_project("app")
        return found[0].history if found else None, any("FROM test_histories" in statement for statement in asked)

    event.listen(service.database.engine, "before_cursor_execute", note)
    first = ran(service, case("a", "failed"))
    assert [history(), history()] == [(History(1, 0, 1), True), (History(1, 0, 1), False)]
    ran(service, case("a"))
    assert [history(), history()] == [(History(1, 1, 2), True), (History(1, 1, 2), False)], "the older one is flaky now"
    with service.database.write() as connection:
        connection.execute(delete(runs).where(runs.c.number == first))
    assert history() == (None, True)


def test_what_is_kept_of_a_history_says_what_its_rows_say(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "COUNTED", 4)
    monkeypatch.setattr(histories, "_MOST_TESTS", 5)
    chance = random.Random(18)
    asked: list[bool] = []  # whether the rows were needed

    def looked() -> None:
        by_rows: list[bool] = []

        def from_rows(*given: Any) -> Any:
            by_rows.append(True)
            return FROM_ROWS(*given)

        with monkeypatch.context() as patch:
            patch.setattr(histories, "_from_rows", from_rows)
            with service.database.read() as connection:
                found = sorted(Histories().failing(connection, GROUP)[1], key=str)
            asked.append(bool(by_rows))
            patch.setattr(histories, "_told", lambda *given: None)
            with service.database.read() as connection:
                assert found == sorted(Histories().failing(connection, GROUP)[1], key=str)

    for turn in range(14):
        names = "abcde" if turn < 11 else "abcdefgh"  # in the end more than are kept
        cases = [
            case(name, chance.choice(["failed", "passed", "skipped"]), is_flaky=chance.random() < 0.1) for name in names
        ]
        last = ran(service, *cases, commit=f"{chance.randrange(3)}" * 40, at=chance.choice([0.0, 1000.0 + turn * 3]))
        looked()
        if turn % 6 == 5:
            with service.database.write() as connection:
                connection.execute(delete(runs).where(runs.c.number == last - chance.randrange(3)))
            looked()
        if turn == 8:  # what another version left, or none
            with service.database.write() as connection:
                connection.execute(update(test_histories).values(document=chance.randbytes(9)))
            looked()
    assert [asked[at] for at in (0, 3, 5, 7, 8, 9, 11)] == [False] * 7
    assert asked[10], "what cannot be read is looked for in the rows, until the next report"
    assert any(asked[-3:]), "more tests than a document has"


def test_other_projects_know_nothing_of_it(service: Service) -> None:
    ran(service, case("a", "failed"))
    assert service.reports.of_project("other") == []
    assert service.reports.coverage("other") == []


def test_reports_go_with_their_runs(service: Service) -> None:
    ran(service, case("a", "failed"))
    service.projects.remove("app")
    with service.database.read() as connection:
        for table in (job_reports, test_failures, test_histories):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0


def test_any_text_is_a_test_s_name(service: Service) -> None:
    names = ["ä" * 500, "🙂" * 500, "%'\"\\", "‮rtl"]
    ran(service, *[replace(case(name, "failed"), suite=name) for name in names])
    assert {test.name for test in service.reports.of_project("app")} == set(names)
