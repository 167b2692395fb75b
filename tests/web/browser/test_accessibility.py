"""axe-core finds nothing on any page, light, dark and in forced colours; and the keyboard reaches what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as TookTooLong

from tests.toolkit.bounds import stretched
from tests.web.browser import plays
from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in

_AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_STANDARDS = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
_PARTS = 3  # no test takes minutes on a busy machine
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


_NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""When scripts have heard that the window has another width: what scrolls then is a stop for keys."""

_LAYOUT = {"type": "rule", "values": ["target-size", "scrollable-region-focusable", "aria-hidden-focus"]}


def broken_rules(page: Page, rules: object) -> list[str]:
    """What axe-core finds on the page, of which the policy must not count."""
    found: list[str] = page.evaluate(_RUN, rules)
    return found


def everywhere(page: Page) -> dict[str, list[str]]:
    """What breaks a rule on a page that is open: as it is, in the dark, with the system's colours, and narrower."""
    found: dict[str, list[str]] = {}
    page.evaluate(_AXE)
    for width, narrow in ((1366, False), (390, False), (320, True)):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(_NEXT_FRAME)
        found[f"light, {width}"] = broken_rules(page, _LAYOUT if narrow else _STANDARDS)
        if width == 1366:
            page.emulate_media(forced_colors="active")
            found["forced colours"] = broken_rules(page, _LAYOUT)  # axe reads the sheet's colours
            page.emulate_media(forced_colors="none")
        if not narrow:
            page.emulate_media(color_scheme="dark")
            found[f"dark, {width}"] = broken_rules(page, _COLOURS)
            page.emulate_media(color_scheme="light")
    try:  # charts are drawn anew a while after the window's width has changed
        page.wait_for_function("document.documentElement.scrollWidth <= 320", timeout=stretched(10) * 1000)
    except TookTooLong:
        found["320"] = ["it scrolls sideways"]
    return found


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_page_breaks_a_rule(browser: Browser, site: Site, part: int) -> None:
    """Nor is a page wider than the narrowest screen."""
    found: dict[str, list[str]] = {}
    with signed_in(browser, site, "ada", bypass_csp=True, reduced_motion="reduce", color_scheme="light") as context:
        page = context.new_page()
        for name, path in list(PAGES.items())[part::_PARTS]:
            page.set_viewport_size({"width": 1366, "height": 844})
            page.goto(path.format(**site.runs))
            found |= {f"{name}: {where}": broken for where, broken in everywhere(page).items() if broken}
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
