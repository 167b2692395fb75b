"""One run: what can be done with it, its steps, and its log, live and long."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, Route, expect

from tests.toolkit.bounds import eventually, stretched
from tests.web.browser import plays
from tests.web.browser.addresses import PAGES
from tests.web.browser.conftest import Site, signed_in
from tests.web.browser.stage import HOSTILE, Act, Play

_LIVE = Play((Act("[1/1] RUN tide", "stage-0", 0.0, 1.0, None, output=("high water",)),), state="running", began_s=2.0)


def test_steps_are_drawn_to_scale_with_why_they_ran(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['GREEN']}")
    tree = page.get_by_role("tree", name="Jobs and steps")
    expect(tree.get_by_role("treeitem").filter(has_text="COPY package.json")).to_contain_text(
        "package-lock.json changed"
    )
    strip = page.locator("svg.time")
    slow = strip.get_by_role("link", name=re.compile("go build")).locator("rect.f-succeeded")
    quick = strip.get_by_role("link", name=re.compile("npm ci")).locator("rect.f-succeeded")
    widths = [box.bounding_box() for box in (slow, quick)]
    assert widths[0] is not None
    assert widths[1] is not None
    assert abs(widths[0]["width"] / widths[1]["width"] - 21.4 / 14.2) < 0.05
    assert widths[0]["x"] < widths[1]["x"] + widths[1]["width"], "both stages ran at the same time"
    expect(strip.locator(".f-reused")).to_have_count(2)
    tree.get_by_role("treeitem", name=re.compile("RUN npm ci")).click()
    expect(page).to_have_url(re.compile(r"/jobs/1/4$"))
    expect(page.locator(".l").first).to_contain_text("RUN npm ci")
    expect(page.locator(".l").nth(1)).to_contain_text("npm warn deprecated")
    expect(page.locator(".l", has_text="go build")).to_have_count(0)
    page.reload()
    expect(tree.get_by_role("treeitem", selected=True)).to_contain_text("RUN npm ci")
    expect(page.locator(".l").nth(1)).to_contain_text("npm warn deprecated")


def test_a_log_is_watched_live_and_resumes_exactly(page: Page, site: Site) -> None:
    number = site.stage.play(_LIVE)
    page.goto(f"/runs/{number}")
    log = page.locator(".log-lines")
    expect(log).to_contain_text("high water")
    site.stage.say(number, 0, "ebb", "low water")
    expect(log).to_contain_text("low water")
    site.stage.begin(number, 0, "the tide is")
    expect(log.locator(".l").last).to_contain_text("the tide is")
    site.stage.say(number, 0, " out")
    expect(log.get_by_text("the tide is out", exact=True)).to_have_count(1)
    hub = site.app.extensions["shiplap"]
    hub.stopping = True  # every stream ends; the browser comes back by itself
    site.stage.say(number, 0, "flood")
    page.wait_for_timeout(1200)
    hub.stopping = False
    site.stage.say(number, 0, "slack water")
    expect(log).to_contain_text("slack water")
    site.stage.finish(number, 0)
    expect(page.locator("#head .status-succeeded")).to_be_visible()
    expect(page).to_have_title(re.compile("^✓ #"))
    expect(page.locator("#log")).not_to_have_attribute("data-live", "1")
    texts = log.locator(".t").all_inner_texts()
    assert [text for text in texts if "water" in text or text in ("ebb", "flood")] == [
        "high water", "ebb", "low water", "flood", "slack water",
    ]  # fmt: skip
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_cancel(page: Page, site: Site) -> None:
    number = site.stage.play(_LIVE)
    page.goto(f"/runs/{number}")
    page.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#head")).to_contain_text("stopping")
    assert site.service.runs.get(number).cancel_requested
    site.stage.finish(number, 0, "cancelled", "cancelled")
    expect(page.locator("#head .status-cancelled")).to_be_visible()


def test_run_again_with_other_arguments(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['CANCELLED']}")
    page.get_by_role("link", name="Run with…").click()
    page.get_by_label("Build arguments").fill("no equals sign")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert")).to_contain_text("line 1 of the build arguments has no '='")
    page.get_by_label("Build arguments").fill("LEVEL=3\nNAME=a=b")
    page.get_by_label("Without the cache").check()
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/runs/\d+\?done=again"))
    number = int(page.url.partition("?")[0].rpartition("/")[2])
    run = site.service.runs.cancel(number)
    assert run.options.build_args == {"LEVEL": "3", "NAME": "a=b"}
    assert run.options.no_cache
    assert run.trigger.by == "ada"


def test_permalinks_to_a_line_and_a_range(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}#L50000-L50002")
    expect(page.locator(".l.chosen .n")).to_have_text(["50000", "50001", "50002"])
    expect(page.locator(".l.chosen").first).to_contain_text("[048995] cc -c")
    page.locator(".l .n", has_text="50004").click(modifiers=["Shift"])
    assert page.url.endswith("#L50000-L50004")
    page.locator(".l .n", has_text="49999").click()
    assert page.url.endswith("#L49999")
    expect(page.locator(".l.chosen .n")).to_have_text(["49999"])


def test_search_in_a_hundred_thousand_lines(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}")
    page.get_by_role("searchbox", name="Search the log").fill("THE NEEDLE")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_have_text("1 of 4")
    expect(page.locator(".l.current mark")).to_have_text("the needle")
    expect(page.locator(".l.current")).to_contain_text("[020010]")
    page.keyboard.press("Enter")
    expect(page.locator(".l.current")).to_contain_text("[040021]")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#log-found")).to_have_text("4 of 4")
    expect(page.locator(".l.current")).to_contain_text("[080043]")


def test_only_the_rows_in_sight_exist(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}")
    expect(page.locator(".l").first).to_contain_text("2 steps")
    page.locator(".log-view").evaluate("view => { view.scrollTop = view.scrollHeight }")
    expect(page.locator(".l").last).to_contain_text("done in 8 min")
    assert page.locator(".l").count() < 120
    pauses = page.evaluate(_SCROLL)
    assert len(pauses) == 60


_SCROLL = """async () => {
  const view = document.querySelector('.log-view'), pauses = [];
  let before = performance.now();
  for (let i = 0; i < 60; i++) {
    view.scrollTop = (view.scrollHeight / 60) * i;
    await new Promise(requestAnimationFrame);
    pauses.push(performance.now() - before);
    before = performance.now();
  }
  return pauses;
}"""


def test_steps_fold(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}")
    expect(page.locator(".l").first).to_contain_text("2 steps")
    page.locator(".log-menu summary").click()
    page.get_by_role("button", name="Fold all").click()
    expect(page.locator(".l")).to_have_count(3)
    expect(page.locator(".l").last).to_have_text(re.compile("RUN make world#28 min 00 s98,995 lines$"))
    page.get_by_role("button", name="Unfold the step").first.click()
    expect(page.locator(".l").nth(2)).to_contain_text("checking for feature 0... yes")
    page.evaluate("location.hash = '#L90000'")
    expect(page.locator(".l.chosen")).to_contain_text("[088995]")


def test_steps_are_reached_and_folded_by_the_keyboard(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['LONG']}")
    expect(page.locator(".l").first).to_contain_text("2 steps")
    page.get_by_role("region", name="Lines of the log").focus()
    page.keyboard.press("]")
    expect(page.locator(".l.chosen")).to_contain_text("RUN ./configure")
    page.keyboard.press("]")
    expect(page.locator(".l.chosen")).to_contain_text("RUN make world")
    expect(page.locator("#said")).to_contain_text("RUN make world")
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile("#L2$"))
    page.keyboard.press("z")
    expect(page.locator(".l", has_text="RUN ./configure")).to_contain_text("1,001 lines")
    page.keyboard.press("z")
    expect(page.locator(".l", has_text="checking for feature 0...")).to_be_visible()


def test_colours_and_links_of_terminals_and_nothing_else(page: Page, evil: int) -> None:
    page.goto(f"/runs/{evil}")
    log = page.locator(".log-lines")
    expect(log.locator(".a-f1")).to_have_text(HOSTILE)
    expect(log.get_by_role("link", name="a link")).to_have_attribute("href", "https://example.org/")
    expect(log.get_by_text("click")).to_have_count(1)
    expect(log.get_by_role("link", name="click")).to_have_count(0)
    assert log.locator("script, img").count() == 0


_LINKED = (
    "see https://docs.example.org/a_(b)?x=1&y=%20#part, or (http://localhost:8080/).",
    "\x1b[1mFetching \x1b[36mhttps://pkg.example\x1b[33m.org/left\x1b[0m/pad.tgz\x1b[0m\x1b[31m!\x1b[0m",
    "<a href=\"https://quoted.example/x\">'https://single.example/y'",
    "HTTPS://LOUD.EXAMPLE/ http://[::1]:5000/v2/] https://bücher.example/größe。",
    "javascript:alert(1) ftp://a.example/ git+https://b.example/ xhttps://c.example https:// http://) data:,x",
    "https://example.org@evil.example/ file:///etc/passwd JAVASCRIPT:https",
    "\x1b]8;;https://target.example/\x07https://shown.example/\x1b]8;;\x07 https://after.example/",
    "x" * 3980 + " https://cut.example/" + "y" * 400,
)


def test_addresses_in_a_log_are_links_to_what_they_say(page: Page, site: Site) -> None:
    act = Act("[1/1] RUN tide", "stage-0", 0.0, 1.0, None, output=_LINKED)
    number = site.stage.play(Play((act,), state="running", began_s=2.0))
    page.goto(f"/runs/{number}")
    log = page.locator(".log-lines")
    expect(log).to_contain_text("after.example")

    def links() -> list[list[str]]:
        found: list[list[str]] = log.locator(".t a").evaluate_all(
            "all => all.map(a => [a.textContent, a.getAttribute('href'), a.rel, a.target])"
        )
        return found

    shown = [text for text, _, _, _ in links()]
    assert shown == [
        "https://docs.example.org/a_(b)?x=1&y=%20#part",
        "http://localhost:8080/",
        "https://pkg.example.org/left/pad.tgz",
        "https://quoted.example/x",
        "https://single.example/y",
        "HTTPS://LOUD.EXAMPLE/",
        "http://[::1]:5000/v2/",
        "https://bücher.example/größe",
        "https://shown.example/",
        "https://after.example/",
        " … 401 more characters",
    ]
    plain = [link for link in links()[:-1] if link[0] != "https://shown.example/"]
    assert [(text, text, "noopener noreferrer nofollow", "_blank") for text, _, _, _ in plain] == list(
        map(tuple, plain)
    )
    assert log.locator("a:has-text('left/pad') .a-f6").inner_text() == "https://pkg.example"
    site.stage.begin(number, 0, "at https://half.exa")
    expect(log.locator(".l").last).to_contain_text("half.exa")
    expect(log.get_by_role("link", name="half.exa")).to_have_count(0)
    site.stage.say(number, 0, "mple/way")
    expect(log.get_by_role("link", name="https://half.example/way", exact=True)).to_have_count(1)
    page.get_by_role("searchbox", name="Search the log").fill("example/way")
    page.keyboard.press("Enter")
    expect(log.get_by_role("link", name="https://half.example/way", exact=True).locator("mark")).to_have_count(1)
    site.stage.finish(number, 0)


def test_transfer_shows_its_bytes_while_it_goes_on(page: Page, site: Site) -> None:
    number = site.stage.play(_LIVE)
    page.goto(f"/runs/{number}")
    log = page.locator(".log-lines")
    expect(log).to_contain_text("high water")
    for sent in (0, 45_000_000):
        site.stage.move(number, 0, "layers", sent, 90_000_000)
    expect(log.locator(".l").last).to_contain_text("layers: 45 MB of 90 MB")
    site.stage.move(number, 0, "layers", 90_000_000, 90_000_000)
    site.stage.finish(number, 0)
    expect(page.locator("#head .status-succeeded")).to_be_visible()
    expect(log.get_by_text("layers", exact=True)).to_have_count(1)
    expect(log.get_by_text("90 MB")).to_have_count(0)


def test_lines_full_of_addresses_are_drawn_at_once(page: Page, site: Site) -> None:
    hostile = (
        "https://a" + ")" * 3900,
        "https://" * 480,
        "https://a.b/ " * 300,
        "(" * 2000 + "https://a.b/" + ")" * 1900,
    )
    act = Act("[1/1] RUN tide", "stage-0", 0.0, 1.0, output=hostile * 30)
    page.goto(f"/runs/{site.stage.play(Play((act,), began_s=2.0))}")
    expect(page.locator(".log-lines .t a").first).to_be_visible()
    took_ms = page.evaluate(
        """() => new Promise((done) => {
             const began = performance.now();
             document.querySelector(".log-view").scrollTop = 1200;
             requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
           })"""
    )
    assert took_ms < stretched(2) * 1000


def test_failed_step_opens_at_its_error_in_its_colours(page: Page, site: Site, evil: int) -> None:
    page.goto(f"/runs/{site.runs['RED']}")
    log = page.locator(".log-lines")
    expect(log.locator(".a-f1")).to_have_text(["npm error"] * 3)
    expect(log.locator(".l.at")).to_contain_text("code E404")
    expect(log.locator(".t").get_by_role("link")).to_have_text("https://npm.example.org/left-padd")
    act = Act("[1/1] RUN tide", "stage-0", 0.0, 1.0, None, output=("\x1b[32mfine", f"\x1b[31m{HOSTILE}\x1b[0m"))
    number = site.stage.play(Play((act,), state="running", began_s=2.0))
    page.goto(f"/runs/{number}")
    site.stage.finish(number, 0, "failed", f"exit code: 1 {HOSTILE}")
    expect(page.locator("#job.verdict")).to_contain_text(HOSTILE)  # it came anew, and no page
    expect(log.locator(".a-f1")).to_have_text(HOSTILE)
    expect(log.locator(".a-f2")).to_have_text("fine")
    assert page.locator("#pane script, #pane img").count() == 0


def test_a_failed_run_shows_24_lines_and_a_running_one_27(page: Page, site: Site) -> None:
    lines = tuple(f"line {number}" for number in range(60))
    acts = (*(Act(f"[{at}/5] RUN part {at}", "stage-0", at, 1.0) for at in range(1, 5)),)
    page.set_viewport_size({"width": 1366, "height": 850})
    for state, least in (("failed", 24), ("running", 27)):
        last = Act("[5/5] RUN tide", "stage-0", 5.0, 9.0, "failed" if state == "failed" else None, "exit code 1", lines)
        number = site.stage.play(Play((*acts, last), state=state, error="exit code 1", began_s=20.0))  # type: ignore[arg-type]
        page.goto(f"/runs/{number}")
        expect(page.locator(".l", has_text="line 59")).to_be_visible()
        seen = page.evaluate(
            """() => { const view = document.querySelector(".log-view").getBoundingClientRect();
                 return [...document.querySelectorAll(".l")].map((row) => row.getBoundingClientRect())
                   .filter((row) => row.top >= view.top - 0.5 && row.bottom <= view.bottom + 0.5).length; }"""
        )
        assert seen >= least, state
        assert page.evaluate("document.documentElement.scrollHeight") == 850
        if state == "running":
            site.stage.finish(number, 4)


def test_a_failed_run_shows_its_end(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['RED']}")
    expect(page.get_by_role("alert")).to_contain_text(plays.RED.error)
    expect(page.locator(".l.o-failed")).to_contain_text("failed in 3.10 s: exit code 1")
    page.get_by_role("button", name="Only this step").click()
    expect(page.locator(".l", has_text="go: downloading")).to_be_visible()
    page.get_by_role("link", name="Go to the line").click()
    expect(page.locator(".l.at")).to_contain_text("code E404")


def test_what_a_page_is_made_of_is_asked_for_again_when_it_did_not_come(browser: Browser, site: Site) -> None:
    dropped: set[str] = set()

    def drop_once(route: Route) -> None:
        if (address := route.request.url) in dropped:
            route.continue_()
        else:
            dropped.add(address)
            route.abort("connectionreset")

    with signed_in(browser, site, "ada") as context:
        page = context.new_page()
        page.route(re.compile(r"/(htmx\.min|log/rows)\.js|/log\.css|/log/marks\?"), drop_once)
        page.goto(f"/runs/{site.runs['RED']}")
        expect(page.locator(".l.at")).to_contain_text("code E404")
        expect(page.locator(".l.at")).to_have_css("height", "20px")
        page.wait_for_function("globalThis.htmx !== undefined")
        assert len(dropped) == 4


def test_a_step_says_beside_its_first_line_how_it_went(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['RED']}")
    page.get_by_role("button", name="Only this step").click()
    log = page.locator(".log-lines")
    expect(log.locator(".k-start", has_text="FROM node")).to_have_text(re.compile("#2cached$"))
    expect(log.locator(".k-start", has_text="npm ci")).to_have_text(re.compile("#4failed, 3.1 s$"))
    stretch = log.locator(".l", has_text="code E404").locator(".s")
    expect(stretch).to_have_text("4")
    expect(stretch).to_have_attribute("title", "RUN npm ci")
    expect(log.locator(".l.e", has_text="code E404")).to_have_count(1)
    expect(page.locator("#log-errors")).to_have_text("4 errors")


_GROUPS = (
    "before", "::group::Set up", "inner line", "::endgroup::", "--- Closed by itself", "deep inside", "+++ Open",
    "shown", "--- a/file.c", "+++ b/file.c", "a diff folds nothing", "~~~ Has a fault", "error: it broke",
    "\x1b[1m--- Bold\x1b[0m", "very deep",
)  # fmt: skip


def test_groups_fold_as_they_were_printed(page: Page, site: Site) -> None:
    act = Act("[1/1] RUN tide", "stage-0", 0.0, 40.0, output=_GROUPS)
    page.goto(f"/runs/{site.stage.play(Play((act,), began_s=50.0))}/jobs/1/1")
    log = page.locator(".log-lines")
    expect(log.locator(".g .t")).to_have_text(["Set up", "Closed by itself", "Open", "Has a fault", "Bold"])
    for hidden in ("inner line", "deep inside", "very deep"):
        expect(log.get_by_text(hidden, exact=True)).to_have_count(0)
    for shown in ("before", "shown", "a diff folds nothing", "error: it broke"):
        expect(log.get_by_text(shown, exact=True)).to_be_visible()
    log.get_by_role("button", name="Unfold the group").first.click()
    expect(log.get_by_text("inner line", exact=True)).to_be_visible()
    page.evaluate("location.hash = '#L8'")
    expect(page.locator(".l.chosen")).to_contain_text("deep inside")
    page.keyboard.press("z")
    expect(log.get_by_text("deep inside", exact=True)).to_have_count(0)


def test_how_lines_are_shown_is_kept(page: Page, site: Site) -> None:
    act = Act("[1/1] RUN tide", "stage-0", 0.0, 40.0, output=("x" * 900, "end"))
    page.goto(f"/runs/{site.stage.play(Play((act,), began_s=50.0))}")
    long = page.locator(".l", has_text="xxx")
    expect(long).to_have_css("height", "20px")
    page.keyboard.press("w")
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    box, after = long.bounding_box(), page.locator(".l", has_text="end").last.bounding_box()
    assert box is not None
    assert after is not None
    assert box["height"] > 100
    assert abs(after["y"] - (box["y"] + box["height"])) < 1
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Times: clock")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Times: clock")).to_be_visible()
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+F")
    expect(page.locator("#tree")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#tree")).to_be_visible()


_COLOURS = "name => ['backgroundColor', 'color'].map((each) => getComputedStyle(document.querySelector(name))[each])"


def test_log_alone_is_dark_if_somebody_wants_it(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['RED']}")
    before = page.evaluate(_COLOURS, "body")
    page.locator(".log-menu > summary").click()
    page.get_by_role("button", name="Dark log").click()
    page.reload()
    dark = ["rgb(22, 31, 35)", "rgb(228, 236, 238)"]
    assert page.evaluate(_COLOURS, ".lines") == dark
    assert page.evaluate(_COLOURS, "body") == before != dark
    page.locator(".log-menu > summary").click()
    page.get_by_role("button", name="Dark log", pressed=True).click()
    assert page.evaluate(_COLOURS, ".lines") != dark


def test_what_somebody_did_is_told_for_some_seconds_and_stays_under_the_pointer(page: Page, site: Site) -> None:
    page.add_init_script(
        """const wait = setTimeout;
           globalThis.setTimeout = (act, ms, ...more) => wait(act, ms === 6000 ? 1 : ms, ...more);"""
    )
    page.goto(f"/runs/{site.runs['RED']}")
    tell = (
        "text => document.dispatchEvent(new CustomEvent('toast', { detail: { text, href: '/runs', label: 'Open' } }))"
    )
    page.evaluate(f"({tell})('Gone'); new Promise(done => setTimeout(done, 50))")
    expect(page.locator(".toast")).to_have_count(0)
    page.evaluate(f"({tell})('Stays'); document.querySelector('.toast a').focus()")
    page.wait_for_timeout(50)
    expect(page.get_by_role("status").filter(has_text="Stays")).to_be_visible()
    page.get_by_role("button", name="Close this message").click()
    expect(page.locator(".toast")).to_have_count(0)
    page.goto("/account?done=look")
    assert page.locator("main .notice").count() == 0, "what was done is told by a toast, not twice"


def test_who_asked_for_it_is_notified_when_a_run_ends_while_its_tab_is_hidden(page: Page, site: Site) -> None:
    page.add_init_script(
        """const now = performance.now.bind(performance);
           performance.now = () => now() * 1000;  // a hidden tab asks every 15 seconds
           globalThis.notified = [];
           globalThis.Notification = class extends EventTarget {
             static permission = "default";
             static async requestPermission() { return this.permission = "granted"; }
             constructor(title, { body }) { super(); notified.push(title, body); }
           };"""
    )
    number = site.stage.play(_LIVE)
    page.goto(f"/runs/{number}")
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me", pressed=True)).to_be_visible()
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    site.stage.finish(number, 0, "failed", "exit code 1")
    eventually(lambda: page.evaluate("notified.length") > 0, why="the browser notifies")
    title, body = page.evaluate("notified")
    assert title.startswith(f"✗ #{number} ")
    assert body == "It failed"


def test_hidden_tab_holds_no_stream_and_catches_up(page: Page, site: Site) -> None:
    page.add_init_script(
        """const wait = setTimeout;
           globalThis.setTimeout = (act, ms, ...more) => wait(act, ms === 10000 ? 50 : ms, ...more);
           globalThis.streams = new Set();
           const Source = EventSource;
           globalThis.EventSource = class extends Source {
             constructor(...all) { super(...all); streams.add(this); }
             close() { streams.delete(this); super.close(); }
           };
           globalThis.hide = (on) => {
             Object.defineProperty(document, "hidden", { value: on, configurable: true });
             document.dispatchEvent(new Event("visibilitychange"));
           };"""
    )
    number = site.stage.play(_LIVE)
    page.goto(f"/runs/{number}")
    expect(page.locator(".log-lines")).to_contain_text("high water")
    assert page.evaluate("streams.size") == 1
    page.evaluate("hide(true)")
    eventually(lambda: page.evaluate("streams.size") == 0, why="the stream is closed")
    site.stage.say(number, 0, "ebb")
    page.evaluate("hide(false)")
    expect(page.locator(".log-lines")).to_contain_text("ebb")
    site.stage.finish(number, 0)


def test_nothing_is_wider_than_a_phone(browser: Browser, site: Site) -> None:
    with signed_in(browser, site, "ada", viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        for address in PAGES.values():
            page.goto(address.format(**site.runs))
            assert page.evaluate("document.documentElement.scrollWidth") == 390, address


def test_a_log_downloads_as_text(page: Page, site: Site) -> None:
    page.goto(f"/runs/{site.runs['RED']}")
    page.locator(".log-menu summary").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as text").click()
    assert "left-padd" in download.value.path().read_text()
