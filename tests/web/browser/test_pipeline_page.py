"""The page of a pipeline's run: graph, jobs, the chosen one's log; live, by keys, on a phone, without script."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ci.ends import JobOutcome
from ci.graph import JobNode
from pipelines.model import GitSource, RunRequest, Trigger
from tests.web.browser.conftest import Site, signed_in
from tests.web.browser.pipelines import COMMIT, ENDS, GOOD, Pipeline, plan, planned
from tests.web.browser.test_accessibility import everywhere


def row(page: Page, name: str) -> Locator:
    """The row of a job in the tree."""
    shown = page.get_by_text(name, exact=True)
    return page.locator('#tree [role=treeitem][aria-level="1"]').filter(has=shown)


_HALF = {name: end for name, end in ENDS.items() if name in ("lint", "gen", "test (3.11)")}


@pytest.fixture(scope="module")
def failed(site: Site) -> int:
    return site.runs["PIPELINE"]


@pytest.fixture
def going(site: Site) -> Iterator[Pipeline]:
    """A run some jobs of which are open, and one waits for a worker that there is not."""
    pipeline = plan(site.service, _HALF, labels={"docs": ("gpu",)})
    yield pipeline
    pipeline.close()


def test_page_breaks_no_rule(browser: Browser, site: Site, failed: int, going: Pipeline) -> None:
    found: dict[str, list[str]] = {}
    with signed_in(browser, site, "ada", color_scheme="light", bypass_csp=True, reduced_motion="reduce") as context:
        page = context.new_page()
        for path in (
            f"/runs/{failed}", f"/runs/{failed}/jobs/8?open=test", f"/runs/{failed}/all", f"/runs/{going.number}",
            f"/runs/{going.number}/jobs/8", "/runs?project=shop",
        ):  # fmt: skip
            page.set_viewport_size({"width": 1366, "height": 844})
            page.goto(path)
            found |= {f"{path}: {where}": broken for where, broken in everywhere(page).items() if broken}
    assert found == {}


def test_page_begins_with_the_job_that_failed(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}")
    expect(page.get_by_role("heading", name="test (3.13) / make test (3.13)")).to_be_visible()
    verdict = page.locator("#job.verdict")
    expect(verdict).to_contain_text("tests.test_version::test_order[3.13] failed: 10.12 is not 10.13")
    expect(verdict).to_contain_text("exit code 3")
    expect(verdict).to_contain_text("the same commit passes in test (3.11), test (3.12)")
    expect(page.locator(".log-lines")).to_contain_text("this is test (3.13)")
    row(page, "gen").click()
    expect(page.get_by_role("heading", name="gen")).to_be_visible()
    expect(page.locator(".log-lines")).to_contain_text("this is gen")
    expect(page).to_have_url(re.compile(rf"/runs/{failed}/jobs/3$"))


_WAIT_UNTIL_NEW = """async () => {
  const parts = () => ["head", "tree"].map((id) => document.getElementById(id));
  for (const part of parts()) delete part.dataset.etag;
  while (parts().some((part) => !part.dataset.etag)) await new Promise(requestAnimationFrame);
}"""


def test_parts_that_come_anew_take_nothing_from_who_uses_them(page: Page, going: Pipeline) -> None:
    page.set_viewport_size({"width": 1366, "height": 500})
    page.goto(f"/runs/{going.number}")
    page.locator("#tree").evaluate("tree => { tree.scrollTop = 40; }")
    page.get_by_role("button", name="Cancel run").focus()
    page.evaluate(_WAIT_UNTIL_NEW)
    assert page.locator("#tree").evaluate("tree => tree.scrollTop") == 40
    expect(page.get_by_role("button", name="Cancel run")).to_be_focused()
    row(page, "docs").hover()
    page.mouse.down()
    for _ in range(2):
        with page.expect_response(re.compile("/tree")):
            pass
    page.mouse.up()
    expect(page.get_by_role("heading", name="docs")).to_be_visible()


def test_mark_at_a_commit_leads_to_its_job(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}?job=2")
    expect(page.get_by_role("heading", name="lint")).to_be_visible()


def test_graph_leads_to_jobs_and_opens_matrices(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}")
    graph = page.locator("svg.graph")
    expect(graph.locator("a")).to_have_count(8)
    expect(graph.get_by_role("link", name="app: skipped")).to_have_class(re.compile("dead"))
    graph.get_by_role("link", name="test × 3: 2 succeeded, 1 failed; opens").click()
    expect(graph.locator("a")).to_have_count(10)
    box = graph.get_by_role("link", name="test (3.12): succeeded")
    box.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="test (3.12)")).to_be_visible()
    expect(box).to_be_focused()
    expect(graph.locator("a")).to_have_count(10)
    page.get_by_role("link", name="Close test").click()
    expect(graph.locator("a")).to_have_count(8)
    expect(page.get_by_role("heading", name="test (3.12)")).to_be_visible()


def test_what_waits_was_skipped_and_left_out_says_why(page: Page, failed: int, going: Pipeline) -> None:
    page.goto(f"/runs/{failed}")
    expect(row(page, "deploy")).to_contain_text("test (3.13), which has to succeed before it, failed")
    expect(row(page, "release")).to_contain_text("it is not for push")
    page.goto(f"/runs/{going.number}")
    expect(row(page, "app")).to_contain_text("waits for test (3.12) and test (3.13)")
    expect(row(page, "docs")).to_contain_text("no running worker has the label gpu")


_PATCHED = """async () => {
  const { patch } = await import("/static/patch.js");
  let seed = 1;
  const below = (most) => (seed = (seed * 48271) % 2147483647) % most;
  const made = (depth) => {
    const part = document.createElement(["div", "p"][below(2)]);
    if (below(2)) part.setAttribute(["class", "title"][below(2)], String(below(3)));
    const names = Array.from({ length: 6 }, (_, at) => at).filter(() => below(2)).sort(() => below(3) - 1);
    for (const name of depth ? names : []) {
      const child = made(depth - 1);
      if (below(3)) child.id = `n${depth}-${name}`;
      part.append(child, ...(below(2) ? [String(below(3))] : []));
    }
    return part;
  };
  const wrong = [];
  for (let turn = 0; turn < 400; turn++) {
    const [old, fresh] = [document.createElement("section"), document.createElement("section")];
    old.append(made(3));
    fresh.append(made(3));
    const before = old.outerHTML;
    patch(old, fresh);
    old["normalize"]();
    fresh["normalize"]();
    if (!old.isEqualNode(fresh)) wrong.push([before, fresh.outerHTML, old.outerHTML]);
  }
  return wrong;
}"""


def test_part_that_is_polled_becomes_the_fresh_one_by_what_differs(page: Page, going: Pipeline) -> None:
    page.goto(f"/runs/{going.number}")
    assert page.evaluate(_PATCHED) == []
    before = [row(page, name).element_handle() for name in ("lint", "test (3.12)")]
    going.end("test (3.12)", GOOD)
    expect(row(page, "test (3.12)").locator(".status-succeeded")).to_be_visible()
    assert all(handle is not None and handle.evaluate("row => row.isConnected") for handle in before)
    going.end("test (3.13)", ENDS["test (3.13)"])
    expect(page.get_by_role("treeitem", name="All output")).to_contain_text("1 failed; f goes there")


def test_states_and_the_log_are_live(page: Page, going: Pipeline) -> None:
    page.goto(f"/runs/{going.number}")
    expect(page.get_by_role("heading", name="test (3.12)")).to_be_visible()
    log = page.locator(".log-lines")
    expect(log).to_contain_text("this is test (3.12)")
    going.say("test (3.12)", "and it goes on")
    expect(log).to_contain_text("and it goes on")
    box = page.locator("svg.graph").get_by_role("link", name=re.compile("^test × 3"))
    expect(box).to_have_attribute("aria-label", "test × 3: 1 succeeded, 2 running; opens")
    box.focus()
    for name in ("test (3.12)", "test (3.13)"):
        going.end(name, GOOD)
    going.go_on({})
    expect(box).to_have_attribute("aria-label", "test × 3: 3 succeeded; opens")
    expect(box).to_be_focused()
    expect(row(page, "test (3.12)").locator(".status-succeeded")).to_be_visible()
    expect(page.locator("#log")).not_to_have_attribute("data-live", "1")
    expect(page.locator("svg.graph").get_by_role("link", name="app: running")).to_be_visible()


def test_run_is_ended_gently_first(page: Page, going: Pipeline) -> None:
    page.goto(f"/runs/{going.number}")
    page.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#head")).to_contain_text("stopping")
    page.get_by_role("button", name="Kill what still runs").click()
    expect(page.locator("#head")).to_contain_text("stopping")
    expect(page.get_by_role("button", name="Kill what still runs")).to_have_count(0)


def test_job_is_cancelled_alone_and_done_again_alone(page: Page, site: Site, going: Pipeline, failed: int) -> None:
    page.goto(f"/runs/{going.number}/jobs/8")
    page.get_by_role("button", name="Cancel this job").click()
    expect(row(page, "docs").locator(".status-cancelled")).to_be_visible()
    assert site.service.runs.get(going.number).state == "running"
    page.goto(f"/runs/{failed}")
    page.get_by_role("button", name="Retry this job").click()
    expect(page.locator("#head")).to_contain_text(f"retry of #{failed} by ada")
    number = int(page.url.partition("?")[0].rpartition("/")[2])
    assert site.service.runs.get(number).trigger.redo == ("test (3.13)",)
    site.service.runs.cancel(number)
    page.goto(f"/runs/{failed}")
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#head")).to_contain_text(f"retry of #{failed} by ada")
    site.service.runs.cancel(int(page.url.partition("?")[0].rpartition("/")[2]))


def test_line_of_a_job_that_the_page_chose_has_the_job_s_address(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}")
    page.locator(".l", has_text="make test (3.13)").locator(".n").click()
    expect(page.locator(".l.chosen")).to_contain_text("make test (3.13)")
    page.wait_for_url(re.compile(rf"/runs/{failed}/jobs/6/1#L\d+$"))
    page.reload()
    expect(page.locator(".l.chosen")).to_contain_text("make test (3.13)")


def test_job_is_chosen_by_keys(page: Page, failed: int) -> None:
    log = page.locator(".log-lines")
    page.goto(f"/runs/{failed}")
    expect(log).to_contain_text("this is test (3.13)")  # the page's scripts are there
    page.keyboard.press("j")
    expect(log).to_contain_text("this is browser")
    page.keyboard.press("k")
    expect(log).to_contain_text("this is test (3.13)")
    page.keyboard.press("f")
    expect(page.get_by_role("heading", name="test (3.13) / make test (3.13)")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next failure")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jk")
    expect(page.locator("#log-text")).to_have_value("jk")


def test_search_is_in_the_job_s_own_log(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}/jobs/3")
    page.locator("#log-text").fill("this is")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_have_text("1 of 1")
    expect(page.locator(".l.current")).to_contain_text("this is gen")


def test_reused_job_leads_to_the_run_that_did_it(page: Page, site: Site, failed: int) -> None:
    ends = {**ENDS, "lint": JobOutcome("reused", reused_from=str(failed)), "gen": JobOutcome("reused", reused_from="1")}
    number = plan(site.service, ends).number
    page.goto(f"/runs/{number}/jobs/2")
    page.get_by_role("link", name=f"#{failed}", exact=True).click()
    page.wait_for_url(re.compile(f"/runs/{failed}/jobs/2$"))
    page.goto(f"/runs/{number}/jobs/3")
    expect(page.locator("#job")).to_contain_text("#1, which is not kept any more")


def test_without_script_there_are_the_graph_the_jobs_and_how_one_failed(
    browser: Browser, site: Site, failed: int
) -> None:
    with signed_in(browser, site, "ada", java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"/runs/{failed}")
        expect(page.locator("#log[data-early]")).to_be_visible()  # so nothing says that nothing was printed
        expect(page.locator("#job pre").last).to_contain_text("this is test (3.13)")
        page.locator("svg.graph").get_by_role("link", name="lint: succeeded").click()
        expect(page.get_by_role("heading", name="lint")).to_be_visible()
        page.get_by_role("link", name="as plain text").click()
        expect(page.locator("body")).to_contain_text("this is lint")


def test_large_graph_shows_what_the_job_has_to_do_with(page: Page, site: Site) -> None:
    nodes = [JobNode("a"), *(JobNode(f"b{index}", needs=("a",)) for index in range(60)), JobNode("c", needs=("b7",))]
    number = plan(site.service, {node.name: GOOD for node in nodes}, nodes=nodes).number
    page.goto(f"/runs/{number}/jobs/9")
    graph = page.locator("svg.graph")
    expect(graph.locator("text")).to_have_text(["a", "b6"])
    page.goto(f"/runs/{number}/jobs/10")
    expect(graph.locator("text")).to_have_text(["a", "b7", "c"])
    expect(page.get_by_role("treeitem", selected=True)).to_be_in_viewport()
    page.get_by_role("link", name="Show 59 more jobs").click()
    expect(graph.locator("a")).to_have_count(62)


def test_list_has_a_row_of_marks(page: Page, site: Site, failed: int) -> None:
    page.goto("/runs?project=shop")
    row = page.get_by_role("row").filter(has=page.locator(f"#run-{failed}"))
    marks = row.get_by_role("img", name="10 jobs: 6 succeeded, 2 failed, 2 skipped")
    expect(marks.locator("svg")).to_have_count(10)
    expect(marks.locator(".status-warnings")).to_have_attribute("title", "browser: failed")


def test_page_of_a_build_becomes_that_of_a_pipeline(page: Page, site: Site) -> None:
    """As soon as its commit was looked at."""
    source = GitSource("https://git.example.org/shop.git", COMMIT)
    trigger = Trigger("push", branch="main", commit=COMMIT, title="Not planned yet", default_branch="main")
    number = site.service.runs.submit(RunRequest(source, "shop", priority=100), trigger).number
    page.goto(f"/runs/{number}")
    expect(page.locator("#strip")).to_contain_text("No worker has taken it yet.")
    pipeline = planned(site.service, number, ENDS)
    expect(page.locator("svg.graph")).to_be_visible()
    expect(row(page, "test (3.13)")).to_be_visible()
    assert site.service.runs.get(pipeline.number).state == "failed"
    page.reload()
    expect(page.get_by_role("heading", name="test (3.13)")).to_be_visible()


def test_tree_is_used_by_keys_alone(page: Page, failed: int) -> None:
    page.goto(f"/runs/{failed}/jobs/3")
    chosen = page.get_by_role("treeitem", selected=True)
    expect(page.locator(".log-lines")).to_contain_text("this is gen")
    expect(chosen).to_have_attribute("aria-expanded", "true")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile(r"/jobs/3/1$"))
    expect(chosen).to_be_focused()
    expect(chosen).to_contain_text("make gen")
    page.keyboard.press("ArrowLeft")
    expect(row(page, "gen")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(row(page, "gen")).to_have_attribute("aria-expanded", "false")
    expect(row(page, "gen")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(row(page, "gen")).to_have_attribute("aria-expanded", "true")


def test_all_output_has_each_line_below_its_job(page: Page, failed: int, going: Pipeline) -> None:
    page.goto(f"/runs/{failed}")
    page.get_by_role("treeitem", name="All output").click()
    expect(page).to_have_url(re.compile(rf"/runs/{failed}/all$"))
    log = page.locator(".log-lines")
    expect(log.locator(".k-job .t").first).to_have_text("lint")
    expect(log.locator(".k-job + .l .n").first).to_have_text("1")
    page.get_by_role("searchbox", name="Search the log").fill("this is test")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_have_text(re.compile("of 3$"))
    expect(log.locator(".k-job .gap")).to_have_count(0)
    log.locator(".l", has_text="this is test (3.12)").locator(".n").click()
    expect(page).to_have_url(re.compile(rf"/runs/{failed}/jobs/5#L3$"))
    page.goto(f"/runs/{going.number}/all")
    expect(log).to_contain_text("this is test (3.13)")
    going.say("test (3.12)", "more of the one in the middle")
    expect(log).to_contain_text("more of the one in the middle")


def test_phone_shows_one_pane_and_back_closes_the_log(browser: Browser, site: Site, failed: int) -> None:
    with signed_in(browser, site, "ada", viewport={"width": 390, "height": 844}, has_touch=True) as context:
        page = context.new_page()
        page.goto(f"/runs/{failed}")
        expect(page.locator(".log-lines")).to_contain_text("this is test (3.13)")
        expect(page.locator("#tree")).to_be_hidden()
        page.get_by_role("tab", name="Jobs").tap()
        expect(page.locator("#pane")).to_be_hidden()
        row(page, "lint").tap()
        expect(page.locator(".log-lines")).to_contain_text("this is lint")
        expect(page.locator("#tree")).to_be_hidden()
        page.go_back()
        expect(page.locator("#tree")).to_be_visible()
