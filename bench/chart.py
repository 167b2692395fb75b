"""README's chart: three bars, each as long as Shiplap's part of BuildKit's time. ``python -m bench.chart --help``."""

from __future__ import annotations

import argparse
import datetime
import html
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
PUBLISHED: Final = _CHECKOUT / "bench" / "published.json"
"""What the chart is drawn from: the rows of a result of ``python -m bench`` that it shows."""
CHART: Final = _CHECKOUT / "docs" / "pictures" / "speed.svg"

_CAPTIONS: Final = {
    "run": "{steps} RUN steps, nothing cached",
    "copy-changed": "COPY of {files:,} files, one changed, then RUN",
    "run-cached": "{steps} RUN steps, all cached",
}
"""The rows that are shown, by the bench's keys, from top to bottom."""

_WIDTH: Final = 560
_MARGIN: Final = 20
_TRACK: Final = _WIDTH - 2 * _MARGIN
_BAR_HEIGHT: Final = 24
_ROW_HEIGHT: Final = 68
_TOP: Final = 44

_STYLE: Final = """\
text { font: 15px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.card { fill: #ffffff; stroke: #d1d9e0; }
.theirs { fill: #d8dee4; }
.ours { fill: #0b6378; }
.head, .times, .on { font-weight: 600; }
.on { fill: #ffffff; }
.note { font-size: 13px; fill: #59636e; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .on { fill: #0d1117; }
  .card { fill: #0d1117; stroke: #3d444d; }
  .theirs { fill: #3d444d; }
  .ours { fill: #4fb3cc; }
  .note { fill: #9198a1; }
}
"""


class Bar(NamedTuple):
    """One row of the chart.

    ours_s, theirs_s: medians, in seconds.
    ratio: our time over theirs, as the bench has it: the median of the ratios within each round.
    """

    caption: str
    ours_s: float
    theirs_s: float
    ratio: float

    @property
    def times(self) -> str:
        """How many times as fast, with two figures."""
        return f"{1 / self.ratio:.2g}"


def bars(result: Mapping[str, Any]) -> list[Bar]:
    """The rows that are shown of a result. Raises ValueError when one was not measured, or not beside BuildKit."""
    rows = {row["row"]: row for row in result["rows"]}
    found = []
    for key, caption in _CAPTIONS.items():
        if key not in rows or "buildkit" not in rows[key]["ratio"]:
            raise ValueError(f"the result has no row {key!r} beside buildkit")
        medians = rows[key]["median_s"]
        ratio = rows[key]["ratio"]["buildkit"]
        found.append(Bar(caption.format_map(result["sizes"]), medians["shiplap"], medians["buildkit"], ratio))
    return found


def chosen(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a result: where and when it was measured, and the rows that are shown."""
    bars(result)
    kept = {key: result[key] for key in ("finished_at", "machine", "versions", "sizes")}
    return {**kept, "rows": [row for row in result["rows"] if row["row"] in _CAPTIONS]}


def peer(result: Mapping[str, Any]) -> str:
    """Beside what it was measured, when and where, in words."""
    day = datetime.datetime.fromisoformat(result["finished_at"])
    machine = result["machine"]
    return (
        f"BuildKit of {result['versions']['buildkit']}, {day.day} {day:%B %Y}, "
        f"on {machine['cores']} cores, {machine['memory_gib']} GB"
    )


def words(result: Mapping[str, Any]) -> str:
    """The chart for those who do not see it."""
    said = "; ".join(f"{bar.caption}: {_seconds(bar.ours_s)}, not {_seconds(bar.theirs_s)}" for bar in bars(result))
    return f"Shiplap beside the {peer(result)}. {said}"


def draw(result: Mapping[str, Any]) -> str:
    """The chart as SVG, readable on light and on dark pages."""
    shown = bars(result)
    height = _TOP + len(shown) * _ROW_HEIGHT + 30
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{html.escape(words(result))}</title>",
        f"<style>\n{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *_key(_MARGIN, 18, "ours", "Shiplap"),
        *_key(_MARGIN + 100, 18, "theirs", "BuildKit"),
        f'<text class="note" x="{_WIDTH - _MARGIN}" y="30" text-anchor="end">seconds; shorter is better</text>',
    ]
    for number, bar in enumerate(shown):
        parts += _row(bar, _TOP + number * _ROW_HEIGHT)
    note = html.escape(peer(result))
    parts += [f'<text class="note" x="{_MARGIN}" y="{height - 14}">{note}</text>', "</svg>"]
    return "\n".join(parts)


def _key(x: int, y: int, kind: str, name: str) -> list[str]:
    return [
        f'<rect class="{kind}" x="{x}" y="{y}" width="14" height="14" rx="3"/>',
        f'<text class="head" x="{x + 21}" y="{y + 12}">{name}</text>',
    ]


def _row(bar: Bar, y: int) -> list[str]:
    """The caption, and below it our bar on theirs."""
    length = round(_TRACK * min(bar.ratio, 1.0), 1)
    end = _MARGIN + length
    line = y + 26 + _BAR_HEIGHT / 2 + 5
    # A bar that is nearly as long as theirs leaves no room beside it.
    ours = f'class="on" x="{end - 90}"' if bar.ratio > 0.6 else f'class="times" x="{end + 8}"'
    return [
        f'<text x="{_MARGIN}" y="{y + 18}">{html.escape(bar.caption)}</text>',
        f'<text class="times" x="{_WIDTH - _MARGIN}" y="{y + 18}" text-anchor="end">{bar.times} × as fast</text>',
        f'<rect class="theirs" x="{_MARGIN}" y="{y + 26}" width="{_TRACK}" height="{_BAR_HEIGHT}" rx="3"/>',
        f'<rect class="ours" x="{_MARGIN}" y="{y + 26}" width="{length}" height="{_BAR_HEIGHT}" rx="3"/>',
        f'<text {ours} y="{line}">{_seconds(bar.ours_s)}</text>',
        f'<text x="{_WIDTH - _MARGIN - 8}" y="{line}" text-anchor="end">{_seconds(bar.theirs_s)}</text>',
    ]


def _seconds(seconds: float) -> str:
    """With two figures, or more before the point."""
    return f"{seconds:.{max(0, 1 - math.floor(math.log10(seconds)))}f} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.chart", description=__doc__)
    parser.add_argument("result", type=Path, nargs="?", help="a JSON file of `python -m bench`, to be published first")
    parser.add_argument("--print", action="store_true", help="print the chart of what is published, and write nothing")
    options = parser.parse_args()
    if options.result is not None:
        try:
            kept = chosen(json.loads(options.result.read_text()))
        except ValueError as error:
            print(f"bench.chart: {options.result}: {error}", file=sys.stderr)
            return 1
        PUBLISHED.write_text(json.dumps(kept, indent=1) + "\n")
    result = json.loads(PUBLISHED.read_text())
    if options.print:
        print(draw(result))
        return 0
    CHART.write_text(draw(result) + "\n")
    print(f"README's words for it: {words(result)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
