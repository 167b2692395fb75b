"""The page of an output for people, in a browser: what is in it, at every width, by keyboard and to be saved."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from ci.ends import JobOutcome, Published
from ci.graph import JobNode
from images.store import Store
from tests.web.browser.conftest import Site
from tests.web.test_jobs_api import claimed, nothing, planned
from tests.web.test_outputs import EVIL, stored


def test_an_output_is_looked_through_and_saved(page: Page, site: Site) -> None:
    service = site.service
    with Store.open(service.settings.root) as store:
        layer = stored(store)
        store.kept.keep("output/1/make/site", [layer], until=4e9)
    number = planned(service, JobNode("make"))
    made = JobOutcome("succeeded", published=(Published("site", layer, 3, 10, 30 * 86400.0),))
    service.claims.finish(claimed(service), "succeeded", "", made, store=nothing)
    page.goto(f"/runs/{number}/jobs/2")
    page.get_by_role("link", name="site", exact=True).click()
    expect(page.get_by_role("heading", name="site", level=1)).to_be_visible()
    page.get_by_role("link", name="site/").click()
    expect(page.get_by_text(EVIL.decode())).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save index.html").click()
    assert saved.value.path().read_bytes() == b"<h1>Hi!\n\n"
    with page.expect_download() as saved:
        page.get_by_role("link", name="zip").click()
    assert saved.value.suggested_filename == "site.zip"
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
