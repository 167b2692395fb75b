"""Previews in a browser: what a job's page may do, here and on the host for outputs, and how files look."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from tests.web.browser.conftest import Site, _Closing, _Quiet, signed_in
from tests.web.test_previews import published
from web.previews import OutputsHost

_DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_SCRIPT = b"""
const told = {};
try { told.cookie = document.cookie } catch { told.cookie = "denied" }
try { localStorage.setItem("a", "b"); told.storage = "there" } catch { told.storage = "denied" }
fetch("data.json").then(answer => answer.json()).then(found => { told.data = found.x })
  .catch(() => { told.data = "denied" })
  .then(() => fetch(MAIN + "/runs", {credentials: "include"}))
  .then(() => { told.main = "reached" }).catch(() => { told.main = "denied" })
  .then(() => { document.getElementById("told").textContent = JSON.stringify(told) });
"""
_HTML = b"""<!doctype html><title>report</title><link rel=stylesheet href=style.css>
<h1>Green</h1><img src=dot.png><p id=told>nothing ran</p><script>const MAIN = "%s"</script><script src=s.js></script>"""


@pytest.fixture
def run(site: Site) -> int:
    return published(site.service, {
        "index.html": _HTML.replace(b"%s", site.url.encode()), "style.css": b"h1 { color: rgb(0, 128, 0) }",
        "s.js": _SCRIPT, "dot.png": _DOT, "data.json": b'{"x": 7}', "build.log": b"compiled\n" * 40,
        "a-file-with-a-name-that-is-rather-long-for-a-telephone.txt": b"x", "tool.bin": b"\0",
    })  # fmt: skip


@pytest.fixture
def apart(site: Site) -> Iterator[str]:
    """The host for outputs of the site: ``localhost``, where the service itself is 127.0.0.1."""
    server = make_server("127.0.0.1", 0, _Closing(site.app), threaded=True, request_handler=_Quiet)
    url = f"http://localhost:{server.port}"
    server.app = OutputsHost(_Closing(site.app), url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url
    server.shutdown()
    thread.join()


def test_here_a_page_is_shown_and_no_script_of_it_runs(browser: Browser, site: Site, run: int) -> None:
    context = signed_in(browser, site, "linus")
    page = context.new_page()
    page.goto(f"/runs/{run}/jobs/2/outputs/report/look/index.html")
    assert urlsplit(page.url).path.startswith("/o/")
    heading = page.get_by_role("heading", name="Green")
    expect(heading).to_have_css("color", "rgb(0, 128, 0)")
    expect(page.locator("#told")).to_have_text("nothing ran")
    assert page.locator("img").evaluate("image => image.naturalWidth") == 1, "images beside it are shown"
    context.close()


def test_on_the_host_for_outputs_scripts_run_and_see_nothing_but_the_output(
    browser: Browser, site: Site, run: int, apart: str
) -> None:
    context = signed_in(browser, site, "linus")
    page = context.new_page()
    page.goto(f"/runs/{run}/jobs/2/outputs/report/look/index.html")
    page.goto(apart + urlsplit(page.url).path)
    expect(page.locator("#told")).to_have_text('{"cookie":"denied","storage":"denied","data":7,"main":"denied"}')
    expect(page.get_by_role("heading", name="Green")).to_have_css("color", "rgb(0, 128, 0)")
    context.close()


@pytest.mark.parametrize("width", [1366, 390])
def test_files_are_looked_at(page: Page, run: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"/runs/{run}/jobs/2/outputs/report")
    expect(page.get_by_role("link", name="open")).to_be_visible()
    _picture(page, f"output-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name="build.log", exact=True).click()
    expect(page.get_by_text("compiled").first).to_be_visible()
    _picture(page, f"text-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.go_back()
    page.get_by_role("link", name="dot.png", exact=True).click()
    image = page.get_by_role("img", name="dot.png")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") == 1
    _picture(page, f"image-{width}")
    page.go_back()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save tool.bin").click()
    assert saved.value.suggested_filename == "tool.bin"


def _picture(page: Page, name: str) -> None:
    """For whoever looks at how it looks."""
    if place := os.environ.get("SHIPLAP_LOOK"):
        page.screenshot(path=str(Path(place) / f"{name}.png"))


@pytest.mark.parametrize("width", [1366, 390])
def test_the_disk_page_has_what_outputs_take(page: Page, run: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/disk")
    tile = page.locator(".tile", has=page.get_by_role("heading", name="Outputs for people"))
    expect(tile.get_by_text("runs that are gone").or_(tile.get_by_role("link")).first).to_be_visible()
    _picture(page, f"disk-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
