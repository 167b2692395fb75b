"""Times as cron writes them: what fields mean, summer time, and what is none."""

from __future__ import annotations

import datetime
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.cron import CronError, next_times, parse_cron, zone_of

UTC = zone_of("UTC")


def times(text: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    """The next times, as a clock on the wall in the zone shows them, with the offset."""
    where = zone_of(zone)
    start = datetime.datetime.fromisoformat(after).replace(tzinfo=where).timestamp()
    found = islice(next_times(parse_cron(text), where, start), count)
    return [datetime.datetime.fromtimestamp(moment, where).strftime("%a %m-%d %H:%M %z") for moment in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * 1-5", ["Fri 11-27 03:00 +0000", "Mon 11-30 03:00 +0000", "Tue 12-01 03:00 +0000"]),
        ("*/20 8,20 * * *", ["Thu 11-26 20:00 +0000", "Thu 11-26 20:20 +0000", "Thu 11-26 20:40 +0000"]),
        ("5/25 0 * * *", ["Fri 11-27 00:05 +0000", "Fri 11-27 00:30 +0000", "Fri 11-27 00:55 +0000"]),
        ("0 0 1 jan,JUL *", ["Fri 01-01 00:00 +0000", "Thu 07-01 00:00 +0000", "Sat 01-01 00:00 +0000"]),
        ("0 0 13 * fri", ["Fri 11-27 00:00 +0000", "Fri 12-04 00:00 +0000", "Fri 12-11 00:00 +0000"]),
        ("0 0 * * 7", ["Sun 11-29 00:00 +0000", "Sun 12-06 00:00 +0000", "Sun 12-13 00:00 +0000"]),
        ("30 12 31 * *", ["Thu 12-31 12:30 +0000", "Sun 01-31 12:30 +0000", "Wed 03-31 12:30 +0000"]),
        ("0 0 29 2 *", ["Tue 02-29 00:00 +0000", "Sun 02-29 00:00 +0000", "Fri 02-29 00:00 +0000"]),
        ("0 0 */10 * *", ["Tue 12-01 00:00 +0000", "Fri 12-11 00:00 +0000", "Mon 12-21 00:00 +0000"]),
    ],
)
def test_fields_mean_what_they_mean_everywhere(text: str, expected: list[str]) -> None:
    assert times(text, "2026-11-26T12:00", 3) == expected


def test_either_day_is_enough_where_both_are_named() -> None:
    assert times("0 0 1 * mon", "2026-11-26T12:00", 3) == [
        "Mon 11-30 00:00 +0000", "Tue 12-01 00:00 +0000", "Mon 12-07 00:00 +0000",
    ]  # fmt: skip


def test_what_summer_time_skips_happens_right_after() -> None:
    """In Berlin the clock goes from 02:00 to 03:00 on 29 March 2026; in Lord Howe by half an hour."""
    assert times("30 2 * * *", "2026-03-28T12:00", 2, "Europe/Berlin") == [
        "Sun 03-29 03:00 +0200", "Mon 03-30 02:30 +0200",
    ]  # fmt: skip
    assert times("0,15,45 2 * * *", "2026-03-29T00:00", 2, "Europe/Berlin") == [
        "Sun 03-29 03:00 +0200", "Mon 03-30 02:00 +0200",
    ]  # fmt: skip
    assert times("10 2 * * *", "2026-10-03T12:00", 1, "Australia/Lord_Howe") == ["Sun 10-04 02:30 +1100"]


def test_what_summer_time_repeats_happens_once() -> None:
    assert times("30 2 * * *", "2026-10-24T12:00", 2, "Europe/Berlin") == [
        "Sun 10-25 02:30 +0200", "Mon 10-26 02:30 +0100",
    ]  # fmt: skip


def test_what_is_wanted_every_hour_goes_by_hours_that_pass() -> None:
    assert times("30 * * * *", "2026-03-29T01:00", 3, "Europe/Berlin") == [
        "Sun 03-29 01:30 +0100", "Sun 03-29 03:30 +0200", "Sun 03-29 04:30 +0200",
    ]  # fmt: skip
    assert times("0 */1 * * *", "2026-10-25T01:30", 4, "Europe/Berlin") == [
        "Sun 10-25 02:00 +0200", "Sun 10-25 02:00 +0100", "Sun 10-25 03:00 +0100", "Sun 10-25 04:00 +0100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "five fields"), ("0 3 * *", "five fields"), ("0 3 * * * *", "five fields"), ("@daily", "five fields"),
        ("60 * * * *", "'60' is no minute: from 0 to 59"), ("0 24 * * *", "no hour"), ("0 0 0 * *", "day of the month"),
        ("0 0 * 13 *", "or jan to dec"), ("0 0 * * 8", "or sun to sat"), ("0 0 * * friday", "no day of the week"),
        ("5-1 * * * *", "ends before it begins"), ("*/0 * * * *", "a step is from 1 to 59"),
        ("-1 * * * *", "is no minute"),
        ("1,,2 * * * *", "'' is no minute"), ("١ * * * *", "is no minute"), ("0 0 30 2 *", "never happen"),
        ("0 0 31 4,6,9,11 *", "never happen"), ("0 0 L * *", "no day of the month"), ("0 " * 200, "five fields"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_said_to_be_none(text: str, why: str) -> None:
    with pytest.raises(CronError, match=why):
        parse_cron(text)


@pytest.mark.parametrize("name", ["", "Nowhere/City", "../etc/passwd", "/etc/localtime", "a\0b", "x" * 5000])
def test_zone_is_one_that_there_is(name: str) -> None:
    with pytest.raises(CronError, match="no such time zone"):
        zone_of(name)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 59), min_size=1, max_size=3),
    st.lists(st.integers(0, 23), min_size=1, max_size=3),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
    st.integers(1_700_000_000, 1_900_000_000),
)
def test_each_day_has_each_time_once(minutes: list[int], hours: list[int], zone: str, after: int) -> None:
    text = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
    where, wanted = zone_of(zone), {(hour, minute) for hour in hours for minute in minutes}
    found = list(islice(next_times(parse_cron(text), where, after), 40))
    assert all(after < first < second for first, second in pairwise(found))
    by_day: dict[datetime.date, set[tuple[int, int]]] = {}
    for moment in found:
        shown = datetime.datetime.fromtimestamp(moment, where)
        assert (shown.hour, shown.minute) not in by_day.setdefault(shown.date(), set())
        by_day[shown.date()].add((shown.hour, shown.minute))
    whole = list(by_day.values())[1:-1]
    assert all(day == wanted or len(day) <= len(wanted) for day in whole)
    assert any(day == wanted for day in whole) or len(whole) < 2
