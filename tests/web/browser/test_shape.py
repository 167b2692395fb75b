"""What pages are for those who do not see them, on paper, and with thousands of branches or a title of 10 kB."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import insert

from pipelines.model import ContextSource, Project, RunRequest, Trigger
from pipelines.schema import heads
from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in

_SOURCE: Final = ContextSource("sha256:" + "0" * 64)
SHAPES: Final = {
    "home": """
      - heading "Home" [level=1]
      - group "Filter":
        - link /All \\d+/
        - link /Failing \\d+/
      - heading "Projects" [level=2]
      - article:
        - heading /failed .*/ [level=2]
      - region "Now"
      - region "Health"
    """,
    "run-failed": """
      - heading /#\\d+ Pad the departures on the left/ [level=1]
      - button "Retry"
      - tree "Jobs and steps":
        - treeitem /All output .*/ [level=1]
        - treeitem /failed build .*/ [expanded] [level=1]
        - treeitem /failed RUN npm ci .* exit code 1/ [level=3] [selected]
      - region "build / RUN npm ci":
        - search "Search the log"
        - region "Why it failed"
        - region "Lines of the log"
    """,
    "service": """
      - heading "Service" [level=1]
      - region "Health":
        - list:
          - listitem: /well. database SQLite.*/
      - region "Disk"
      - region "Backup"
      - region "Settings in force"
    """,
    "settings-builds": """
      - heading "web" [level=1]
      - navigation "Sections of the settings":
        - link "Builds"
        - link "Danger zone"
      - heading "Builds" [level=2]
      - group "What is built":
        - textbox "Branches"
        - combobox "Pull requests"
      - group "How it is built"
      - button "Save"
    """,
    "settings-danger": """
      - heading "Danger zone" [level=2]
      - region "Remove the project":
        - textbox "Type web to remove it"
        - button "Remove web"
    """,
    "api-operation": """
      - heading "PUT /api/v1/projects/{project}" [level=1]
      - term: Who may call it
      - definition: who maintains the project
      - region "Parameters":
        - table
      - region "Body":
        - group "An example of the body"
      - region "Errors"
    """,
}
"""By page: parts of its accessibility tree, in their order; what is beside them may change."""


@pytest.mark.parametrize("name", SHAPES)
def test_page_has_its_shape_for_who_does_not_see_it(page: Page, site: Site, name: str) -> None:
    page.goto(PAGES[name].format(**site.runs))
    expect(page.locator("main")).to_match_aria_snapshot(SHAPES[name])


def test_a_failed_run_on_paper_has_head_tree_verdict_and_its_lines(page: Page, site: Site) -> None:
    page.goto(PAGES["run-failed"].format(**site.runs))
    page.locator(".l .t:not(.waiting)").first.wait_for()
    page.emulate_media(media="print")
    for shown in (
        page.get_by_role("heading", level=1),
        page.get_by_role("treeitem", name="RUN npm ci"),
        page.get_by_role("alert"),
        page.get_by_text("failed in 3.10 s: exit code 1"),
    ):
        expect(shown.first).to_be_visible()
    for hidden in (
        page.get_by_role("navigation", name="Main"),
        page.get_by_role("button", name="Retry"),
        page.get_by_role("search"),
    ):
        expect(hidden).to_be_hidden()


_ASTRAY: Final = """() => {
  const wrong = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const at = walker.currentNode;
    if (!at.data.includes("\u202e") || !at.parentElement.checkVisibility()) continue;
    let box = at.parentElement;
    while (box && !/isolate|plaintext/.test(getComputedStyle(box).unicodeBidi)) box = box.parentElement;
    if (!box || box.querySelector("h1, p, li, tr, div")) wrong.push(at.parentElement.outerHTML.slice(0, 200));
  }
  if ([...document.querySelectorAll("b")].some((bold) => bold.textContent.startsWith("wide"))) wrong.push("markup");
  return wrong;
}"""
"""Texts that turn words round, and may turn those beside them round, too; and markup that a stranger wrote."""


def test_many_branches_and_a_title_of_ten_kilobytes_stay_in_their_place(browser: Browser, site: Site) -> None:
    """10,000 branches, whose run has a title of 10 kB that turns words round; and trends of a single cancelled run."""
    service, title = site.service, "\u202e<b>" + "wide" * 2500
    service.projects.put(Project("broad"))
    request = RunRequest(_SOURCE, "broad", worker_labels=("nobody",))
    run = service.runs.submit(request, Trigger("push", branch="main", title=title))
    service.runs.cancel(run.number, by=f"\u202e{title[:60]}")
    waiting = service.runs.submit(request, Trigger("push", by="\u202eabbo", branch="\u202eniam", title=title))
    service.audit.add("\u202eabbo", "look", f"project={title[:100]}", title[:200], project="broad")
    with service.database.write() as connection:
        rows = [{"project": "broad", "kind": "branch", "name": f"b/{n:05}", "run": run.number} for n in range(10_000)]
        connection.execute(insert(heads), rows)
    astray = {}
    with signed_in(browser, site, "ada", viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        runs = ("runs?project=broad", "runs?text=wide", f"runs/{run.number}", f"runs/{run.number}/again", "find?q=wide")
        others = ("", "workers", "audit", "projects?show=archived", *runs)
        for path in ("", "/branches", "/trends", "/deliveries", *(f"/../../{other}" for other in others)):
            page.goto(f"/projects/broad{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            assert page.locator("main tr, main li").count() < 500, path
            if found := page.evaluate(_ASTRAY):
                astray[path] = found
    service.runs.cancel(waiting.number)
    service.projects.remove("broad")
    assert astray == {}
