"""Pictures of the pages for the documents. ``SHIPLAP_SCREENSHOTS=docs/screenshots pytest …`` makes them anew there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in

_CHECKOUT = Path(__file__).resolve().parents[3]
_MAX_BYTES = 250_000
_DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
_PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "reduced_motion": "reduce"}
_UNSHOWN = (
    "login",
    "not-found",
    "home-failing",
    "find",
    "branches",
    "pulls",
    "settings",
    "settings-builds",
    "settings-danger",
    "api-operation",
    "container-ended",
    "container-files",
    "container-stats",
    "container-inspect",
    "container-shell",
    "container-no-shell",
    "networks",
    "volumes",
)
_SHOTS = {
    **{name: (name, _DESKTOP) for name in PAGES if name not in _UNSHOWN},
    "home-dark": ("home", {**_DESKTOP, "color_scheme": "dark"}),
    "run-dark": ("run", {**_DESKTOP, "color_scheme": "dark"}),
    "run-phone": ("run", _PHONE),
    "pipeline-phone": ("pipeline", _PHONE),
    "runs-phone-dark": ("runs", {**_PHONE, "color_scheme": "dark"}),
}
_ALWAYS = ("runs", "log", "run-dark", "runs-phone-dark")  # the heaviest, and one of each kind


def test_every_page_has_its_picture(browser: Browser, site: Site, tmp_path: Path) -> None:
    wanted = os.environ.get("SHIPLAP_SCREENSHOTS")
    directory = _CHECKOUT / wanted if wanted else tmp_path
    site.service.workers.beat("worker-1", ("amd64",), 2)
    for name in _SHOTS if wanted else _ALWAYS:
        address, options = _SHOTS[name]
        site.service.sessions.end_all("ada")
        with signed_in(browser, site, "ada", **options) as context:
            page = context.new_page()
            page.goto(PAGES[address].format(**site.runs))
            _settle(page)
            page.screenshot(path=directory / f"{name}.png")
    assert {path.stem for path in (_CHECKOUT / "docs" / "screenshots").glob("*.png")} == set(_SHOTS)
    heavy = {path.name: path.stat().st_size for path in directory.glob("*.png") if path.stat().st_size > _MAX_BYTES}
    assert heavy == {}


@pytest.mark.parametrize("document", ["README.md", "docs/dashboard.md"])
def test_documents_show_pictures_that_there_are(document: str) -> None:
    path = _CHECKOUT / document
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", path.read_text())
    assert shown
    assert [name for name in shown if not (path.parent / name).is_file()] == []


def _settle(page: Page) -> None:
    """Until the log is drawn, where there is one; and until the service was looked at."""
    if page.locator("#log").count():
        page.locator(".l .t:not(.waiting)").first.wait_for()
    if page.locator("#health-part").count():
        page.locator(".findings").wait_for()
