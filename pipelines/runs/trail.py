"""The trail: which commit a run is of, and which image it made; read from either end.

Rows of ``made_images`` are written in the transaction that ends a job, and go with the run. A manifest that several
runs made, from their caches, is the newest one's.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Select, and_, delete, func, insert, select
from sqlalchemy.engine import Connection, Row

from ci.ends import JobOutcome
from core.errors import InvalidReferenceError
from core.references import Reference
from pipelines.database import Database
from pipelines.errors import NotFoundError
from pipelines.model import AnyRunState, Run, RunResult, Trigger
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import jobs, made_images, runs

LEAST_DIGITS: Final = 7
"""Of a commit that is looked up by its beginning."""

_MOST_DIGITS: Final = 64
_MOST_BETWEEN: Final = 500
_triggers: Final = msgspec.json.Decoder(Trigger)


class MadeImage(msgspec.Struct, frozen=True):
    """An image that a job of a run made and pushed.

    job, place: of the job in its run.
    registry: HOST[:PORT]. repository, manifest: there. image: its ID.
    """

    run: int
    place: int
    job: str
    registry: str
    repository: str
    manifest: str
    image: str


class Maker(msgspec.Struct, frozen=True):
    """The newest run that made an image.

    commit: empty where it is not known, as of what people sent.
    at: when it was asked for, in seconds since the epoch.
    others: how many older runs made the same.
    """

    run: int
    project: str
    state: AnyRunState
    commit: str
    trigger: Trigger
    at: float
    registry: str
    repository: str
    manifest: str
    image: str
    others: int = 0


class CommitSeen(NamedTuple):
    """A commit that a run was of. run: the first such run."""

    commit: str
    title: str
    by: str
    run: int


def note_made(connection: Connection, run: int, job: int, result: RunResult | JobOutcome) -> None:
    """Write down what image a job made, in the transaction that ends it; nothing where it made none."""
    if isinstance(result, RunResult):
        names, manifest, image = result.names, result.manifest, result.image
    else:
        names, manifest, image = (result.exports.get("IMAGE", ""),), result.exports.get("DIGEST", ""), result.image
    places = dict.fromkeys(_places(names)) if manifest and image else {}
    connection.execute(delete(made_images).where(made_images.c.job == job))
    rows = [
        {"job": job, "registry": registry, "repository": path, "run": run, "manifest": manifest, "image": image}
        for registry, path in places
    ]
    if rows:
        connection.execute(insert(made_images), rows)


def line_of(trigger: Trigger) -> tuple[str, int]:
    """Where a run's commit follows others: a branch and 0. A fork has branches of its own: with its pull request."""
    return trigger.branch, trigger.pull_request if trigger.fork else 0


class Trails:
    """Where commits, runs and images lead to. Thread-safe. projects: None for all, else only these count."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit_of(self, run: int) -> str:
        """The commit that a run is of; empty: unknown, or none."""
        with self._database.read() as connection:
            return connection.execute(select(runs.c.commit).where(runs.c.number == run)).scalar() or ""

    def images_of(self, numbers: Collection[int]) -> dict[int, list[MadeImage]]:
        """The images that these runs made, by run, in the order of their jobs."""
        wanted = select(made_images, jobs.c.place, jobs.c.name).join(jobs, jobs.c.number == made_images.c.job)
        wanted = wanted.where(made_images.c.run.in_(numbers)).order_by(made_images.c.run, jobs.c.place)
        found: dict[int, list[MadeImage]] = {}
        with self._database.read() as connection:
            for row in connection.execute(wanted.order_by(made_images.c.repository)):
                its = MadeImage(row.run, row.place, row.name, row.registry, row.repository, row.manifest, row.image)
                found.setdefault(row.run, []).append(its)
        return found

    def makers(
        self,
        repository: str,
        manifests: Collection[str],
        registries: Collection[str],
        projects: Collection[str] | None = None,
    ) -> dict[str, Maker]:
        """By manifest the newest run that pushed it there. registries: the names of the one that is asked about."""
        its = and_(
            made_images.c.repository == repository,
            made_images.c.manifest.in_(manifests),
            made_images.c.registry.in_(registries),
        )
        with self._database.read() as connection:
            return {maker.manifest: maker for maker in _newest(connection, made_images.c.manifest, its, projects)}

    def makers_of_images(
        self, images: Collection[str], registries: Collection[str], projects: Collection[str] | None = None
    ) -> dict[str, Maker]:
        """By an image's ID the newest run that made it: for containers, which know nothing else of it."""
        its = and_(made_images.c.image.in_(images), made_images.c.registry.in_(registries))
        with self._database.read() as connection:
            wanted = {row.image: row.number for row in connection.execute(_last(made_images.c.image, its, projects))}
            found = {(maker.run, maker.image): maker for maker in _makers(connection, its, wanted.values())}
        return {image: found[number, image] for image, number in wanted.items() if (number, image) in found}

    def made_before(self, maker: Maker, registries: Collection[str]) -> Maker | None:
        """The newest run of the same branch before this one that pushed another image to the same repository."""
        its = and_(made_images.c.repository == maker.repository, made_images.c.registry.in_(registries))
        wanted = (
            select(made_images.c.run)
            .join(runs, runs.c.number == made_images.c.run)
            .where(
                its,
                made_images.c.manifest != maker.manifest,
                runs.c.number < maker.run,
                runs.c.project == maker.project,
                runs.c.branch == maker.trigger.branch,
            )
            .order_by(runs.c.number.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            number = connection.execute(wanted).scalar()
            return None if number is None else next(_makers(connection, its, [number]), None)

    def commit(self, project: str, text: str) -> str:
        """The full id of a commit that runs of the project are of, by its beginning. Raises NotFoundError."""
        is_one = LEAST_DIGITS <= len(text) <= _MOST_DIGITS and set(text) <= set(string.hexdigits)
        begin = text.lower()
        wanted = select(runs.c.commit).where(
            runs.c.project == project, runs.c.commit >= begin, runs.c.commit < begin + "g"
        )
        found: list[str] = []
        if is_one:
            with self._database.read() as connection:
                found = list(connection.execute(wanted.distinct().limit(2)).scalars())
        if len(found) != 1 and begin not in found:
            several = "several commits begin so" if found else f"no run of {project} is of it"
            raise NotFoundError(f"there is no commit {text[:_MOST_DIGITS]!r} here: {several}")
        return begin if begin in found else found[0]

    def runs_of(self, project: str, commit: str, *, before: int | None = None, limit: int) -> list[Run]:
        """The runs of a commit, the newest first. before: only smaller numbers."""
        wanted = select_runs().where(runs.c.project == project, runs.c.commit == commit)
        if before is not None:
            wanted = wanted.where(runs.c.number < before)
        with self._database.read() as connection:
            return [run_from_row(row) for row in connection.execute(wanted.order_by(runs.c.number.desc()).limit(limit))]

    def between(self, project: str, of: Trigger, older: int, newer: int) -> Sequence[CommitSeen]:
        """The commits of one line that had runs after one run, up to another's: the newest first, 500 at most.

        of: a trigger whose branch, or pull request, is meant, see ``line_of``.
        """
        wanted = (
            select(runs.c.number, runs.c.commit, runs.c.trigger)
            .where(runs.c.project == project, runs.c.branch == of.branch, runs.c.number > older, runs.c.number <= newer)
            .order_by(runs.c.number.desc())
            .limit(_MOST_BETWEEN)
        )
        found: dict[str, CommitSeen] = {}
        with self._database.read() as connection:
            base = connection.execute(select(runs.c.commit).where(runs.c.number == older)).scalar() or ""
            for row in connection.execute(wanted):
                trigger = _triggers.decode(row.trigger)
                if row.commit and row.commit != base and line_of(trigger) == line_of(of):
                    found[row.commit] = CommitSeen(row.commit, trigger.title, trigger.by, row.number)
        return tuple(found.values())


def _places(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Registry and repository of each name that can be a name at all."""
    for name in names:
        try:
            found = Reference.parse(name)
        except InvalidReferenceError:  # a digest alone: the image has no name
            continue
        yield found.domain, found.path


def _last(column: Any, its: Any, projects: Collection[str] | None) -> Select[Any]:
    """The newest run for each value of a column of ``made_images``."""
    wanted = select(column, func.max(made_images.c.run).label("number")).where(its).group_by(column)
    if projects is not None:
        wanted = wanted.join(runs, runs.c.number == made_images.c.run).where(runs.c.project.in_(projects))
    return wanted


def _newest(connection: Connection, column: Any, its: Any, projects: Collection[str] | None) -> Iterator[Maker]:
    last = connection.execute(_last(column, its, projects)).all()
    if not last:
        return
    counts = select(column, func.count(func.distinct(made_images.c.run)).label("times")).where(its).group_by(column)
    if projects is not None:
        counts = counts.join(runs, runs.c.number == made_images.c.run).where(runs.c.project.in_(projects))
    times: dict[str, int] = {row[0]: row.times for row in connection.execute(counts)}
    newest = {row[0]: row.number for row in last}
    for maker in _makers(connection, its, newest.values()):
        if newest.get(maker.manifest) == maker.run:
            yield msgspec.structs.replace(maker, others=times[maker.manifest] - 1)


def _makers(connection: Connection, its: Any, numbers: Collection[int]) -> Iterator[Maker]:
    columns = (runs.c.number, runs.c.project, runs.c.state, runs.c.commit, runs.c.trigger, runs.c.created_at)
    wanted = select(made_images, *columns).join(runs, runs.c.number == made_images.c.run)
    for row in connection.execute(wanted.where(its, runs.c.number.in_(numbers))):
        yield _maker(row)


def _maker(row: Row[Any]) -> Maker:
    return Maker(
        row.number, row.project, row.state, row.commit, _triggers.decode(row.trigger), row.created_at,
        row.registry, row.repository, row.manifest, row.image,
    )  # fmt: skip
