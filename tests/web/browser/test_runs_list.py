"""The list of runs, as somebody at a keyboard finds it."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, Route, expect

from tests.toolkit.bounds import Deadline
from tests.web.browser import plays
from tests.web.browser.conftest import PASSWORD, Site, signed_in
from tests.web.browser.stage import HOSTILE


def test_sign_in_leads_to_the_page_that_was_asked_for(browser: Browser, site: Site) -> None:
    with browser.new_context(base_url=site.url) as context:
        page = context.new_page()
        page.goto(f"/runs/{site.runs['GREEN']}")
        page.get_by_label("Name").fill("grace")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text(plays.GREEN.trigger.title)
        assert page.url.endswith(f"/runs/{site.runs['GREEN']}")


def test_filters_stand_in_the_address(page: Page, site: Site) -> None:
    page.goto("/runs")
    page.keyboard.press("/")
    page.keyboard.type("edge cache")
    page.get_by_label("Project").select_option("web")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("text=edge\\+cache"))
    page.get_by_role("group", name="State").get_by_role("link", name="succeeded").click()
    page.wait_for_url(re.compile("project=web&state=succeeded&text=edge\\+cache"))
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(f"#{site.runs['GREEN']}")
    page.get_by_text("Save as a view…").click()
    page.get_by_label("Name of the view").fill("Edge cache")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name="Edge cache", exact=True)).to_have_attribute("aria-current", "true")
    page.get_by_role("button", name="Forget this view").click()
    page.goto("/runs?project=web&state=succeeded&text=edge+cache")
    page.get_by_role("link", name="text edge cache").click()
    page.wait_for_url(re.compile("project=web&state=succeeded$"))
    page.get_by_role("link", name="Clear").click()
    expect(rows).not_to_have_count(1)


def test_the_palette_finds_and_the_keys_lead(page: Page, site: Site) -> None:
    page.goto("/workers")
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Find a run, commit, image, page or action")
    expect(field).to_be_focused()
    page.keyboard.type(f"#{site.runs['RED']}")
    expect(page.get_by_role("option", name=f"#{site.runs['RED']} ")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"/runs/{site.runs['RED']}"))
    page.goto("/workers")
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url(re.compile("/projects$"))
    page.keyboard.press("j")
    expect(page.locator("a.row").first).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys of this page")).to_contain_text("Next row")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url(re.compile("/$"))
    expect(page).to_have_title(re.compile("^✗ [0-9] failing · Home"))
    assert "cf3a34" in (page.locator("#tab-icon").get_attribute("href") or "")


def test_a_waiting_run_says_why(page: Page, site: Site) -> None:
    page.goto("/runs?state=queued")
    expect(page.locator("table.runs")).to_contain_text("no running worker has the label arm64")


def test_the_list_is_live(page: Page, site: Site) -> None:
    page.goto("/runs?text=brand+new")
    expect(page.get_by_text("No such run")).to_be_visible()
    number = site.stage.queue("web", plays.PUSH_OF_NEWS, labels=("arm64",))
    expect(page.locator("table.runs")).to_contain_text(f"#{number}")
    site.service.runs.cancel(number)
    expect(page.locator("table.runs .status-cancelled")).to_be_visible()


def test_a_server_that_is_away_is_told(browser: Browser, site: Site) -> None:
    with signed_in(browser, site, "linus") as context:
        page = context.new_page()
        page.goto("/runs")
        context.set_offline(True)
        expect(page.get_by_text("The server does not answer")).to_be_visible()
        context.set_offline(False)
        expect(page.get_by_text("The server does not answer")).to_have_count(0)


def test_what_people_wrote_stays_text(page: Page, evil: int) -> None:
    for path in ("/runs", f"/runs/{evil}", f"/runs/{evil}/again"):
        page.goto(path)
        expect(page.locator("main").get_by_text(HOSTILE).first).to_be_visible()
        assert page.title() != "owned"
        assert page.locator("main script, main img, main i, main b").count() == 0
        assert page.locator("a[href^='javascript']").count() == 0


def test_a_viewer_sees_no_buttons_that_would_be_refused(browser: Browser, site: Site) -> None:
    with signed_in(browser, site, "linus") as context:
        page = context.new_page()
        page.goto(f"/runs/{site.runs['RED']}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("button", name="Retry")).to_have_count(0)


def test_colours_switch_and_stay_however_late_the_answers_come(page: Page, site: Site) -> None:
    page.goto("/runs")
    held: list[Route] = []
    page.route("**/account/look", lambda route: held.append(route))
    page.get_by_role("button", name="Colours: as the system").click()
    page.get_by_role("button", name="Colours: light").click()
    for _ in range(2):  # the newest first, where several are on their way
        deadline = Deadline(30, "the look is sent")
        while not held:
            deadline.check()
            page.wait_for_timeout(10)
        with page.expect_response("**/account/look"):
            held.pop().continue_()
    page.reload()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 22, 25)"
    assert site.service.preferences.get("ada").look.theme == "dark"


def test_hidden_tab_asks_seldom(page: Page) -> None:
    page.clock.install()
    page.goto("/")
    for _ in range(2):
        with page.expect_response("**/"):
            page.clock.run_for(4_000)
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response("**/"):
        page.clock.run_for(16_000)
    for _ in range(15):
        page.clock.run_for(4_000)
        page.evaluate("fetch('/').then((answer) => answer.text())")  # and what was asked before is answered, too
    assert len([url for url in asked if url.endswith("/")]) - 15 <= 6
