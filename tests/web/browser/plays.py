"""The runs that tests and screenshots look at."""

from __future__ import annotations

from dataclasses import replace

from pipelines.model import BuildOptions, GitSource, Trigger
from tests.web.browser.stage import HOSTILE, Act, Play

_COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"
_SOURCE = GitSource("https://git.example.org/harbour/web.git", _COMMIT)
_PUSH = Trigger(
    kind="push",
    by="ada",
    branch="main",
    commit=_COMMIT,
    title="Serve the timetable from the edge cache",
    url=f"https://git.example.org/harbour/web/commit/{_COMMIT}",
)
_NPM = (
    "npm warn deprecated inflight@1.0.6: this module is not supported",
    "\x1b[32madded 812 packages\x1b[0m, and audited 813 packages in 14s",
    "\x1b[1m143 packages\x1b[0m are looking for funding",
    "found \x1b[32m\x1b[1m0\x1b[22m\x1b[39m vulnerabilities",
)
_BASE = Act("[internal] load build context", "", 0.0, 0.6, output=("1,204 files, 18.3 MB",), line=0)
_ACTS = (
    _BASE,
    Act("[deps 1/3] FROM node:22-slim", "deps", 0.6, 0.02, "cached", line=1),
    Act(
        "[deps 2/3] COPY package.json package-lock.json ./",
        "deps",
        0.62,
        0.31,
        reason="package-lock.json changed",
        line=2,
    ),
    Act(
        "[deps 3/3] RUN npm ci", "deps", 0.95, 14.2, reason="the step before it made another layer", output=_NPM, line=3
    ),
    Act("[api 1/2] COPY --from=golang /usr/local/go /usr/local/go", "api", 0.6, 0.04, "cached", line=6),
    Act(
        "[api 2/2] RUN go build -o /out/api ./cmd/api",
        "api",
        0.7,
        21.4,
        reason="cmd/api/routes.go changed",
        output=(
            "go: downloading github.com/gorilla/mux v1.8.1",
            "github.com/harbour/web/internal/timetable",
            "github.com/harbour/web/cmd/api",
        ),
        line=7,
    ),
    Act(
        "[assets 1/1] RUN npm run build",
        "assets",
        15.2,
        9.8,
        reason="the step before it made another layer",
        output=(
            "> web@4.2.0 build",
            "> vite build",
            "\x1b[36mvite v6.0.3\x1b[0m \x1b[32mbuilding for production...\x1b[0m",
            "\x1b[2mdist/\x1b[22m\x1b[35massets/index-BfK2x1.js\x1b[39m  \x1b[1m182.40 kB\x1b[22m │ gzip: 58.11 kB",
            "\x1b[32m✓ built in 8.91s\x1b[0m",
        ),
        line=10,
    ),
    Act(
        "[final 1/3] COPY --from=assets /app/dist /srv/www",
        "final",
        25.1,
        0.4,
        reason="what is copied changed",
        line=13,
    ),
    Act(
        "[final 2/3] COPY --from=api /out/api /usr/bin/api",
        "final",
        25.5,
        0.2,
        reason="what is copied changed",
        line=14,
    ),
    Act(
        "[internal] push registry.example.org/web:main", "", 25.8, 2.3, output=("4 of 11 layers sent, 61.2 MB",), line=0
    ),
)

PUSH_OF_NEWS = Trigger(kind="push", by="grace", branch="news", commit="7a" * 20, title="Something brand new")
GREEN = Play(
    _ACTS, began_s=2 * 3600, trigger=_PUSH, source=_SOURCE, names=("registry.example.org/web:main-9fceb02d0ae5",)
)
CACHED = Play(
    tuple(
        replace(act, outcome="cached", duration_s=0.01, begin_s=0.01 * i, reason=None, output=())
        for i, act in enumerate(_ACTS)
    ),
    began_s=5 * 3600,
    source=_SOURCE,
    names=("registry.example.org/web:pr-41",),
    trigger=Trigger(
        kind="pull_request",
        by="grace",
        branch="docs",
        pull_request=41,
        commit="c" * 40,
        title="Say in the README how to run it",
    ),
)
RED = Play(
    (
        *_ACTS[:3],
        Act(
            "[deps 3/3] RUN npm ci",
            "deps",
            0.95,
            3.1,
            "failed",
            "exit code 1",
            (
                "\x1b[31mnpm error\x1b[0m code E404",
                "\x1b[31mnpm error\x1b[0m 404 Not Found - GET https://npm.example.org/left-padd",
                "\x1b[31mnpm error\x1b[0m 404  'left-padd@^1.3.0' is not in this registry.",
            ),
            3,
        ),
        replace(_ACTS[5], outcome="cancelled", duration_s=3.3, reason="another step failed"),
        replace(_ACTS[6], begin_s=-1.0),
    ),
    state="failed",
    began_s=40 * 60,
    source=_SOURCE,
    error="Dockerfile:3: RUN npm ci: exit code 1",
    trigger=Trigger(
        kind="push", by="linus", branch="departures", commit="1f" * 20, title="Pad the departures on the left"
    ),
)
RUNNING = Play(
    (
        _BASE,
        Act("[build 1/3] FROM debian:trixie", "build", 0.6, 0.1, "cached", line=1),
        Act(
            "[build 2/3] RUN make -j8 all",
            "build",
            0.7,
            30.0,
            None,
            "never built",
            ("cc -O2 -c main.c", "cc -O2 -c tide.c"),
        ),
        Act("[docs 1/2] RUN make docs", "docs", 0.8, 12.0, reason="never built", output=("rendering 48 pages", "done")),
        Act("[build 3/3] RUN make check", "build", -1.0, 0.0, None),
    ),
    state="running",
    began_s=31.0,
    project="tide",
    trigger=Trigger(kind="tag", by="ada", tag="v2.1.0", commit="ab" * 20, title="Release 2.1.0"),
)
EVIL = Play(
    (
        Act(
            f'[build 1/1] RUN echo "{HOSTILE}"',
            "build",
            0.0,
            0.5,
            reason=HOSTILE,
            output=(
                HOSTILE,
                f"\x1b[31m{HOSTILE}\x1b[0m",
                "\x1b]8;;javascript:document.title='owned'\x07click\x1b]8;;\x07",
                "\x1b]8;;https://example.org/\x07a link\x1b]8;;\x07",
            ),
        ),
    ),
    state="failed",
    began_s=26 * 3600,
    error=HOSTILE,
    reason=HOSTILE,
    names=(),
    options=BuildOptions(target="<b>target</b>", build_args={"A": HOSTILE}),
    trigger=Trigger(
        kind="push",
        by="<i>mallory</i>",
        branch=HOSTILE,
        commit="e" * 40,
        title=HOSTILE,
        url="javascript:document.title='owned'",
    ),
)
LONG_LINES = 100_000
LONG = Play(
    (
        Act(
            "[build 1/2] RUN ./configure",
            "build",
            0.0,
            10.0,
            reason="never built",
            output=tuple(f"checking for feature {n}... yes" for n in range(1000)),
            line=2,
        ),
        Act(
            "[build 2/2] RUN make world",
            "build",
            10.0,
            480.0,
            reason="never built",
            line=3,
            output=tuple(
                f"[{n:06}] cc -c part-{n % 977}.c" + ("  # the needle" if n % 20011 == 20010 else "")
                for n in range(LONG_LINES - 1006)
            ),
        ),
    ),
    began_s=50 * 3600,
    project="world",
    trigger=Trigger(by="ada"),
    options=BuildOptions(tags=("registry.example.org/world:nightly",)),
)
CANCELLED = Play(
    (_BASE, Act("[build 1/1] RUN sleep 600", "build", 0.6, 8.0, "cancelled", "cancelled")),
    state="cancelled",
    began_s=70 * 3600,
    reason="cancelled",
    project="tide",
    trigger=Trigger(by="grace"),
)
LOST = Play(
    (_BASE,),
    state="error",
    began_s=80 * 3600,
    project="tide",
    trigger=Trigger(kind="push", by="ada", branch="main"),
    reason="the worker was lost three times",
    error="the worker was lost three times",
)
