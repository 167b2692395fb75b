"""Times as cron writes them: five fields, in a time zone. Pure.

A time of day means what a clock on the wall shows. Where summer time begins, what the clock skips happens right after;
where it ends, what the clock shows twice happens once, the first time. Only what is wanted every hour (``*`` or ``*/N``
for the hour) goes by the hours that pass: it is neither made up for nor left out.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART: Final = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d{1,3}))?", re.ASCII)
_MOST_DAYS: Final = 366 * 9  # 29 February: 1896 and 1904 are the next to each other
_MOST_CHARACTERS: Final = 200


class _Field(NamedTuple):
    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


class CronError(ValueError):
    """A text that is no such time; its message says why."""


class Cron(NamedTuple):
    """When something is wanted.

    days: of the month. weekdays: 0 is Sunday.
    has_days, has_weekdays: whether the field says anything; where both do, either is enough, as everywhere.
    is_hourly: the hours say no time of the day.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    has_days: bool
    has_weekdays: bool
    is_hourly: bool

    def means(self, day: datetime.date) -> bool:
        """Whether something is wanted on a day."""
        if day.month not in self.months:
            return False
        is_day, is_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return is_day or is_weekday if self.has_days and self.has_weekdays else is_day and is_weekday


def parse_cron(text: str) -> Cron:
    """Raises CronError, also for what never happens."""
    parts = text.split() if len(text) <= _MOST_CHARACTERS else []
    if len(parts) != len(_FIELDS):
        raise CronError("a time has five fields: minute, hour, day of the month, month, day of the week")
    minutes, hours, days, months, weekdays = (
        _numbers(part.lower(), field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    found = Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(day % 7 for day in weekdays),
        has_days=not parts[2].startswith("*"),
        has_weekdays=not parts[4].startswith("*"),
        is_hourly=parts[1].startswith("*"),
    )
    if not (found.has_days and found.has_weekdays) and all(
        _LONGEST[month - 1] < min(found.days) for month in found.months
    ):
        raise CronError("there is no such day in these months: it would never happen")
    return found


def zone_of(name: str) -> ZoneInfo:
    """Raises CronError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CronError("no such time zone; its name is one like Europe/Berlin, or UTC") from error


def next_times(cron: Cron, zone: ZoneInfo, after: float) -> Iterator[float]:
    """The moments after a moment, in seconds since the epoch, in order. It ends when there are no more for years."""
    day = datetime.datetime.fromtimestamp(after, zone).date()
    last, idle_days = after, 0
    while idle_days < _MOST_DAYS:
        idle_days += 1
        if cron.means(day):
            idle_days = 0
            for moment in sorted(set(_moments(cron, zone, day))):
                if moment > last:
                    last = moment
                    yield moment
        try:
            day += datetime.timedelta(days=1)
        except OverflowError:
            return


def _moments(cron: Cron, zone: ZoneInfo, day: datetime.date) -> Iterator[float]:
    for hour in cron.hours:
        for minute in cron.minutes:
            shown = datetime.datetime.combine(day, datetime.time(hour, minute))
            first = shown.replace(tzinfo=zone)
            is_shown = _is_shown(first, zone)
            if cron.is_hourly:
                for either in (first, first.replace(fold=1)):
                    if is_shown:
                        yield either.timestamp()
            else:
                yield first.timestamp() if is_shown else _after_the_gap(first, zone)


def _is_shown(moment: datetime.datetime, zone: ZoneInfo) -> bool:
    """Whether a clock on the wall ever shows it."""
    back = datetime.datetime.fromtimestamp(moment.timestamp(), zone)
    return back.replace(tzinfo=None, fold=0) == moment.replace(tzinfo=None, fold=0)


def _after_the_gap(moment: datetime.datetime, zone: ZoneInfo) -> float:
    """When the clock goes on that skips this."""
    before, after = moment.replace(fold=1).timestamp(), moment.timestamp()
    offset = datetime.datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _numbers(part: str, field: _Field) -> set[int]:
    found: set[int] = set()
    for piece in part.split(","):
        match = _PART.fullmatch(piece)
        if match is None:
            raise CronError(f"{piece!r} is no {field.name}: a number, a range such as 1-5, *, or one of these with /N")
        star, start, end, step = match.groups()
        first, last = (field.first, field.last) if star else (_number(start, field), _number(end or start, field))
        if step and not star and not end:  # 5/15 is 5-59/15, as everywhere
            last = field.last
        if first > last:
            raise CronError(f"{piece!r} ends before it begins")
        if step and not 0 < int(step) <= field.last:
            raise CronError(f"{piece!r}: a step is from 1 to {field.last}")
        if star and field.name == "day of the week":
            last = 6
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str, field: _Field) -> int:
    if text in field.names:
        return field.names.index(text) + field.first
    if not text.isdigit() or not field.first <= int(text) <= field.last:
        hint = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
        raise CronError(f"{text!r} is no {field.name}: from {field.first} to {field.last}{hint}")
    return int(text)
