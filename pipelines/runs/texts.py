"""What people look for runs by, as one text a run, and the index over its grams: some characters in a row each.

A run's text is written in the transaction that writes the run. The database keeps the index right by itself: SQLite by
triggers and a table of FTS5 (``run_grams``), which has grams of three, PostgreSQL by a GIN index over
``shiplap_grams(text)``, a function that needs no extension and has those of one and two, too. The index names runs that
may have a text; whether they do is looked up in ``run_texts``. See
docs/decisions/0052-runs-are-found-by-grams-in-the-database.md.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, column, func, insert, literal, select, table
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from pipelines.model import BuildOptions, ContextSource, Source, Trigger
from pipelines.schema import run_texts, runs

_NEAR: Final = 500
"""So many of the newest runs are looked through without the index: what many runs have is found there at once."""

_GRAM: Final = 3
_GRAMS: Final = 16  # of what is looked for; what else it has is compared
_LONGEST_PART: Final = 4_000
_LONGEST_TEXT: Final = 16_000
_LONGEST_NAME: Final = 200
_BY, _END = "\x01", "\x02"

_run_grams: Final = table("run_grams", column("rowid", Integer), column("run_grams"))


def note_text(
    connection: Connection, number: int, project: str, source: Source, trigger: Trigger, options: BuildOptions
) -> None:
    """Write down what a new run is found by."""
    text = text_of(project, source, trigger, options)
    connection.execute(insert(run_texts).values(run=number, text=text))


def text_of(project: str, source: Source, trigger: Trigger, options: BuildOptions) -> str:
    """All that a run is found by: who started it, then its other parts, a line each.

    Parts that are longer than 4,000 characters are cut, and so is a text above 16,000.
    """
    came_from: tuple[str, ...] = (source.context,) if isinstance(source, ContextSource) else (
        source.url, source.ref, source.subdirectory, source.branch, source.tag, source.commit,
    )  # fmt: skip
    parts = (
        project, trigger.title, trigger.branch, trigger.tag, trigger.commit, trigger.target, trigger.pipeline,
        trigger.author, trigger.url, *came_from, *options.tags,
    )  # fmt: skip
    lines = dict.fromkeys(folded(part[:_LONGEST_PART]) for part in parts if part)
    return "\n".join((_person(trigger.by), *lines))[:_LONGEST_TEXT]


def folded(text: str) -> str:
    """A text as it is kept and compared: without regard to case, controls as spaces, marks of direction left out."""
    kinds = ((each, unicodedata.category(each)) for each in text)
    plain = "".join(" " if kind == "Cc" else each for each, kind in kinds if kind != "Cf")
    return unicodedata.normalize("NFC", plain.casefold())


def by_whom(name: str) -> str:
    """What is in the texts of all runs that somebody of this name started, in whatever case."""
    return _person(name)


def by_who_begins(name: str) -> str:
    """What is in the texts of all runs that somebody started whose name begins so."""
    return _person(name).removesuffix(_END)


def numbers_with(
    connection: Connection,
    needles: Sequence[str],
    wanted: Sequence[ColumnElement[bool]],
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int,
) -> list[int]:
    """The numbers of runs that have all of these in their texts: the newest, or the oldest ``after`` one.

    needles: as ``folded``, ``by_whom`` and ``by_who_begins`` return them; none: all runs.
    wanted: conditions on ``runs``.
    before, after: only smaller numbers, only greater ones.
    """
    upward = after is not None and before is None
    number = runs.c.number
    conditions = [*wanted, *_between(number, after, before)]
    order = number if upward else number.desc()
    if not needles:
        return list(connection.scalars(select(number).where(*conditions).order_by(order).limit(limit)))
    near = select(number.label("run")).where(*conditions).order_by(order).limit(_NEAR).subquery()
    ends = select(func.count(), func.min(near.c.run), func.max(near.c.run)).select_from(near)
    count, lowest, highest = connection.execute(ends).one()
    has = has_all(connection, needles)
    nearest = select(near.c.run).join(run_texts, run_texts.c.run == near.c.run).where(has)
    found = list(connection.scalars(nearest.order_by(near.c.run if upward else near.c.run.desc()).limit(limit)))
    if len(found) >= limit or count < _NEAR:
        return found
    beyond = (highest, before) if upward else (after, lowest)
    far = _indexed(connection, needles, has, beyond, wanted, is_upward=upward)
    return [*found, *connection.scalars(far.limit(limit - len(found)))]


def has_all(connection: Connection, needles: Sequence[str]) -> ColumnElement[bool]:
    """Whether a row of ``run_texts`` has all of these in its text."""
    found = func.instr if connection.dialect.name == "sqlite" else func.strpos
    return and_(*(found(run_texts.c.text, needle) > 0 for needle in needles))


def _indexed(
    connection: Connection,
    needles: Sequence[str],
    has: ColumnElement[bool],
    between: tuple[int | None, int | None],
    wanted: Sequence[ColumnElement[bool]],
    *,
    is_upward: bool,
) -> Select[Any]:
    """The numbers of runs by the index; where no needle is long enough for it, by all texts."""
    is_sqlite = connection.dialect.name == "sqlite"
    shortest = _GRAM if is_sqlite else 1
    grams = list(dict.fromkeys(gram for needle in needles if len(needle) >= shortest for gram in _grams(needle)))
    texts = run_texts.c
    number: ColumnElement[int] = texts.run
    chosen = [has, *wanted]
    if grams and is_sqlite:
        asked = " AND ".join('"{}"'.format(gram.replace('"', '""')) for gram in grams)
        number = _run_grams.c.rowid
        # With something added a row's ID is no key to look up by: SQLite has to begin with what matches, and not ask of
        # each run whether it does.
        its: ColumnElement[int] = _run_grams.c.rowid + 0
        chosen = [_run_grams.c.run_grams.op("MATCH", is_comparison=True)(asked), texts.run == its, *chosen]
        chosen.append(runs.c.number == its)
    else:
        chosen.append(runs.c.number == texts.run)
    if grams and not is_sqlite:
        chosen.append(func.shiplap_grams(texts.text).op("@>", is_comparison=True)(literal(grams, ARRAY(Text))))
    chosen.extend(_between(number, *between))
    return select(number).where(*chosen).order_by(number if is_upward else number.desc())


def _between(number: ColumnElement[int], above: int | None, below: int | None) -> list[ColumnElement[bool]]:
    found = [] if above is None else [number > above]
    return found if below is None else [*found, number < below]


def _grams(needle: str) -> Iterator[str]:
    """Some of a needle's grams, evenly spread; a short needle is one itself."""
    last = max(0, len(needle) - _GRAM)
    step = max(1, -(-last // _GRAMS))
    for begin in range(0, last + 1, step):
        yield needle[begin : begin + _GRAM]


def _person(name: str) -> str:
    return f"{_BY}{folded(name)[:_LONGEST_NAME]}{_END}" if name else ""
