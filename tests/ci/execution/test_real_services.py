"""PostgreSQL, Redis and nginx, as Debian has them, as services of one job: each is told ready in another way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.oci import Healthcheck
from tests.ci.execution.jobshop import JobShop, jobshop

_CHECKOUT = Path(__file__).resolve().parents[3]
_PATH = "PATH=/bin:/usr/bin:/sbin:/usr/sbin:/usr/postgresql"
_SECOND_NS = 10**9


@pytest.fixture(scope="module")
def shop(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[JobShop]:
    """One with the image ``services:1``, which has all three, and is as PostgreSQL's own unless a service says more."""
    made = subprocess.run([_CHECKOUT / "scripts" / "services-rootfs"], stdout=subprocess.PIPE, text=True, check=True)
    check = Healthcheck(test=("CMD-SHELL", "pg_isready -h localhost"), interval_ns=10 * _SECOND_NS)
    with jobshop(tmp_path_factory.mktemp("services"), busybox_tar) as shop:
        shop.bring(
            Path(made.stdout.strip()), "services:1", env=(_PATH, "PGDATA=/var/lib/postgresql/data"), user="postgres",
            entrypoint=(), cmd=("postgres",), exposed_ports={"5432/tcp": {}}, healthcheck=check,
        )  # fmt: skip
        yield shop


def test_a_database_a_store_and_a_web_server_are_ready_when_the_job_begins(shop: JobShop) -> None:
    """By HEALTHCHECK, by port and by command; the first thing that a client asks for is answered."""
    outcome = shop.run(r"""
services:
  db: {image: "services:1", env: {TZ: UTC}}
  store: {image: "services:1", args: [redis-server, --save, "", --protected-mode, "no"], ready: 6379}
  page: {image: "services:1", args: [nginx], ready: "wget -q -O /dev/null localhost:8080"}
jobs:
  test:
    image: services:1
    services: [db, store, page]
    run:
      - echo "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 9); SELECT sum(n) FROM t" >ask
      - psql -h db -U postgres -qAt -f ask
      - redis-cli -h store set greeting hello && redis-cli -h store get greeting
      - wget -q -O - page:8080
""")
    assert (outcome.state, outcome.message) == ("succeeded", ""), shop.last.said
    said = [text for name, (_, text) in shop.last.steps.items() if name.startswith(("psql", "redis", "wget"))]
    assert said == ["45\n", "OK\nhello\n", "served by nginx\n"]
    assert "ready to accept connections" in shop.last.steps["service db"][1]
    assert shop.left() == []


def test_a_database_that_cannot_begin_says_why(shop: JobShop) -> None:
    outcome = shop.run("""
services:
  db: {image: "services:1", args: [postgres, -c, max_connections=none]}
jobs:
  test: {image: "services:1", services: db, run: psql -h db -U postgres}
""")
    assert outcome.state == "failed"
    assert outcome.message.startswith('the service "db" ended with exit code 1 before the job did; its last lines:')
    assert 'invalid value for parameter "max_connections"' in outcome.message
