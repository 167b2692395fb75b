"""The dashboard: ``python -m bench.pages``. Time to first byte of each page, with 10,000 runs in the database.

Two further projects have 100 runs of 5,000 tests each: in one of them one test of a hundred fails, in the other all, of
which the history has 1,000 a run. The registry's
catalog and the page of images are timed before 10,000 runs have left outputs in the registry, then beside these, and
when half of them are collected.

One ``shiplap web`` without workers and without Redis, signed in as an administrator over one connection. The database
is SQLite, or the one that ``--database`` names, which has to be empty.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from bench import filling, load, report
from bench.tools import ToolError, run
from core.settings import ServiceSettings
from images.store import Store
from pipelines.database import Database
from pipelines.keeping.outputs import collect_outputs
from registry.server.collect import collect
from registry.server.registry import Registry
from registry.server.settings import ServerSettings

BUDGET_S: Final = 0.050
RATE_BUDGET: Final = 900.0
"""Of requests of the API a second, on two cores, which who asks has a part of."""

AS_BEFORE: Final = 1.25
NOTHING_S: Final = 0.001
"""What takes less than so many times as long as before, or so much longer, takes as long as before."""

_BUDGETS_S: Final = {"metrics": 0.005}
"""Of pages that have one of their own, in seconds."""

_BEFORE: Final = ", before"
_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 60.0
_PASSWORD: Final = "a password for the bench"
_REPORTS: Final = 5
_RATES: Final = 5
_PAGES: Final = {
    "home": "/",
    "runs": "/runs",
    "runs, the last page": "/runs?before=40",
    "runs, searched": "/runs?text=no+such+thing",
    "runs, searched for what all have": "/runs?text=of+many",
    "runs, searched for an old one": "/runs?text=number+77+of",
    "runs, searched for two letters": "/runs?text=zq",
    "runs, by nobody": "/runs?by=nobody",
    "runs, by branch, none": "/runs?branch=branch-7&state=active",
    "runs, by project, none": "/runs?project=app&state=blocked",
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
    "metrics": "/metrics",
    "the API": "/api",
    "one operation": "/api/put_project",
}
_OF_TESTS: Final = {
    "tests of a project": "/projects/{project}/tests",
    "tests of a project, API": "/api/v1/projects/{project}/tests",
    "flaky tests, API": "/api/v1/projects/{project}/tests?flaky=1",
    "tests of a job": "/runs/{number}/jobs/1/tests",
    "page of the project": "/projects/{project}",
}
_OF_PROJECTS: Final = {filling.TESTED: "some fail", filling.BROKEN: "all fail"}
_OF_IMAGES: Final = {"the catalog": "/v2/_catalog", "images": "/images"}


class Browser:
    """One connection, one session."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)
        self._cookies: dict[str, str] = {}

    def get(self, path: str, authorization: str = "") -> tuple[float, str]:
        """Seconds until the answer begins, and its text. Raises ToolError unless it is 200.

        authorization: for a program that asks, which has no session.
        """
        return self._ask("GET", path, None, 200, authorization)

    def sign_in(self, name: str, password: str) -> None:
        """By the form. Raises ToolError."""
        _, page = self.get("/login")
        token = re.search(r'name="_csrf" value="([^"]+)"', page)
        if token is None:
            raise ToolError("the page for signing in has no form")
        self._ask("POST", "/login", urlencode({"name": name, "password": password, "_csrf": token[1]}), 303)

    def close(self) -> None:
        self._connection.close()

    def _ask(
        self, method: str, path: str, body: str | None, expected: int, authorization: str = ""
    ) -> tuple[float, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if authorization:
            headers = {"Authorization": authorization}
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
    parser.add_argument("--cases", type=int, default=5_000, help="tests of a run that has some  [default: 5000]")
    parser.add_argument("--outputs", type=int, default=10_000, help="runs with outputs, of these  [default: 10000]")
    parser.add_argument("--database", default="", help="an empty PostgreSQL database, as a URL  [default: SQLite]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the service keeps its data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="pages-", dir=options.directory))
    try:
        found, rates = _measure(directory, options)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n" + table(found))
    verdict = "met" if statistics.median(rates) >= RATE_BUDGET else "MISSED"
    print(f"API, requests for one run: {statistics.median(rates):.0f} a second, at least {RATE_BUDGET:.0f}: {verdict}")
    if options.output:
        finished_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        document = {"finished_at": finished_at, "machine": report.machine(), "budget_s": BUDGET_S, "pages": found}
        document["requests_per_s"] = rates
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def table(found: dict[str, list[float]]) -> str:
    """A line for each page: median, slowest, and whether it stays under the budget."""
    width = max(map(len, found))
    lines = []
    for title, samples in found.items():
        median = statistics.median(samples)
        verdict = "met" if median < _BUDGETS_S.get(title, BUDGET_S) else "MISSED"
        before = found.get(f"{title.rpartition(', ')[0]}{_BEFORE}", samples)
        if before is not samples:
            was = statistics.median(before)
            is_same = median < was * AS_BEFORE or median < was + NOTHING_S
            verdict += f"  {median / was:.2f} × before: {'met' if is_same else 'MISSED'}"
        lines.append(f"{title:<{width}}  {median * 1000:6.1f} ms  up to {max(samples) * 1000:6.1f}  {verdict}")
    return "\n".join([f"time to first byte, under {BUDGET_S * 1000:.0f} ms:", *lines])


def _measure(directory: Path, options: argparse.Namespace) -> tuple[dict[str, list[float]], list[float]]:
    """The times of pages, and how many requests of the API were answered a second."""
    root, database = directory / "r", str(options.database)
    made = run([_CHECKOUT / "scripts" / "rootfs", "busybox"])
    if database:
        os.environ["SHIPLAP_DATABASE_URL"] = database
    run([*_shiplap(root), "migrate"])
    with _web(root) as url, contextlib.closing(Browser(urlsplit(url).netloc)) as browser:
        _push(root, urlsplit(url).netloc, made.strip())
        first = _first_run(root, url)
        with filling.tables(root, database) as tables:
            newest = filling.add_runs(tables, first, options.rows, time.time())
        subprocess.run(
            [*_shiplap(root), "user", "add", "bench", "--role", "admin", "--password-stdin"],
            input=_PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        browser.sign_in("bench", _PASSWORD)
        measuring = _Measuring(root, browser, options.runs)
        measuring.pages(_PAGES, newest=newest)
        rates = [measuring.rate(urlsplit(url).netloc, f"/api/v1/runs/{newest}") for _ in range(_RATES)]
        with filling.tables(root, database) as tables:
            last = filling.add_reports(tables, first, options.cases, time.time())
        for project, what in _OF_PROJECTS.items():
            number = last - (filling.REPORTED if project == filling.TESTED else 0)
            measuring.pages(_OF_TESTS, f", {what}", project=project, number=number)
            _after_reports(measuring, first, project, what, options)
        measuring.pages(_OF_IMAGES, _BEFORE)
        now = time.time()
        with filling.tables(root, database) as tables:
            filling.add_outputs(tables, root, first, min(options.outputs, options.rows), now)
        measuring.pages(_OF_IMAGES, ", with outputs")
        _collect(root, now + filling.HALF_UNTIL_S + 1)
        measuring.pages(_OF_IMAGES, ", half of them collected")
        return measuring.found, rates


def _after_reports(measuring: _Measuring, first: int, project: str, what: str, options: argparse.Namespace) -> None:
    """The first look after the service has kept a report."""
    root, address = measuring.root, _OF_TESTS["tests of a project, API"].format(project=project)
    looked = measuring.found[f"tests of a project, API, after a report, {what}"] = []
    with contextlib.closing(Database.open(ServiceSettings.from_environ(root=str(root)))) as database:
        for number in range(1 + min(_REPORTS, options.runs)):
            with filling.tables(root, options.database) as tables:
                run = filling.add_run(tables, first, project, time.time())
            filling.report(database, run, options.cases, time.time())
            if number:  # before the first one there are only the rows that were written past the service
                looked.append(measuring.once(address))


class _Measuring:
    """Asks for pages, as the signed-in user, and for what programs ask for, with the administrator's token."""

    def __init__(self, root: Path, browser: Browser, samples: int) -> None:
        self.root = root
        self.found: dict[str, list[float]] = {}
        self._browser = browser
        self._samples = samples
        self._token = (root / "serve" / "admin.token").read_text().strip()

    def pages(self, addresses: Mapping[str, str], suffix: str = "", **values: object) -> None:
        """Add the times of these addresses to what was found. values: that are in them."""
        for title, address in addresses.items():
            path = address.format(**values)
            self.once(path)  # templates are compiled
            self.found[title + suffix] = [self.once(path) for _ in range(self._samples)]

    def rate(self, address: str, path: str) -> float:
        """How many times a second the API answers this. address: the service's."""
        return load.rate(address, path, f"Bearer {self._token}")

    def once(self, path: str) -> float:
        """Seconds until the answer begins."""
        authorization = ""
        if path.startswith("/api/v1/"):
            authorization = f"Bearer {self._token}"
        elif path.startswith("/v2/"):
            authorization = f"Basic {base64.b64encode(f'bench:{self._token}'.encode()).decode()}"
        return self._browser.get(path, authorization)[0]


def _collect(root: Path, now: float) -> None:
    """What the service does once an hour. now: later than it is, so that something is out of date."""
    with (
        Store.open(root) as store,
        contextlib.closing(Registry(store, ServerSettings(), clock=lambda: now)) as registry,
    ):
        with contextlib.closing(Database.open(ServiceSettings.from_environ(root=str(root)))) as database:
            if not collect_outputs(database, registry, now):
                raise ToolError("no output was collected")
        collect(registry)


def _first_run(root: Path, url: str) -> int:
    """Submit a run, which nobody takes. Returns its number."""
    token = (root / "serve" / "admin.token").read_text().strip()
    request = {"source": {"type": "git", "url": "https://git.example.org/team/app.git"}, "project": filling.APP}
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/runs", json.dumps(request), headers)
        return int(json.loads(connection.getresponse().read())["number"])


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
