"""axe-core finds nothing on any page, light and dark; and the keyboard reaches what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in

_AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_RULES = """async () => (await axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
  .violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.target + ' ' + node.failureSummary).join('; ')}`)"""


@pytest.fixture(scope="module", params=["light", "dark"])
def context(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[BrowserContext]:
    scheme: Literal["light", "dark"] = request.param
    with signed_in(browser, site, "ada", color_scheme=scheme, bypass_csp=True, reduced_motion="reduce") as context:
        context.add_init_script(_AXE)
        yield context


def test_no_page_breaks_a_rule(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    found = {}
    for name, path in {**PAGES, "login": "/login"}.items():
        page.goto(path.format(**site.runs))
        page.wait_for_load_state("load")
        if broken := page.evaluate(_RULES):
            found[name] = broken
    page.close()
    assert found == {}


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


@pytest.mark.parametrize("path", ["/runs", "/runs/{GREEN}", "/images/harbour/web/-/main", "/workers", "/disk"])
def test_a_phone_scrolls_in_one_direction_only(browser: Browser, site: Site, path: str) -> None:
    with signed_in(browser, site, "ada", viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto(path.format(**site.runs))
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
