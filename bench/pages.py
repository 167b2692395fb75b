"""The dashboard: ``python -m bench.pages``. Time to first byte of each page, with 10,000 runs in the database.

One ``shiplap web`` without workers and without Redis, signed in as an administrator over one connection. The database
is SQLite, or the one that ``--database`` names, which has to be empty.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from bench import report
from bench.tools import ToolError, run

BUDGET_S: Final = 0.050

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 60.0
_PASSWORD: Final = "a password for the bench"
_STATES: Final = ("succeeded", "failed", "cancelled", "error")
_STEPS: Final = 40
_PAGES: Final = {
    "home": "/",
    "runs": "/runs",
    "runs, the last page": "/runs?before=40",
    "runs, searched": "/runs?text=no+such+thing",
    "runs, by branch and state": "/runs?branch=branch-7&state=failed",
    "one run": "/runs/{newest}",
    "its tree, polled": "/runs/{newest}/tree?job=1",
    "its strip, polled": "/runs/{newest}/strip?job=1",
    "projects": "/projects",
    "a project": "/projects/app",
    "its trends": "/projects/app/trends?days=365",
    "found by words": "/find?q=no+such+thing",
    "images": "/images",
    "tags": "/images/bench/image",
    "an image": "/images/bench/image/-/latest",
    "a layer's files": "/images/bench/image/-/latest/layers/0",
    "workers": "/workers",
    "disk": "/disk",
    "users": "/users",
    "tokens": "/tokens",
    "audit": "/audit",
    "a project's settings": "/projects/app/settings/builds",
    "service": "/service",
    "its health": "/service/health",
    "the API": "/api",
    "one operation": "/api/put_project",
}


class Browser:
    """One connection, one session."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> tuple[float, str]:
        """Seconds until the answer begins, and its text. Raises ToolError unless it is 200."""
        return self._ask("GET", path, None, 200)

    def sign_in(self, name: str, password: str) -> None:
        """By the form. Raises ToolError."""
        _, page = self.get("/login")
        token = re.search(r'name="_csrf" value="([^"]+)"', page)
        if token is None:
            raise ToolError("the page for signing in has no form")
        self._ask("POST", "/login", urlencode({"name": name, "password": password, "_csrf": token[1]}), 303)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, body: str | None, expected: int) -> tuple[float, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        begin = time.perf_counter()
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        seconds = time.perf_counter() - begin
        text = response.read().decode()
        for line in response.headers.get_all("Set-Cookie") or []:
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        if response.status != expected and response.status != http.HTTPStatus.FOUND:
            raise ToolError(f"{method} {path}: {response.status}\n{text[-2000:]}")
        return seconds, text


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description="Time the dashboard's pages.")
    parser.add_argument("--runs", type=int, default=30, help="samples of each page  [default: 30]")
    parser.add_argument("--rows", type=int, default=10_000, help="runs in the database  [default: 10000]")
    parser.add_argument("--database", default="", help="an empty PostgreSQL database, as a URL  [default: SQLite]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the service keeps its data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="pages-", dir=options.directory))
    try:
        found = _measure(directory, options.runs, options.rows, options.database)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n" + table(found))
    if options.output:
        finished_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        document = {"finished_at": finished_at, "machine": report.machine(), "budget_s": BUDGET_S, "pages": found}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def table(found: dict[str, list[float]]) -> str:
    """A line for each page: median, slowest, and whether it stays under the budget."""
    width = max(map(len, found))
    lines = []
    for title, samples in found.items():
        median = statistics.median(samples)
        verdict = "met" if median < BUDGET_S else "MISSED"
        lines.append(f"{title:<{width}}  {median * 1000:6.1f} ms  up to {max(samples) * 1000:6.1f}  {verdict}")
    return "\n".join([f"time to first byte, under {BUDGET_S * 1000:.0f} ms:", *lines])


def _measure(directory: Path, samples: int, rows: int, database: str) -> dict[str, list[float]]:
    root = directory / "r"
    made = run([_CHECKOUT / "scripts" / "rootfs", "busybox"])
    if database:
        os.environ["SHIPLAP_DATABASE_URL"] = database
    run([*_shiplap(root), "migrate"])
    with _web(root) as url, contextlib.closing(Browser(urlsplit(url).netloc)) as browser:
        _push(root, urlsplit(url).netloc, made.strip())
        newest = _fill(root, url, rows, database)
        subprocess.run(
            [*_shiplap(root), "user", "add", "bench", "--role", "admin", "--password-stdin"],
            input=_PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        browser.sign_in("bench", _PASSWORD)
        found: dict[str, list[float]] = {}
        for title, address in _PAGES.items():
            path = address.format(newest=newest)
            browser.get(path)  # templates are compiled
            found[title] = [browser.get(path)[0] for _ in range(samples)]
        return found


def _fill(root: Path, url: str, rows: int, database: str) -> int:
    """Copies of one run and its job, in all states that a run ends in. Returns the newest one's number."""
    token = (root / "serve" / "admin.token").read_text().strip()
    request = {"source": {"type": "git", "url": "https://git.example.org/team/app.git"}, "project": "app"}
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/runs", json.dumps(request), headers)
        first = int(json.loads(connection.getresponse().read())["number"])
    now = time.time()
    with _tables(root, database) as tables:
        for table in ("runs", "jobs"):
            row = tables.row(table, first)
            tables.insert(table, ({**row, **_facts(first + n, now - 60.0 * (rows - n))} for n in range(1, rows)), row)
        steps = [_step(first + rows - 1, n, now) for n in range(_STEPS)]
        tables.insert("steps", iter(steps), steps[0])
        if database:  # its planner has to learn of the rows before it is asked
            tables.cursor.execute("ANALYSE")
    return first + rows - 1


class _Tables:
    """The tables of a database, through a driver. mark: how its statements name a value."""

    def __init__(self, cursor: Any, mark: str) -> None:
        self.cursor = cursor
        self._mark = mark

    def row(self, table: str, number: int) -> dict[str, Any]:
        """The row with this number."""
        self.cursor.execute(f"SELECT * FROM {table} WHERE number = {number:d}")
        names = [column[0] for column in self.cursor.description]
        return dict(zip(names, self.cursor.fetchone(), strict=True))

    def insert(self, table: str, rows: Iterator[Mapping[str, object]], like: Mapping[str, object]) -> None:
        """Insert rows with the columns that ``like`` has, all but those that they lack."""
        names = ", ".join(f'"{name}"' for name in like)
        marks = ", ".join(self._mark % name for name in like)
        self.cursor.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", ({name: row[name] for name in like} for row in rows)
        )


@contextlib.contextmanager
def _tables(root: Path, database: str) -> Iterator[_Tables]:
    if database:
        import psycopg

        with psycopg.connect(database) as connection, connection.cursor() as cursor:
            yield _Tables(cursor, "%%(%s)s")
        return
    with contextlib.closing(sqlite3.connect(root / "serve" / "service.db", timeout=30)) as opened, opened:
        yield _Tables(opened.cursor(), ":%s")


def _step(job: int, number: int, at: float) -> dict[str, object]:
    return {
        "job": job, "attempt": 1, "step": number, "name": f"[stage-{number // 8} {number % 8 + 1}/8] RUN make {number}",
        "stage": f"stage-{number // 8}", "line": number, "state": "done", "reason": "the file src/main.c changed",
        "started_at": at + number, "duration_s": 1.0, "first_line": number, "last_line": number,
    }  # fmt: skip


def _facts(number: int, at: float) -> dict[str, object]:
    """Of a run, and of its job."""
    trigger = {
        "kind": "push", "by": f"user-{number % 30}", "branch": f"branch-{number % 50}", "commit": f"{number:040x}",
        "title": f"Change number {number} of many to come",
    }  # fmt: skip
    return {
        "number": number, "run": number, "state": _STATES[number % len(_STATES)], "attempt": 1, "worker": "worker-1",
        "created_at": at, "queued_at": at, "started_at": at + 1, "finished_at": at + 40,
        "trigger": json.dumps(trigger, separators=(",", ":")), "branch": trigger["branch"],
        "result": json.dumps({"names": [f"registry/app:{number}"], "executed": 4, "cached": 9}),
    }  # fmt: skip


def _push(root: Path, registry: str, archive: str) -> None:
    name = f"{registry}/bench/image:latest"
    environment = {**os.environ, "DOCKER_CONFIG": str(root.parent / "docker")}
    token = (root / "serve" / "admin.token").read_text()
    run([*_shiplap(root), "image", "import", archive, name])
    login = [*_shiplap(root), "login", "-u", "bench", "--password-stdin", registry]
    subprocess.run(login, input=token, text=True, env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*_shiplap(root), "push", "-q", name], env=environment, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _web(root: Path) -> Iterator[str]:
    """A running web process; its address."""
    environment = {**os.environ, "SHIPLAP_REDIS_URL": f"unix://{root}/none.sock"}
    with (root.parent / "web.log").open("wb") as log:
        command = [*_shiplap(root), "web", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_S
        address = root / "serve" / "url"
        while not address.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolError("the web process did not start:\n" + (root.parent / "web.log").read_text()[-4000:])
            time.sleep(0.05)
        yield address.read_text().strip()
    finally:
        process.terminate()
        process.wait()


def _shiplap(root: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "cli", "--root", str(root)]


if __name__ == "__main__":
    raise SystemExit(main())
