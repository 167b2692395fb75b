"""axe-core finds nothing on any page, light, dark and in forced colours; and the keyboard reaches what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.browser import plays
from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in

_AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_STANDARDS = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
_RUN = """async (rules) => (await axe.run({ runOnly: rules })).violations.map(
  (rule) => `${rule.id}: ${rule.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`)"""

_PLACES = """(texts) => texts.map((text) => {
  const node = document.querySelector("pre.excerpt").firstChild;
  const range = document.createRange();
  const at = node.data.indexOf(text);
  range.setStart(node, at);
  range.setEnd(node, at + text.length);
  const box = range.getBoundingClientRect();
  return [box.left, box.top];
})"""


def broken_rules(page: Page, scheme: Literal["light", "dark"], forced: str = "none") -> list[str]:
    """What axe-core finds on the page, of which the policy must not count; in the dark, of colours alone.

    Forced colours are the system's: axe reads the sheet's.
    """
    page.evaluate(_AXE)
    found: list[str] = page.evaluate(_RUN, _STANDARDS if scheme == "light" else _COLOURS)
    return [rule for rule in found if forced == "none" or not rule.startswith("color-contrast")]


@pytest.mark.parametrize(
    ("scheme", "width", "forced"),
    [
        ("light", 1366, "none"), ("dark", 1366, "none"), ("light", 390, "none"), ("dark", 390, "none"),
        ("light", 320, "none"), ("light", 1366, "active"),
    ],
)  # fmt: skip
def test_no_page_breaks_a_rule(
    browser: Browser, site: Site, scheme: Literal["light", "dark"], width: int, forced: Literal["none", "active"]
) -> None:
    """Nor is a page wider than the narrowest screen."""
    found = {}
    size = {"width": width, "height": 844}
    options = {"color_scheme": scheme, "forced_colors": forced, "reduced_motion": "reduce", "viewport": size}
    with signed_in(browser, site, "ada", bypass_csp=True, **options) as context:
        page = context.new_page()
        for name, path in PAGES.items():
            page.goto(path.format(**site.runs))
            if broken := broken_rules(page, scheme, forced):
                found[name] = broken
            if width == 320 and page.evaluate("document.documentElement.scrollWidth") > width:
                found[name] = [*found.get(name, ()), "it scrolls sideways"]
    assert found == {}


@pytest.mark.parametrize("width", [1366, 390])
def test_a_caret_points_at_its_column(browser: Browser, site: Site, width: int) -> None:
    """Also where the line that it points into is longer than the screen is wide, and begins with a tab."""
    line = "\tRUN echo " + "a-word " * 30 + "&& mkae"
    caret = "\t" + " " * (len(line) - 5) + "^^^^"
    error = f"Dockerfile:12:{len(line) - 4}: exit code: 127\n   12 | {line}\n      | {caret}\nhint: is it installed?"
    with signed_in(browser, site, "ada", viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        number = site.stage.play(replace(plays.RED, error=error))
        page.goto(f"/runs/{number}")
        expect(page.locator("pre.excerpt")).to_have_count(1)
        word, mark = page.evaluate(_PLACES, ["mkae", "^^^^"])
        assert abs(word[0] - mark[0]) < 1
        assert word[1] < mark[1] < word[1] + 40
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_goes_past_the_navigation(page: Page, site: Site) -> None:
    page.goto("/runs")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_the_log_is_used_by_keys_alone(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}")
    page.keyboard.press("/")
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_have_text("1 of 4")
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Lines of the log")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".l").first).to_contain_text("2 steps")
    page.set_viewport_size({"width": 900, "height": 700})
    page.keyboard.press("w")
    page.keyboard.press("End")
    expect(page.locator(".l").last).to_contain_text("done in 8 min")
    page.keyboard.press("Home")
    expect(page.locator(".l").first).to_contain_text("2 steps")


@pytest.mark.parametrize("path", ["/runs", "/runs/{GREEN}", "/images/harbour/web/-/main", "/workers", "/disk"])
def test_a_phone_scrolls_in_one_direction_only(browser: Browser, site: Site, path: str) -> None:
    with signed_in(browser, site, "ada", viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto(path.format(**site.runs))
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
