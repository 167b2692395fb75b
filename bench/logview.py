"""The log in a browser: ``python -m bench.logview``. Frames of Chromium with a million lines, while lines come.

The page's own scripts and sheets, from a server of this program that makes up lines as they are asked for and sends
5,000 more a second. Measured are the times between frames, and what script and layout take of one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import CDPSession, sync_playwright

BUDGET_MS: Final = 17.0
SCRIPT_BUDGET_MS: Final = 8.0

_STATIC: Final = Path(__file__).resolve().parents[1] / "web" / "static"
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_BATCH_S: Final = 0.05
_PATIENCE_MS: Final = 300_000  # a bound against hanging
_WORDS: Final = ("cart::adds_line", "orders::pages", "prices::tax_table", "search::prefix", "mail::renders")
_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>log</title>
<link rel="stylesheet" href="/static/app.css"><link rel="stylesheet" href="/static/run.css">
<link rel="stylesheet" href="/static/log.css"><script type="module" src="/bench.js"></script></head>
<body class="bare" data-sprite="/static/icons.svg"><div class="run"><div class="panes">
<div class="tree" id="tree"></div><div class="pane">
<section class="log" id="log" data-api="/api" data-pages="/pages" data-address="/" data-lines="%d"
 data-after="%d" data-place="1" data-began="1" data-live="1">
<div class="tools"><form class="log-search"><input type="search" id="log-text"><span id="log-found"></span>
<button type="button" id="log-previous">up</button></form>
<button type="button" id="log-wrap">Wrap</button><button type="button" id="log-times">Times</button>
<button type="button" id="log-only">Only</button><button type="button" id="log-follow">Follow</button>
<button type="button" id="log-full">Full</button><button type="button" id="log-fold">Fold</button></div>
<div class="lines"><div class="log-view" tabindex="0"><div class="log-space"><div class="log-lines"></div></div></div>
<svg class="ruler"></svg></div><div class="foot-bar"><span id="log-at"></span><span id="log-errors"></span>
<span id="log-warnings"></span><button id="log-below" hidden></button><span id="log-follows"></span></div></section>
</div></div></div><div id="said"></div></body></html>"""
_SCRIPT: Final = """import { LogPanel } from "/static/log/panel.js";
globalThis.log = new LogPanel(document.getElementById("log"));"""
_FRAMES: Final = """async ([frames, jump]) => {
  const view = document.querySelector(".log-view"), found = [];
  let before = await new Promise(requestAnimationFrame);
  for (let at = 0; at < frames; at++) {
    if (jump) view.scrollTop = view.scrollHeight * ((at * 0.618) % 1);
    const now = await new Promise(requestAnimationFrame);
    found.push(now - before);
    before = now;
  }
  return found;
}"""
_TURNS: Final = """async (turns) => {
  const view = document.querySelector(".log-view"), found = [];
  log.setFollowing(false);
  log.view.moveTo(log.view.heights.topOf(500000));
  for (let at = 0; at < turns; at++) {
    const before = log.view.offset;
    view.dispatchEvent(new WheelEvent("wheel", { deltaY: 100, bubbles: true, cancelable: true }));
    await new Promise(requestAnimationFrame);
    found.push(log.view.offset - before);
  }
  return found;
}"""


def line(number: int) -> dict[str, Any]:
    """The line of a number."""
    word = _WORDS[number % len(_WORDS)]
    text = f"tests/test_{word}_{number % 53} \x1b[32mPASSED\x1b[0m [{number % 100:3}%]"
    if number % 5000 == 7:
        text = f"error: {word} failed, see https://git.example.org/acme/shop/blob/main/tests/test_{word}.py#L41"
    return {"n": number, "kind": "output", "text": text, "at": 1 + number / 5000, "step": 0, "stream": 1}


class _Lines(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, count: int, per_s: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.count = count
        self.per_s = per_s
        self.is_over = False


class _Answers(http.server.BaseHTTPRequestHandler):
    server: _Lines

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        if asked.path == "/":
            self._send((_PAGE % (self.server.count, self.server.count)).encode(), "text/html")
        elif asked.path == "/bench.js":
            self._send(_SCRIPT.encode(), "text/javascript")
        elif asked.path.startswith("/static/"):
            path = (_STATIC / asked.path.removeprefix("/static/")).resolve()
            if path.is_relative_to(_STATIC) and path.is_file():
                self._send(path.read_bytes(), _KINDS.get(path.suffix, "text/plain"))
            else:
                self.send_error(404)
        elif asked.path == "/api/log":
            first, limit = int(query["first"]), int(query["limit"])
            last = min(self.server.count, first + limit - 1)
            lines = [line(number) for number in range(first, last + 1)]
            self._send(json.dumps({"lines": lines, "next": None}).encode(), "application/json")
        elif asked.path == "/pages/log/marks":
            self._send(json.dumps(self._marks(int(query["after"]))).encode(), "application/json")
        elif asked.path == "/api/events":
            self._follow()
        else:
            self.send_error(404)

    def _marks(self, after: int) -> dict[str, Any]:
        count = self.server.count
        errors = [number for number in range(after + 1, count + 1) if number % 5000 == 7]
        return {
            "lines": count, "spans": [[0, count - after]] if count > after else [], "errors": errors, "warnings": [],
            "error_count": count // 5000, "warning_count": 0, "folds": [], "starts": {"0": 1},
        }  # fmt: skip

    def _follow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        began, sent = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while not self.server.is_over:
                wanted = int((time.monotonic() - began) * self.server.per_s)
                pieces = []
                for _ in range(wanted - sent):
                    self.server.count += 1
                    pieces.append(f"id: {self.server.count}\ndata: {json.dumps(line(self.server.count))}\n\n")
                sent = wanted
                self.wfile.write("".join(pieces).encode())
                self.wfile.flush()
                time.sleep(_BATCH_S)

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def lines(count: int, per_s: int) -> Iterator[str]:
    """The address of a page with a log of so many lines that grows."""
    server = _Lines(count, per_s)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.is_over = True
        server.shutdown()
        thread.join()
        server.server_close()


def measure(count: int, per_s: int, frames: int) -> dict[str, Any]:
    """Frames while the log is followed, and while it is jumped through; and what the wheel moves."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("there is no chromium: apt-get install chromium")
    with lines(count, per_s) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1366, "height": 850})
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(address)
        page.wait_for_function("document.querySelectorAll('.l').length > 20")
        page.wait_for_timeout(1000)  # lines come
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        found: dict[str, Any] = {"lines": count, "lines_per_s": per_s}
        for name, jump in (("following", False), ("jumping", True)):
            if jump:
                page.evaluate("log.setFollowing(false)")
            before = _spent(session)
            times = page.evaluate(_FRAMES, [frames, jump])
            after = _spent(session)
            found[name] = _told(times) | {
                what: round((after[what] - before[what]) * 1000 / len(times), 2) for what in ("script_ms", "layout_ms")
            }
        found["wheel_px"] = sorted(set(page.evaluate(_TURNS, 20)))
        found["rows"] = page.evaluate("document.querySelectorAll('.l').length")
        found["heap_mb"] = round(page.evaluate("performance.memory.usedJSHeapSize") / 1e6, 1)
        browser.close()
    return found


def _spent(session: CDPSession) -> dict[str, float]:
    """Seconds that script took so far, and styles and layout."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return {
        "script_ms": metrics["ScriptDuration"],
        "layout_ms": metrics["LayoutDuration"] + metrics["RecalcStyleDuration"],
    }


def _told(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99) - 1], 1),
        "worst_ms": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.logview", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--per-second", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=600)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.lines, arguments.per_second, arguments.frames), indent=2))


if __name__ == "__main__":
    main()
