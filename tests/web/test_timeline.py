"""Steps to scale, and numbers in words."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.model import JobState, Step, StepState
from pipelines.runs.jobs import JobView
from web.pages import words
from web.pages.timeline import WIDTH, Lane, draw, draw_jobs

_STATES: tuple[StepState, ...] = ("waiting", "running", "done", "cached", "failed", "cancelled")


def test_bars_are_where_and_as_long_as_the_steps_were() -> None:
    steps = [
        Step(0, "a", "x", 1, "done", started_at=100.0, duration_s=5.0),
        Step(1, "b", "y", 2, "failed", started_at=102.0, duration_s=8.0),
        Step(2, "c", "y", 3, "waiting"),
    ]
    drawn = draw(steps, 100.0, 110.0)
    assert [group.name for group in drawn.groups] == ["x", "y"]
    (first,), (second, third) = drawn.groups[0].bars, drawn.groups[1].bars
    assert (first.x, first.width) == (0.0, 50.0)
    assert (second.x, second.width) == (20.0, 80.0)
    assert (third.width, third.duration_s) == (0.0, None)
    assert drawn.ticks[-1].x == WIDTH


def test_stages_are_in_the_order_of_the_dockerfile_whatever_the_plan_says() -> None:
    steps = [
        Step(0, "FROM", "last", 5, "done", started_at=100.0),
        Step(1, "FROM", "build", 1, "done", started_at=100.0),
        Step(2, "COPY", "last", 6, "done", started_at=108.0, duration_s=1.0),
        Step(3, "RUN", "build", 2, "done", started_at=100.0, duration_s=8.0),
        Step(4, "export", "", 0, "done", started_at=109.0, duration_s=1.0),
        Step(5, "context", "", 0, "done", started_at=100.0, duration_s=0.1),
        Step(6, "push", "", 0, "waiting"),
    ]
    groups = draw(steps, 100.0, 110.0).groups
    assert [(group.name, [bar.step.index for bar in group.bars]) for group in groups] == [
        ("", [5]), ("build", [1, 3]), ("last", [0, 2]), ("", [4, 6]),
    ]  # fmt: skip


def test_a_running_step_reaches_to_now() -> None:
    (group,) = draw([Step(0, "a", "", 1, "running", started_at=100.0)], 100.0, 160.0).groups
    assert group.bars[0].width == WIDTH
    assert group.bars[0].duration_s == 60.0


def job(name: str, state: JobState, started_at: float | None, finished_at: float | None) -> JobView:
    return JobView(1, 2, name, "job", state, "", 1, "w", 0.0, started_at, finished_at, 0)


def test_bars_of_jobs_are_to_scale_in_the_order_of_the_file() -> None:
    drawn = draw_jobs(
        [
            job("c", "succeeded", 100.0, 105.0), job("a", "running", 102.0, None), job("b", "waiting", None, None),
            job("again", "queued", 101.0, None),
        ],
        110.0,
    )  # fmt: skip
    assert [(lane.job.name, lane.x, lane.width, lane.duration_s) for lane in drawn.lanes] == [
        ("c", 0.0, 50.0, 5.0), ("a", 20.0, 80.0, 8.0), ("b", 0.0, 0.0, None), ("again", 0.0, 0.0, None),
    ]  # fmt: skip
    assert drawn.span_s == 10.0


def test_bars_that_have_ended_stay_where_they_are_for_a_while() -> None:
    jobs = [job("c", "succeeded", 100.0, 105.0), job("a", "running", 102.0, None)]
    drawn = [draw_jobs(jobs, until, goes_on=True) for until in (120.5, 124.9, 125.1)]
    assert [each.lanes[0] for each in drawn[:2]] == [Lane(jobs[0], 0.0, 20.0, 5.0)] * 2
    assert [each.span_s for each in drawn] == [25.0, 25.0, 30.0]
    assert [each.now for each in drawn] == pytest.approx([82.0, 99.6, 25.1 / 0.3])


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e6))),
    st.floats(0, 2e6),
    st.booleans(),
)
def test_bars_of_jobs_stay_inside(facts: list[tuple[float | None, float | None]], until: float, goes_on: bool) -> None:
    drawn = draw_jobs([job("j", "running", *times) for times in facts], until, goes_on=goes_on)
    assert 0 <= drawn.now <= WIDTH + 1e-6
    for lane in drawn.lanes:
        assert 0 <= lane.width <= WIDTH + 1e-6
        assert -1e-6 <= lane.x <= WIDTH - lane.width + 1e-6


def test_long_time_in_which_nothing_ran_is_not_to_scale() -> None:
    """A gate waited for people from 10 s to 1000 s; before and after it something ran for 10 s."""
    gate = msgspec.structs.replace(job("g", "succeeded", 10.0, 1000.0), is_gate=True)
    drawn = draw_jobs([job("a", "succeeded", 0.0, 10.0), gate, job("b", "succeeded", 1000.0, 1010.0)], 1010.0)
    (pause,) = drawn.pauses
    first, _, last = drawn.lanes
    assert first.width == pytest.approx(last.width)
    assert first.width > 45
    assert pause.duration_s == 990.0
    assert pause.x == pytest.approx(first.width)
    assert last.x == pytest.approx(pause.x + pause.width)
    assert [tick.at_s for tick in drawn.ticks] == [0, 5, 10, 15, 20]
    assert all(0 <= tick.x <= WIDTH + 1e-6 for tick in drawn.ticks)


_times = st.none() | st.floats(0, 1e6)


@given(st.lists(st.tuples(_times, st.floats(0, 1e5), st.sampled_from(_STATES))), _times, st.floats(0, 2e6))
def test_whatever_clocks_say_bars_stay_inside(
    facts: list[tuple[float | None, float, StepState]], began_at: float | None, until: float
) -> None:
    steps = [Step(i, "s", "", 1, state, "", at, length) for i, (at, length, state) in enumerate(facts)]
    drawn = draw(steps, began_at, until)
    for group in drawn.groups:
        for bar in group.bars:
            assert 0 <= bar.width <= WIDTH + 1e-6
            assert -1e-6 <= bar.x <= WIDTH - bar.width + 1e-6
    assert len(drawn.ticks) <= 8


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.123, "0.12 s"), (7.08, "7.1 s"), (200, "3 min 20 s"), (7505, "2 h 05 min"), (-1, "0.00 s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (61_200_000, "61.2 MB")]
)
def test_sizes(size: int, text: str) -> None:
    assert words.size(size) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [(3, "just now"), (59, "59 s ago"), (3599, "59 min ago"), (90_000, "yesterday"), (200_000, "2 days ago")],
)
def test_moments(passed: float, text: str) -> None:
    assert words.ago(1_000_000 - passed, 1_000_000) == text


def test_addresses_from_outside_are_links_only_when_a_browser_may_go_there() -> None:
    assert words.weblink("https://example.org/x") == "https://example.org/x"
    assert words.weblink("javascript:alert(1)") == ""
    assert words.weblink("//example.org") == ""
