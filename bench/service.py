"""The service: ``python -m bench.service``. What the queue adds to a build, and how many builds it gets through.

One ``shiplap serve`` with Redis, SQLite and registry of its own and a worker that does one run at a time; a second one
joins for the last row. Every build has one RUN step that no cache knows. The rows of a long log have a step that prints
a file: all else that it takes is done by the log's way from the step to the database, with secrets to mask or without.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.figures import Figure, measure
from bench.tools import ToolError, run
from bench.workloads import BASE
from core.processes import descendants

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 60.0
_RUN_S: Final = 120.0
_MANY_S: Final = 600.0
_STEP: Final = "FROM bench-base\nARG SALT\nRUN echo built $SALT\n"
_FIRST_LINE_BUDGET_S: Final = 0.150
_OVERHEAD_BUDGET_S: Final = 0.150
_LOG: Final = "FROM bench-base\nCOPY log /\nARG SALT\nRUN echo $SALT && cat /log\n"
_SECRETS: Final = 20
_MASKING_BUDGET: Final = 1.3
_READY_BUDGET_S: Final = 0.8
_IDLE_BUDGET_MB: Final = 150.0
_SETTLED_S: Final = 3.0  # by then, each process has opened what it waits with


class Service:
    """A running service, as its API's clients see it. ready_s: from its start to a worker that takes runs."""

    def __init__(self, url: str, root: Path, pid: int) -> None:
        self.url = url
        self.root = root
        self.pid = pid
        self.ready_s = 0.0
        self._token = (root / "serve" / "admin.token").read_text().strip()
        self._address = urlsplit(url).netloc

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request over a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=_RUN_S)) as connection:
            response = self._ask(connection, method, path, body)
            return json.loads(response.read())

    def first_line_s(self, context: str, salt: str) -> float:
        """From the request that submits a run to the arrival of the first line of its log."""
        with contextlib.closing(http.client.HTTPConnection(self._address, timeout=_RUN_S)) as connection:
            connection.connect()
            begin = time.perf_counter()
            run_ = json.loads(self._ask(connection, "POST", "/runs", request(context, salt)).read())
            events = self._ask(connection, "GET", f"/runs/{run_['number']}/events")
            while not events.readline().startswith(b"id: "):
                pass
            seconds = time.perf_counter() - begin
            while not events.readline().startswith(b"event: end"):
                pass
        return seconds

    def ended(self, first: int) -> list[dict[str, Any]]:
        """The runs from number ``first`` on, once all have ended."""
        deadline = time.monotonic() + _MANY_S
        while True:
            runs = [run_ for run_ in self.call("GET", "/runs?limit=500")["runs"] if run_["number"] >= first]
            if not any(run_["state"] in ("queued", "running") for run_ in runs):
                return runs
            if time.monotonic() > deadline:
                raise ToolError(f"runs did not end within {_MANY_S:.0f} s")
            time.sleep(0.05)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise ToolError(f"{method} {path}: {response.status} {response.read(1000).decode(errors='replace')}")
        return response


def request(context: str, salt: str) -> dict[str, Any]:
    """A run of the trivial build."""
    return {"source": {"type": "context", "context": context}, "options": {"build_args": {"SALT": salt}}}


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.service", description="Time the build service.")
    parser.add_argument("--runs", type=int, default=20, help="samples of each latency  [default: 20]")
    parser.add_argument("--many", type=int, default=100, help="runs queued at once for the throughput  [default: 100]")
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the long log  [default: 1000000]")
    parser.add_argument("--logs", type=int, default=5, help="samples of the long log, each way  [default: 5]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the service keeps its data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--starts", type=int, default=5, help="of a service, to see it at rest  [default: 5]")
    options = parser.parse_args()
    return measure(
        lambda directory: _measure(directory, options),
        below=options.directory, prefix="svc-", output=options.output,  # short: there will be sockets in it
    )  # fmt: skip


def _measure(directory: Path, options: argparse.Namespace) -> list[Figure]:
    runs, many = options.runs, options.many
    context = directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(_STEP)
    ready, idle = _at_rest(directory / "q", options.starts)
    with serving(directory / "r", concurrency=1) as service:
        logs = _long_logs(service, directory / "long", options.lines, options.logs) if options.logs else []
        digest = _sent(service, context)
        first = [service.first_line_s(digest, f"line {number}") for number in range(runs)]
        here: list[float] = []
        there: list[float] = []
        for number in range(runs):
            pair = [(here, ["--host", "local"]), (there, ["--host", service.url])]
            for samples, where in pair if number % 2 else reversed(pair):
                command = [*shiplap(service.root), *where, "build", "-q", "--build-arg", f"SALT={number} {where[1]}"]
                samples.append(_timed(lambda command=command: run([*command, context])))  # type: ignore[misc]
        with _second_worker(service):
            rate = _per_minute(service, digest, many)
    overhead = [queued - local for queued, local in zip(there, here, strict=True)]
    return [
        Figure("ready", "serve, until a worker takes runs", statistics.median(ready), "s", ready, _READY_BUDGET_S),
        Figure("idle", "serve, idle, two runs at a time: PSS", statistics.median(idle), "MB", idle, _IDLE_BUDGET_MB),
        Figure("first-line", "submit to first log line", statistics.median(first), "s", first, _FIRST_LINE_BUDGET_S),
        Figure("local", "shiplap build here, one RUN step", statistics.median(here), "s", here),
        Figure("queued", "the same with --host", statistics.median(there), "s", there),
        Figure("overhead", "what the service adds", statistics.median(overhead), "s", overhead, _OVERHEAD_BUDGET_S),
        Figure("per-minute", f"builds per minute, {many} queued, two workers", rate, "/min", [rate]),
        *logs,
    ]


def _at_rest(root: Path, starts: int) -> tuple[list[float], list[float]]:
    """Of each start of a service on a root that is there: seconds until it is ready, and its memory in MB."""
    ready: list[float] = []
    idle: list[float] = []
    with serving(root, concurrency=2):
        pass  # what a first start makes is made
    for _ in range(starts):
        with serving(root, concurrency=2) as service:
            ready.append(service.ready_s)
            time.sleep(_SETTLED_S)
            idle.append(sum(map(pss, [service.pid, *descendants(service.pid)])) / 1e6)
    return ready, idle


def pss(process: int) -> int:
    """Bytes of a process, those that it shares by how many share them."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _long_logs(service: Service, context: Path, lines: int, count: int) -> list[Figure]:
    """A step that prints ``lines`` lines, in turns without secrets and with some that it does not print."""
    context.mkdir()
    (context / "Dockerfile").write_text(_LOG)
    with (context / "log").open("w") as log:
        for number in range(lines):
            log.write(f"[{number:7}] cc -O2 -Wall -c src/part{number % 97}.c -o out/{number:x}.o\n")
    digest = _sent(service, context)
    secrets = [os.urandom(20).hex().encode() for _ in range(_SECRETS)]
    given = {f"secret{number}": base64.b64encode(secret).decode() for number, secret in enumerate(secrets)}
    plain: list[float] = []
    masked: list[float] = []
    for number in range(count):
        pair = [(plain, {}), (masked, given)]
        for samples, hidden in pair if number % 2 else reversed(pair):
            body = {**request(digest, f"{number} {len(hidden)}"), "secrets": hidden}
            (ended,) = service.ended(service.call("POST", "/runs", body)["number"])
            if ended["state"] != "succeeded":
                raise ToolError(f"run {ended['number']}: {ended['state']}: {ended['reason']}")
            samples.append(ended["finished_at"] - ended["started_at"])
    ratios = [with_ / without for with_, without in zip(masked, plain, strict=True)]
    title = f"a log of {lines:,} lines"
    return [
        Figure("log", title, statistics.median(plain), "s", plain),
        Figure("log-masked", f"the same with {_SECRETS} secrets", statistics.median(masked), "s", masked),
        Figure("masking", "the latter by the former", statistics.median(ratios), "", ratios, _MASKING_BUDGET),
    ]


def _sent(service: Service, context: Path) -> str:
    """The digest of a context that a first build has sent."""
    run([*shiplap(service.root), "--host", service.url, "build", "-q", context])
    digest: str = service.call("GET", "/runs?limit=1")["runs"][0]["source"]["context"]
    return digest


def _per_minute(service: Service, context: str, many: int) -> float:
    began = time.time()
    numbers = [service.call("POST", "/runs", request(context, f"many {index}"))["number"] for index in range(many)]
    runs = service.ended(numbers[0])
    failed = [run_["number"] for run_ in runs if run_["state"] != "succeeded"]
    if failed or len(runs) != many:
        raise ToolError(f"of {many} runs {len(runs)} ended, and these did not succeed: {failed}")
    ended: float = max(run_["finished_at"] for run_ in runs)
    return 60 * many / (ended - began)


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextlib.contextmanager
def serving(root: Path, *, concurrency: int, labels: str = "") -> Iterator[Service]:
    """A service with one worker, which does so many runs at once.

    root: of a short path, for sockets are below it.
    labels: of the worker.
    """
    made = run([_CHECKOUT / "scripts" / "rootfs", "busybox"])
    run([*shiplap(root), "image", "import", made.strip(), BASE])
    with (root.parent / "serve.log").open("wb") as log:
        command = [*shiplap(root), "serve", "--listen", "127.0.0.1:0", "--concurrency", str(concurrency)]
        environment = {**os.environ, "SHIPLAP_WORKER_LABELS": labels}
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ToolError("the service did not start:\n" + (root.parent / "serve.log").read_text()[-4000:])
        service = Service(json.loads(line)["url"], root, process.pid)
        wait_for_workers(service, 1)
        service.ready_s = time.perf_counter() - begin
        yield service
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _second_worker(service: Service) -> Iterator[None]:
    environment = {**os.environ, "SHIPLAP_REGISTRY": urlsplit(service.url).netloc}
    with (service.root.parent / "worker.log").open("wb") as log:
        command = [*shiplap(service.root), "worker", "--concurrency", "1", "--name", "second"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for_workers(service, 2)
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for_workers(service: Service, count: int) -> None:
    """Until the service has heard of so many. Raises ToolError."""
    deadline = time.monotonic() + _START_S
    while len(service.call("GET", "/workers")["workers"]) < count:
        if time.monotonic() > deadline:
            raise ToolError("the worker did not start")
        time.sleep(0.02)


def shiplap(root: Path) -> list[str | Path]:
    return [Path(sys.executable).with_name("shiplap"), "--root", root]


if __name__ == "__main__":
    raise SystemExit(main())
