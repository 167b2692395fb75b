"""Looking through the registry."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from playwright.sync_api import Page, expect

from registry.server.survey import TagSummary, list_tags
from tests.web.browser import plays
from tests.web.browser.conftest import Site
from tests.web.browser.stage import HOSTILE
from tests.web.browser.stock import ABOVE, BASE, Files, Stock, layer_tar


def test_an_image_is_browsed_down_to_what_a_layer_changed(page: Page, site: Site) -> None:
    page.goto("/images")
    page.get_by_role("link", name="harbour/web").click()
    page.get_by_role("link", name="main", exact=True).click()
    expect(page.locator("main")).to_contain_text("COPY . /srv/www")
    page.get_by_role("link", name="Layer 1 ADD rootfs").click()
    expect(page.get_by_role("row").filter(has_text="etc/")).to_contain_text("+3")
    page.get_by_role("link", name="Layer 2 COPY").click()
    expect(page.locator(".board").nth(1)).to_contain_text("~1 −1")
    row = page.get_by_role("row").filter(has_text="etc/")
    expect(row).to_contain_text("~1")
    page.get_by_role("link", name="etc/").click()
    expect(page.get_by_role("row").filter(has_text="motd")).to_contain_text("modified")
    page.get_by_role("link", name="/", exact=True).click()
    page.get_by_role("link", name="usr/").click()
    page.get_by_role("link", name="share/").click()
    expect(page.get_by_role("row").filter(has_text="doc")).to_contain_text("removed")
    page.goto(f"{page.url.partition('?')[0]}?path=srv/www")
    expect(page.get_by_role("row").filter(has_text="index.html")).to_contain_text("added")


def test_a_large_directory_says_how_many_names_it_leaves_out(page: Page, site: Site) -> None:
    files: Files = {f"many/name-{number:04}": b"" for number in range(2002)}
    Stock(site.registry, "harbour/many").image([layer_tar(files)], "main", history=[])
    page.goto("/images/harbour/many/-/main/layers/0?path=many")
    expect(page.locator("#layers")).to_contain_text("and 2 more names")
    text = page.locator("#layers").inner_text()
    assert ("name-1999" in text, "name-2000" in text) == (True, False)


def test_what_an_image_says_stays_text(page: Page, evil: int) -> None:
    page.goto("/images/evil/image/-/main")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.locator("main").inner_text().count(HOSTILE) >= 4
    page.goto("/images/evil/image/-/main/layers/0?path=srv")
    expect(page.get_by_role("row").filter(has_text="<script>")).to_contain_text("added")
    assert page.locator("main script, main img").count() == 0
    assert "owned" not in page.title()


def test_an_index_leads_to_its_platforms_and_their_software(page: Page, site: Site) -> None:
    page.goto("/images/harbour/web/-/v2")
    page.get_by_role("link", name="linux/amd64").click()
    expect(page.get_by_text("2 packages by the SBOM")).to_be_visible()
    page.get_by_text("Software").click()
    expect(page.get_by_role("row").filter(has_text="libc6")).to_contain_text("2.41-12")
    expect(page.get_by_role("link", name="application/vnd.example.signature")).to_be_visible()


def test_deleting_a_tag_asks_first(page: Page, site: Site) -> None:
    Stock(site.registry, "harbour/old").image([layer_tar(BASE), layer_tar(ABOVE)], "v0", "v1")
    page.goto("/images/harbour/old/-/v0")
    page.get_by_role("button", name="Delete the tag").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    assert [tag.name for tag in _tags(site)] == ["v0", "v1"]
    page.get_by_role("button", name="Delete the tag").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the tag").click()
    expect(page.get_by_role("status").filter(has_text="It was deleted")).to_be_visible()
    assert [tag.name for tag in _tags(site)] == ["v1"]


def test_the_cache_is_looked_at_and_shrunk(page: Page, site: Site) -> None:
    page.goto("/disk")
    expect(page.get_by_role("row").filter(has_text="RUN npm ci")).to_contain_text("3.4 MB")
    page.get_by_label("Shrink to (GB)").fill("0.001")
    page.get_by_role("button", name="Shrink").click()
    page.get_by_role("dialog").get_by_role("button", name="Shrink").click()
    expect(page.get_by_role("status").filter(has_text="free again")).to_be_visible()
    assert site.registry.store.cache_use.size_bytes() <= 1_000_000
    expect(page.get_by_role("row").filter(has_text="COPY /srv")).to_be_visible()


def _tags(site: Site) -> list[TagSummary]:
    return list_tags(site.registry.store, "harbour/old")


def test_a_run_leads_to_the_image_that_it_made(page: Page, site: Site) -> None:
    digest = str(site.registry.manifests.find("harbour/web", "main").digest)
    names = (f"{site.url.removeprefix('http://')}/harbour/web:main", "elsewhere.example.org/not/here:main")
    trigger = msgspec.structs.replace(plays.GREEN.trigger, title="Show the image")
    number = site.stage.play(replace(plays.GREEN, names=names, manifest=digest, trigger=trigger))
    page.goto(f"/runs/{number}")
    expect(page.get_by_role("link", name="Layers and files")).to_have_count(1)
    page.get_by_role("link", name="Layers and files").click()
    expect(page.get_by_role("link", name="Layer 2 COPY . /srv/www")).to_be_visible()
    expect(page.get_by_role("navigation", name="Trail")).to_contain_text(f"#{number}")
