"""The colours of the pages, read from their sheet: what is written and drawn can be told from what is behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

STATIC: Final = Path(__file__).resolve().parents[2] / "web" / "static"
_TOKEN: Final = re.compile(r"--([a-z-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)")
_TEXTS: Final = ("ink", "ink-soft", "accent", "green", "red", "amber", "blue", "violet")
_FILLS: Final = ("green-fill", "red-fill", "amber-fill", "blue-fill", "violet-fill", "grey-fill", "line-strong")


def tokens(scheme: int) -> dict[str, str]:
    """The colours by their names. scheme: 0 light, 1 dark."""
    return {found[0]: found[1 + scheme] for found in _TOKEN.findall((STATIC / "app.css").read_text())}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def pairs() -> Iterator[tuple[str, str, float]]:
    """What stands on what, and how far apart they have to be."""
    for text in _TEXTS:
        yield from ((text, ground, 4.5) for ground in ("paper", "raised"))
    for ground in ("sunken", "grey-wash", "accent-wash", "red-wash", "amber-wash", "green-wash", "blue-wash"):
        yield from (("ink", ground, 4.5), ("ink-soft", ground, 4.5))
    for name in ("accent", "red", "amber", "green", "blue", "violet"):
        yield name, f"{name}-wash", 4.5
    yield from (("accent-ink", "accent", 4.5), ("hull-ink", "hull", 4.5), ("hull-soft", "hull", 4.5))
    yield from (("hull-soft", "hull-lip", 4.5), ("hull-ink", "hull-lip", 4.5), ("pine", "hull", 3.0))
    for fill in _FILLS:
        yield from ((fill, ground, 3.0) for ground in ("raised", "paper"))


@pytest.mark.parametrize("scheme", [0, 1])
def test_what_is_written_and_drawn_stands_out(scheme: int) -> None:
    known = tokens(scheme)
    assert len(known) > 30
    found = [(one, other, ratio(known[one], known[other]), least) for one, other, least in pairs()]
    assert [each for each in found if each[2] < each[3]] == []


def test_fonts_are_here_with_the_version_that_browsers_keep() -> None:
    sheet, told = (STATIC / "app.css").read_text(), (STATIC / "vendor" / "README.md").read_text()
    fonts = re.findall(r'url\("vendor/([a-z-]+)\.woff2\?v=([0-9.]+)"\)', sheet)
    assert len(fonts) == 3
    for name, version in fonts:
        assert (STATIC / "vendor" / f"{name}.woff2").read_bytes()[:4] == b"wOF2"
        (row,) = (line for line in told.splitlines() if f"`{name}.woff2`" in line)
        assert f"| {version} |" in row
    assert sum((STATIC / "vendor" / f"{name}.woff2").stat().st_size for name, _ in fonts) < 90_000
