"""Signing in and out in a browser, which has its own mind about cookies, forms and redirects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from core.settings import OidcSettings
from tests.toolkit.bounds import eventually
from tests.web.browser.conftest import PASSWORD, Site
from tests.web.guard.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from web.backing import PROVIDER
from web.identities import Provider


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Page]:
    """A browser without a session."""
    context = browser.new_context(base_url=site.url)
    yield context.new_page()
    context.close()


def arrive(page: Page, address: str) -> None:
    """Open a page with all its parts: again where one did not come.

    Chromium drops what it is about to fetch when an interface of this host changes, as other tests do it, and a page
    without its script says nothing of that.
    """
    dropped: list[str] = []

    def note(request: Request) -> None:
        dropped.append(f"{request.url}: {request.failure}")

    def is_whole() -> bool:
        page.goto("about:blank")  # from the same page, an address with "#" would only be scrolled to
        dropped.clear()
        page.goto(address)
        return not dropped

    page.on("requestfailed", note)
    eventually(is_whole, why=f"{address} with all its parts")
    page.remove_listener("requestfailed", note)


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_who_asks_for_a_page_signs_in_and_gets_it(visitor: Page, site: Site) -> None:
    visitor.goto("/images?x=1")
    expect(visitor).to_have_url(re.compile(r"/login\?next=/images%3Fx%3D1$"))
    expect(visitor.get_by_role("navigation")).to_have_count(0)
    log_in(visitor, "ada", "wrong password")
    expect(visitor.get_by_role("alert")).to_contain_text("Wrong name or password")
    log_in(visitor, "ada", PASSWORD)
    expect(visitor).to_have_url(f"{site.url}/images?x=1")
    visitor.get_by_role("button", name="Sign out").click()
    expect(visitor).to_have_url(f"{site.url}/login")
    visitor.goto("/images")
    expect(visitor).to_have_url(re.compile("/login"))


def test_the_line_of_a_permalink_survives_signing_in(visitor: Page, site: Site) -> None:
    address = f"/runs/{site.runs['LONG']}#L1200-L1210"
    arrive(visitor, address)
    log_in(visitor, "ada", "wrong password")
    expect(visitor.get_by_role("alert")).to_contain_text("Wrong name or password")
    log_in(visitor, "ada", PASSWORD)
    expect(visitor).to_have_url(f"{site.url}{address}")
    expect(visitor.locator(".l.chosen .n").first).to_have_text("1200")


def test_a_session_that_ends_while_a_page_is_shown_leads_back_to_its_line(visitor: Page, site: Site) -> None:
    address = f"/runs/{site.runs['GREEN']}#L2"
    arrive(visitor, address)
    log_in(visitor, "ada", PASSWORD)
    expect(visitor).to_have_url(f"{site.url}{address}")
    arrive(visitor, address)
    visitor.context.clear_cookies()
    visitor.evaluate("htmx.ajax('GET', location.pathname + '/head', { target: '#head', swap: 'none' })")
    expect(visitor).to_have_url(re.compile("/login"))
    log_in(visitor, "ada", PASSWORD)
    expect(visitor).to_have_url(f"{site.url}{address}")


def test_invited_user_chooses_a_password_and_makes_a_token(page: Page, visitor: Page, site: Site) -> None:
    page.goto("/users")
    page.get_by_label("Name of a new user").fill("barbara")
    page.get_by_role("button", name="Add a user").click()
    link = page.locator("[data-copy]").get_attribute("data-copy")
    assert link is not None
    visitor.goto(link)
    for label in ("Password", "The password again"):
        visitor.get_by_label(label, exact=True).fill(PASSWORD)
    visitor.get_by_role("button", name="Set the password").click()
    expect(visitor).to_have_url(f"{site.url}/")
    visitor.get_by_role("link", name="barbara").click()
    visitor.get_by_label("Name of a new token").fill("laptop")
    visitor.get_by_role("button", name="Make a token").click()
    expect(visitor.locator("[data-copy]")).to_have_attribute("data-copy", re.compile("^shp_"))
    visitor.get_by_role("button", name="Revoke").click()
    visitor.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(visitor.get_by_role("status").filter(has_text="The token is revoked.")).to_be_visible()
    assert site.service.tokens.list(owner="barbara") == []


def test_pages_before_signing_in_break_no_rule_of_accessibility(browser: Browser, site: Site) -> None:
    axe = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
    link = site.service.links.create("linus")
    context = browser.new_context(base_url=site.url, bypass_csp=True, reduced_motion="reduce")
    context.add_init_script(axe)
    page = context.new_page()
    for path in ("/login", f"/welcome?link={link}", "/welcome?link=none"):
        page.goto(path)
        assert page.evaluate("async () => (await axe.run()).violations.map((rule) => rule.id)") == []
    context.close()


def test_provider_of_another_site_signs_in(visitor: Page, site: Site) -> None:
    """From its site back to ours the browser sends Lax cookies, and no Strict ones: the state must be of the former."""
    with IdentityProvider(host="localhost") as provider:
        settings = OidcSettings(provider.issuer, CLIENT_ID, CLIENT_SECRET, roles=(("*", "viewer"),), name="Example")
        site.app.extensions[PROVIDER] = Provider(settings)
        try:
            visitor.goto("/workers#row-1")
            visitor.get_by_role("link", name="Sign in by Example").click()
            expect(visitor).to_have_url(f"{site.url}/workers#row-1")
        finally:
            site.app.extensions[PROVIDER] = None
    expect(visitor.get_by_role("link", name="jane.doe")).to_be_visible()
