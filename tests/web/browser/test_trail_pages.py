"""The trail in a browser: from a run to its image, its layer, a comparison, and back to the commit; and rules."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from playwright.sync_api import Browser, Page, expect

from registry.server.settings import Policy
from registry.server.survey import list_tags
from tests.web.browser import plays
from tests.web.browser.conftest import Site, signed_in
from tests.web.browser.stock import ABOVE, BASE, Stock, layer_tar

_COMMITS = ("9ab" + "0" * 37, "7c1" + "d" * 37)
_MARK = "‮"
"""Turns what follows it around: a name with it must not turn the page's own words."""


def _made(site: Site, tag: str, commit: str, title: str) -> int:
    """A run that pushed what a tag leads to."""
    digest = str(site.registry.manifests.find("harbour/web", tag).digest)
    names = (f"{site.url.removeprefix('http://')}/harbour/web:{tag}",)
    trigger = msgspec.structs.replace(plays.GREEN.trigger, branch="trail", title=title, commit=commit)
    return site.stage.play(replace(plays.GREEN, names=names, manifest=digest, trigger=trigger))


def test_a_run_leads_to_its_image_a_layer_what_changed_and_the_commit(page: Page, site: Site) -> None:
    older = _made(site, "main", _COMMITS[0], "Before")
    newer = _made(site, "stable", _COMMITS[1], f"After {_MARK}turned")
    trail = page.get_by_role("navigation", name="Trail")
    page.goto(f"/runs/{newer}")
    trail.get_by_role("link", name="harbour/web:stable").click()
    expect(page.get_by_text(f"1 changed since #{older}")).to_be_visible()
    page.get_by_role("link", name="Layer 2 COPY").click()
    expect(page.get_by_role("row").filter(has_text="usr/")).to_contain_text("~1")
    page.get_by_text("Compare with", exact=True).click()
    page.get_by_role("link", name="main", exact=True).click()
    page.get_by_role("link", name="Files").click()
    expect(page.get_by_role("row").filter(has_text="tide")).to_contain_text("content")
    expect(page.locator(".sums")).to_contain_text("+1 added ~1 changed −0 removed")
    page.get_by_role("link", name=f"#{newer}").click()
    trail.get_by_role("link", name=f"commit {_COMMITS[1][:7]}").click()
    assert page.url.endswith(f"/commits/{_COMMITS[1]}")
    expect(page.get_by_role("heading", level=1).locator("bdi")).to_have_text(f"After {_MARK}turned")
    expect(page.get_by_role("row").filter(has_text=f"#{newer}")).to_contain_text("harbour/web:stable")
    page.goto(f"/runs/{newer}/compare/{older}")
    expect(page.get_by_role("link", name="Compare the images")).to_be_visible()
    expect(page.get_by_role("heading", name="Commits between")).to_be_visible()


def test_several_tags_go_at_once_and_immutable_ones_stay(page: Page, site: Site) -> None:
    shelf = Stock(site.registry, "harbour/many-tags")
    shelf.image([layer_tar(BASE)], "a", "b", "v1", "keep")
    site.registry.rules.set("harbour/many-tags", Policy("", immutable_tags=("v*",)))
    page.goto("/images/harbour/many-tags")
    button = page.locator("#delete-chosen")
    expect(button).to_be_disabled()
    for tag in ("a", "b", "v1"):
        page.get_by_role("checkbox", name=f"Choose {tag}", exact=True).check()
    expect(button).to_have_text("Delete 3 tags…")
    button.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 2 tags?")
    expect(page.get_by_role("listitem").filter(has_text="v1")).to_contain_text("immutable")
    page.get_by_role("button", name="Delete 2 tags").click()
    expect(page.get_by_role("status").filter(has_text="2 deleted")).to_be_visible()
    assert [tag.name for tag in list_tags(site.registry.store, "harbour/many-tags")] == ["keep", "v1"]


def test_rules_are_chosen_and_what_is_wrong_is_told_beside_what_was_typed(page: Page, site: Site) -> None:
    Stock(site.registry, "harbour/ruled").image([layer_tar(ABOVE)], "v1")
    page.goto("/images/harbour/ruled")
    page.get_by_role("link", name="Rules").click()
    page.get_by_label("Quota").fill("much")
    page.get_by_label("Immutable tags").fill("v*")
    page.get_by_role("button", name="Save the rules").click()
    expect(page.get_by_role("alert")).to_contain_text("Not a size: 'much'", ignore_case=True)
    page.get_by_label("Quota").fill("2 GiB")
    page.get_by_role("button", name="Save the rules").click()
    expect(page.get_by_role("status").filter(has_text="saved")).to_be_visible()
    assert site.registry.settings.policy("harbour/ruled").quota_bytes == 2 << 30
    entry = site.service.audit.list(limit=1)[0]
    assert (entry.action, entry.detail) == ("set image rules", f"quota {2 << 30} bytes; immutable v*")
    assert [(each.what, each.before, each.after) for each in entry.changes] == [
        ("quota", "", "2 GiB"), ("immutable_tags", "", "v*"),
    ]  # fmt: skip


def test_a_member_sees_rules_and_changes_none(browser: Browser, site: Site) -> None:
    with signed_in(browser, site, "grace") as context:
        page = context.new_page()
        page.goto("/images/harbour/web/-/-/rules")
        expect(page.get_by_text("Retention: all tags stay")).to_be_visible()
        assert page.get_by_role("button", name="Save the rules").count() == 0


def test_texts_of_strangers_stay_short_and_isolated(page: Page, site: Site) -> None:
    labels = {f"l{_MARK}": f"{_MARK}reversed", "huge": "x" * 500_000}
    shelf = Stock(site.registry, "harbour/odd")
    shelf.image([layer_tar({f"srv/{_MARK}name": b"1"})], "main", config={"Labels": labels})
    page.goto("/images/harbour/odd/-/main/layers/0?path=srv")
    expect(page.locator("#layers bdi").filter(has_text="name")).to_be_visible()
    text = page.locator("main").inner_text()
    assert "500,000 characters" in text
    assert len(text) < 20_000
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
