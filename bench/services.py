"""A job with PostgreSQL beside it: ``python -m bench.services``. What it waits for beyond PostgreSQL's own start.

PostgreSQL is this machine's, on a cluster that is there. Its own start is timed in a job that starts it by itself and
asks ``pg_isready`` again and again. Beside a job it is a service, ready by the HEALTHCHECK of its image: from the line
that tells of its start to the first line of the job. Each round has one of either.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, measure
from bench.pipeline import Repository
from bench.tools import services_rootfs

_IMAGE: Final = "bench-services"
_DOCKERFILE: Final = f"""FROM {_IMAGE}
ENV PATH=/bin:/usr/bin:/usr/postgresql PGDATA=/var/lib/postgresql/data
USER postgres
EXPOSE 5432
HEALTHCHECK CMD pg_isready -q -h localhost
CMD ["postgres"]
"""
_BEGINS, _READY, _BEGUN = "PostgreSQL begins", "PostgreSQL is ready", "the job has begun"
_PIPELINE: Final = f"""
services:
  db: {{image: {{build: database}}}}
jobs:
  own:
    image: {{build: database}}
    user: postgres
    run: |
      echo {_BEGINS}
      postgres >/dev/null 2>&1 &
      until pg_isready -q -h localhost; do usleep 10000; done
      echo {_READY}
  beside:
    needs: own
    image: {{build: database}}
    services: db
    run: echo {_BEGUN}
"""


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.services", description="Time a job with PostgreSQL.")
    parser.add_argument("--runs", type=int, default=5, help="samples of each figure  [default: 5]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all data is kept")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    return measure(
        lambda directory: list(_measure(directory / "services", options.runs)),
        below=options.directory, prefix="services-", output=options.output,
    )  # fmt: skip


def _measure(directory: Path, runs: int) -> Iterator[Figure]:
    repository = Repository(directory, 1, "jobs: {}\n")
    repository.shiplap.add_image(services_rootfs(), _IMAGE)
    (repository.path / "database").mkdir()
    (repository.path / "database" / "Dockerfile").write_text(_DOCKERFILE)
    repository.pipeline(_PIPELINE)
    wanted = (f"own | {_BEGINS}", f"own | {_READY}", "beside | => service db", f"beside | {_BEGUN}")
    repository.seen_at(*wanted)  # builds the image
    own, beyond = [], []
    for _ in range(runs):
        begins, ready, started, begun = repository.seen_at(*wanted)
        own.append(ready - begins)
        beyond.append(begun - started - own[-1])
    yield figure("postgres", "PostgreSQL's own start", own, None)
    yield figure("beyond", "a job with it beside: to its first line, beyond that", beyond, 0.5)


if __name__ == "__main__":
    raise SystemExit(main())
