"""The drawing of a project's history: to scale, and told in words."""

from __future__ import annotations

import pytest

from pipelines.model import RunState, Trigger
from pipelines.runs.history import Point
from web.pages.projects_chart import HEIGHT, WIDTH, draw


def point(
    number: int, duration_s: float, *, state: RunState = "succeeded", executed: int = 1, cached: int = 3
) -> Point:
    return Point(number, state, 0.0, duration_s, executed, cached, Trigger())


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw([]) is None


def test_bars_are_to_scale_and_stay_inside() -> None:
    chart = draw([point(number, float(number)) for number in range(1, 101)])
    assert chart is not None
    heights = [bar.height for bar in chart.bars]
    assert heights[99] == pytest.approx(2 * heights[49], rel=0.01)
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT for bar in chart.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in chart.bars)
    assert len(chart.hits.split()) == 100


@pytest.mark.parametrize(
    ("longest_s", "labels"),
    [
        (0.4, ["0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]),
        (3.0, ["0 s", "1 s", "2 s", "3 s"]),
        (28.0, ["0 s", "10 s", "20 s"]),
        (400.0, ["0 s", "2:00", "4:00", "6:00"]),
        (9000.0, ["0 s", "1:00:00", "2:00:00"]),
    ],
)
def test_scale_has_round_durations(longest_s: float, labels: list[str]) -> None:
    chart = draw([point(1, longest_s)])
    assert chart is not None
    assert [label for _, label in chart.lines] == labels


def test_what_is_drawn_is_told() -> None:
    chart = draw([point(1, 2.0), point(2, 4.0, state="failed", executed=0, cached=0)])
    assert chart is not None
    assert [bar.told for bar in chart.bars] == [
        "run 1: succeeded in 2.0 s, 75% from the cache",
        "run 2: failed in 4.0 s",
    ]
    assert chart.summary == (
        "1 of the last 2 runs succeeded, half of them took up to 4.0 s, the cache answered 75% of the steps"
    )
