"""The page of a run of 100 jobs in a browser: ``python -m bench.runpage``. Frames of Chromium while logs stream.

A service does a pipeline of 100 jobs, some at a time: they print all the while, begin and end. Chromium, without a GPU,
has the page of the run with the log of one job, which it follows; tree, timeline and graph change as the jobs do. A
point in the middle of the page changes its colour in each frame, so that there is something to draw in each. Chromium's
trace says when frames were begun, and how long its main thread was busy at once. Then a second run has as many jobs,
each with a long log, and jobs are chosen in its tree: from the click until lines of the job are drawn.

Who looks at a run does not sit at the service's machine. So Chromium goes before all others here that want a processor:
what is measured is what the page asks of a browser, and not who else is on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from bench.figures import Figure, figure, measure
from bench.pipeline import Repository
from bench.service import Service, serving, shiplap
from bench.tools import ToolError, run
from bench.workloads import BASE

FRAMES_PER_S: Final = 59.4  # of 60: one in a hundred may be late
FRAME_MS: Final = 17.0
CHOICE_MS: Final = 100.0

_PASSWORD: Final = "a password for the bench"
_PATIENCE_S: Final = 300.0  # a bound against hanging
_WATCHED: Final = "watched"
_LONG: Final = "long"
_ROW: Final = 10  # jobs that need nothing of each other
_PARTS_MS: Final = 100  # between two parts of what a job prints
_CATEGORIES: Final = ["blink", "disabled-by-default-devtools.timeline", "disabled-by-default-devtools.timeline.frame"]
_POINT: Final = """() => {
  const point = document.createElement("div");
  Object.assign(point.style, { position: "fixed", top: "50%", left: "50%", width: "2px", height: "2px", zIndex: 99 });
  document.body.append(point);
  let count = 0;
  const draw = () => { point.style.background = count++ % 2 ? "#000" : "#fff"; requestAnimationFrame(draw); };
  draw();
}"""


_CHOICE: Final = """async ([place, name]) => {
  const row = document.querySelector(`#tree [role=treeitem][aria-level="1"][data-job="${place}"]`);
  const frame = () => new Promise(requestAnimationFrame);
  const isDrawn = () => document.querySelector("#log-title").textContent.includes(name)
    && document.querySelector("#log").dataset.place === String(place)
    && document.querySelector("#log .l .t:not(.waiting)")?.textContent;
  const begun = performance.now();
  row.click();
  while (!isDrawn()) await frame();
  await frame();
  return performance.now() - begun;
}"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a trace says of some seconds.

    frames_per_s: that the page itself made, with what its script had changed.
    frames_ms: from each of these frames to the next, by the beats of the display that they were made for.
    drawn_per_s: that the compositor drew, some of them with what the page had made before.
    busy_ms: the longest time that the main thread was busy at once.
    """

    frames_per_s: float
    frames_ms: list[float]
    drawn_per_s: float
    busy_ms: float


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.runpage", description="Count frames of a run's page.")
    parser.add_argument("--jobs", type=int, default=100, help="of the run  [default: 100]")
    parser.add_argument("--beside", type=int, default=4, help="jobs at a time  [default: 4]")
    parser.add_argument("--lasts", type=float, default=3.0, help="seconds that a job takes  [default: 3]")
    parser.add_argument(
        "--lines", type=int, default=200, help="lines a second, of the log that is shown  [default: 200]"
    )
    parser.add_argument("--times", type=int, default=6, help="traces  [default: 6]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each trace  [default: 5]")
    parser.add_argument("--long", type=int, default=5000, help="lines of each log of the second run  [default: 5000]")
    parser.add_argument("--choices", type=int, default=20, help="jobs of it that are chosen  [default: 20]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the service keeps its data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    return measure(
        lambda directory: list(_measure(directory, options)),
        below=options.directory, prefix="run-", output=options.output,  # short: there will be sockets in it
    )  # fmt: skip


def shown(events: Sequence[dict[str, Any]]) -> Shown:
    """What the events of a trace say of the page with the most frames. Raises ToolError for a trace without any."""
    made = [event for event in events if event["name"] == "BeginMainThreadFrame"]
    pages = [(event["pid"], event["tid"], event["args"]["layerTreeId"]) for event in made]
    if not pages:
        raise ToolError("Chromium's trace has no frames")
    process, thread, tree = max(set(pages), key=pages.count)
    drawn = [event for event in events if event["name"] == "DrawFrame" and event["args"]["layerTreeId"] == tree]
    own = [event for event in events if (event["pid"], event["tid"]) == (process, thread)]
    beats = sorted(event["args"]["frameTime"] for event in own if event["name"] == "WebFrameWidgetImpl::BeginMainFrame")
    return Shown(
        frames_per_s=_per_s([event["ts"] for event in made if event["args"]["layerTreeId"] == tree]),
        frames_ms=[(after - before) / 1000 for before, after in itertools.pairwise(beats)],
        drawn_per_s=_per_s([event["ts"] for event in drawn]),
        busy_ms=max((event.get("dur", 0) for event in own if event["name"] == "RunTask"), default=0) / 1000,
    )


def _per_s(times_us: Sequence[float]) -> float:
    span = max(times_us, default=0) - min(times_us, default=0)
    return (len(times_us) - 1) * 1e6 / span if span else 0.0


def _measure(directory: Path, options: argparse.Namespace) -> Iterator[Figure]:
    repository = Repository(directory / "clone", 1, "jobs: {}\n")
    wanted = (options.seconds + 2) * options.times
    repository.pipeline(_pipeline(options.jobs, options.lasts, wanted + 10, options.lines))
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(serving(directory / "r", concurrency=options.beside))
        with _first():
            playwright = stack.enter_context(sync_playwright())
        run([*shiplap(service.root), "--host", service.url, "project", "add", "bench", "--bare"])
        command = [*shiplap(service.root), "user", "add", "bench", "--role", "admin", "--password-stdin"]
        subprocess.run(list(map(str, command)), input=_PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL)
        repository.git("push", "-q", str(service.root / "git" / "bench.git"), "HEAD:main")
        number = _planned(service, 1, options.jobs)
        program = shutil.which("chromium")
        if program is None:
            raise ToolError("there is no chromium: apt-get install chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 850})
        page.set_default_timeout(_PATIENCE_S * 1000)
        _sign_in(page, service)
        _open(page, service, number)
        before = _ended(service, number)
        traced = [shown(_trace(browser, page, options.seconds)) for _ in range(options.times)]
        changed = _ended(service, number) - before
        text = page.inner_text("#log-at")
        service.call("POST", f"/runs/{number}/cancel")
        service.call("POST", f"/runs/{number}/cancel")
        repository.pipeline(_long(options.jobs, options.long))
        repository.git("push", "-q", str(service.root / "git" / "bench.git"), "HEAD:main")
        choices = _choices(page, service, _planned(service, 2, options.jobs), options)
        browser.close()
    print(f"{changed} jobs ended while it was traced; the log has {text}", file=sys.stderr)
    title = f"frames of the page of a run of {options.jobs} jobs, a log of {options.lines} lines a second"
    frames = [each.frames_per_s for each in traced]
    yield Figure("frames", title, statistics.median(frames), "/s", frames, FRAMES_PER_S, at_least=True)
    times = [each.frames_ms for each in traced]
    within = _almost_all([time_ms for some in times for time_ms in some])
    yield Figure("frame", "99 % of these frames come within", within, "ms", list(map(_almost_all, times)), FRAME_MS)
    yield figure("drawn", "frames that the compositor drew", [each.drawn_per_s for each in traced], None, "/s")
    yield figure("busy", "longest task of the page", [each.busy_ms for each in traced], None, "ms")
    yield figure("ended", "jobs that ended while it was traced", [float(changed)], None, "")
    chosen = f"choosing a job of {options.jobs} with {options.long} lines each: its lines are drawn"
    yield figure("choice", chosen, choices, CHOICE_MS, "ms")


def _almost_all(times: Sequence[float]) -> float:
    """What 99 of a hundred are not above."""
    return sorted(times)[max(0, math.ceil(len(times) * 0.99) - 1)]


@contextlib.contextmanager
def _first() -> Iterator[None]:
    """What this thread starts until the end goes before all that is scheduled as usual."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        print("Chromium shares the processors with the service: this needs CAP_SYS_NICE", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _pipeline(jobs: int, lasts_s: float, watched_s: float, lines_per_s: int) -> str:
    """One job that prints all the time, and rows of others, each of which needs one of the row before."""
    parts = [_printing(_WATCHED, "", watched_s, lines_per_s)]
    for number in range(jobs - 1):
        needs = f"needs: job{number - _ROW}" if number >= _ROW else ""
        parts.append(_printing(f"job{number}", needs, lasts_s, 20))
    return "jobs:\n" + "".join(parts)


def _printing(name: str, more: str, lasts_s: float, lines_per_s: int) -> str:
    turns, lines = int(lasts_s * 1000 / _PARTS_MS), max(1, lines_per_s * _PARTS_MS // 1000)
    return f"""  {name}:
    image: {BASE}
    {more}
    run: |
      n=0
      while [ $n -lt {turns} ]; do
        m=0
        while [ $m -lt {lines} ]; do echo "{name}: tests/test_cart.py::adds_line_$n-$m PASSED"; m=$((m+1)); done
        usleep {_PARTS_MS * 1000}
        n=$((n+1))
      done
"""


def _long(jobs: int, lines: int) -> str:
    """Jobs that need nothing of each other, each with a log of so many lines."""
    parts = (
        f"""  {_LONG}{number}:
    image: {BASE}
    run: yes "{_LONG}{number} tests/test_cart.py::adds_line PASSED" | head -n {lines} | cat -n
"""
        for number in range(jobs)
    )
    return "jobs:\n" + "".join(parts)


def _planned(service: Service, number: int, jobs: int) -> int:
    """The number of the run, which is this one or newer, as soon as it has its jobs."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        for found in service.call("GET", "/runs?limit=1")["runs"]:
            if found["number"] < number:
                continue
            if len(service.call("GET", f"/runs/{found['number']}/jobs")["jobs"]) >= jobs:
                return int(found["number"])
            if found["state"] not in ("queued", "running"):
                raise ToolError(f"the run is {found['state']}: {found['reason']}")
        if time.monotonic() > deadline:
            raise ToolError("the run was not planned")
        time.sleep(0.1)


def _ended(service: Service, number: int) -> int:
    jobs = service.call("GET", f"/runs/{number}/jobs")["jobs"]
    return sum(job["state"] not in ("queued", "running", "waiting") for job in jobs)


def _choices(page: Page, service: Service, number: int, options: argparse.Namespace) -> list[float]:
    """Milliseconds from the click on a job to its lines, of jobs all over the tree, once the run has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while _ended(service, number) < options.jobs:
        if time.monotonic() > deadline:
            raise ToolError("the run with long logs did not end")
        time.sleep(0.5)
    page.goto(f"{service.url}/runs/{number}")
    page.locator("#log .l").nth(20).wait_for()
    jobs = [job for job in service.call("GET", f"/runs/{number}/jobs")["jobs"] if job["name"].startswith(_LONG)]
    found = []
    for job in jobs[:: max(1, len(jobs) // options.choices)][: options.choices]:
        found.append(page.evaluate(_CHOICE, [job["place"], job["name"]]))
        page.wait_for_timeout(200)
    return found


def _sign_in(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/login")
    page.fill('input[name="name"]', "bench")
    page.fill('input[name="password"]', _PASSWORD)
    page.press('input[name="password"]', "Enter")
    page.wait_for_url(lambda address: "/login" not in address)


def _open(page: Page, service: Service, number: int) -> None:
    """Show the log of the job that prints."""
    page.goto(f"{service.url}/runs/{number}")
    page.click(f'#tree [role="treeitem"]:has-text("{_WATCHED}")')
    page.locator("#log .l").nth(20).wait_for()
    page.evaluate(_POINT)
    page.wait_for_timeout(1000)


def _trace(browser: Browser, page: Page, seconds: float) -> list[dict[str, Any]]:
    browser.start_tracing(page=page, categories=_CATEGORIES)
    page.wait_for_timeout(seconds * 1000)
    found: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
