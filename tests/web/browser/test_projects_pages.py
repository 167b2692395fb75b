"""Projects in a browser: a repository is connected, pushes come in, a delivery is looked at and acted on again."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from pipelines.model import HookSettings, Project
from tests.toolkit import forgepayloads as sent
from tests.toolkit.bounds import stretched
from tests.toolkit.forgepayloads import AFTER, SECRET, Hook
from tests.web.browser.conftest import Site, signed_in
from tests.web.browser.stage import HOSTILE
from tests.web.browser.test_accessibility import _AXE as AXE
from tests.web.browser.test_accessibility import _RUN as FIND_BROKEN
from tests.web.browser.test_accessibility import _STANDARDS as STANDARDS

REPOSITORY = "https://github.com/octo-org/hello.git"


def deliver(site: Site, project: str, hook: Hook, secret: str = SECRET) -> dict[str, Any]:
    """As the forge does it: over the network, without a session."""
    headers, body = hook.request(secret)
    request = urllib.request.Request(f"{site.url}/hooks/{project}", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=stretched(10)) as answer:
        decoded: dict[str, Any] = json.load(answer)
        return decoded


@pytest.fixture(scope="session")
def connected(site: Site) -> str:
    """A project that has seen pushes, one of which it does not build, and a fork's commit that waits."""
    hook = HookSettings(
        repository=REPOSITORY, forge="github", branches=("main",), pull_requests="approve", public_badge=False
    )
    site.service.projects.put(Project("hello", hook=hook))
    site.service.projects.set_webhook_secret("hello", SECRET)
    site.service.projects.set_status_token("hello", "t0ken")
    deliver(site, "hello", sent.github_push())
    deliver(site, "hello", sent.github_push("refs/heads/wip"))
    deliver(site, "hello", sent.github_pull_request(fork=True))
    return "hello"


def test_a_repository_is_connected_and_its_push_is_built(page: Page, site: Site) -> None:
    page.goto("/projects")
    page.get_by_role("link", name="Connect a repository").click()
    page.get_by_label("Repository").fill(REPOSITORY)
    page.get_by_label("Name of the project").fill("greeter")
    page.get_by_role("button", name="Connect").click()
    secret = page.locator("dd .copyable code").nth(1).inner_text()
    assert re.fullmatch(r"[0-9a-f]{48}", secret)
    expect(page.get_by_text("Settings, Webhooks, Add webhook")).to_be_visible()
    answer = deliver(site, "greeter", sent.github_push(), secret)
    page.get_by_role("link", name="To the project").click()
    deliveries = page.get_by_role("region", name="Last deliveries")
    expect(deliveries.get_by_text("built")).to_be_visible()
    (number,) = answer["runs"]
    deliveries.get_by_role("link", name=f"#{number}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Greet everybody")
    site.service.runs.cancel(number)


def test_a_name_that_is_taken_is_said_to_be(page: Page, connected: str) -> None:
    page.goto("/projects/-/new")
    page.get_by_label("Repository").fill(REPOSITORY)
    page.get_by_label("Name of the project").fill(connected)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("alert")).to_have_text("there is a project hello already")
    expect(page.get_by_label("Repository")).to_have_value(REPOSITORY)


def test_a_delivery_says_what_came_and_can_be_acted_on_again(page: Page, site: Site, connected: str) -> None:
    page.goto(f"/projects/{connected}/deliveries")
    expect(page.get_by_text("branch wip is not among the project's branches")).to_be_visible()
    row = page.locator("tbody tr").filter(has_text="branch wip")
    row.get_by_role("link").click()
    expect(page.get_by_text("(withheld)")).to_have_count(1)
    expect(page.locator("pre.payload")).to_contain_text('"ref": "refs/heads/wip"')
    settings = site.service.projects.get(connected)
    site.service.projects.put(Project(connected, hook=HookSettings(repository=REPOSITORY, forge="github")))
    page.get_by_role("button", name="Redeliver").click()
    expect(page.get_by_text("built")).to_be_visible()
    expect(page.get_by_text("Redelivery of")).to_be_visible()
    site.service.projects.put(settings)


def test_a_fork_s_commit_is_approved_by_its_id(page: Page, site: Site, connected: str) -> None:
    page.goto(f"/projects/{connected}")
    waiting = page.get_by_role("region", name="Forks that wait for you")
    expect(waiting).to_contain_text(AFTER)
    waiting.get_by_role("button", name="Build it").click()
    page.wait_for_url(re.compile(r"/runs/\d+$"))
    run = site.service.runs.get(int(page.url.rpartition("/")[2]))
    assert run.trigger.fork
    site.service.runs.cancel(run.number)


def test_the_tag_template_is_tried_while_it_is_typed(page: Page, connected: str) -> None:
    page.goto(f"/projects/{connected}/settings/tags")
    template = page.get_by_label("Names of images")
    template.fill("{registry}/shop:{branch}")
    expect(page.locator("#names")).to_contain_text("/shop:feature-login")
    template.fill("{registry}/shop:{brunch}")
    expect(page.locator("#names")).to_contain_text("unknown member {brunch}")


def test_settings_are_saved_and_mistakes_shown_where_they_were_made(page: Page, site: Site, connected: str) -> None:
    before = site.service.projects.get(connected)
    page.goto(f"/projects/{connected}/settings")
    sections = page.get_by_role("navigation", name="Sections of the settings")
    sections.get_by_role("link", name="Builds").click()
    expect(page.get_by_text("Changed, not saved", exact=True)).to_be_hidden()
    page.get_by_label("Branches", exact=True).fill("main\nrelease/**")
    expect(page.get_by_text("Changed, not saved", exact=True)).to_be_visible()
    expect(sections.get_by_role("link", name="Builds (changed, not saved)")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog") as asked:
        sections.get_by_role("link", name="Access").click()
    assert asked.value.type == "beforeunload"
    page.get_by_label("Build arguments").fill("COLOUR")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("build argument 'COLOUR' has no value")
    expect(page.get_by_label("Branches", exact=True)).to_have_value("main\nrelease/**")
    page.get_by_label("Build arguments").fill("COLOUR=red")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The settings are saved.")).to_be_visible()
    saved = site.service.projects.get(connected)
    assert saved.hook.branches == ("main", "release/**")
    assert saved.hook.build_args == {"COLOUR": "red"}
    assert saved.hook.cancel_superseded
    assert saved.has_webhook_secret
    expect(page.get_by_text("Changed, not saved", exact=True)).to_be_hidden()
    site.service.projects.put(before)


def test_a_project_is_removed_only_by_who_types_its_name(page: Page, site: Site) -> None:
    site.service.projects.put(Project("gone"))
    page.goto("/projects/gone/settings")
    page.get_by_role("link", name="Danger zone").click()
    for typed, path in (("gon", "/projects/gone/remove"), ("gone", "/projects")):
        page.get_by_label("Type gone to remove it").fill(typed)
        page.get_by_role("button", name="Remove gone").click()
        page.wait_for_url(f"**{path}")
    assert "gone" not in site.service.roles.project_names()


def test_what_strangers_wrote_stays_text(page: Page, site: Site, connected: str) -> None:
    hook = sent.github_pull_request("synchronize", fork=True, commit="e" * 40)
    hook.document["pull_request"]["title"] = HOSTILE
    hook.document["pull_request"]["user"]["login"] = HOSTILE
    hook.document["pull_request"]["html_url"] = "javascript:document.title='owned'"
    deliver(site, connected, hook)
    deliver(site, connected, sent.github_push(f"refs/heads/{HOSTILE}"))
    for path in ("", "/deliveries"):
        page.goto(f"/projects/{connected}{path}")
        expect(page.locator("main").get_by_text(HOSTILE[:20]).first).to_be_visible()
        assert page.title() != "owned"
        assert page.locator("main script, main img:not([src^='/badge/']), main a[href^='javascript']").count() == 0


def test_no_page_of_a_project_breaks_a_rule(browser: Browser, site: Site, connected: str) -> None:
    deliver(site, connected, sent.github_pull_request("synchronize", fork=True, commit="f" * 40))
    delivery = site.service.deliveries.list(connected)[0].id
    broken = {}
    with signed_in(browser, site, "ada", bypass_csp=True, reduced_motion="reduce") as context:
        context.add_init_script(AXE)
        page = context.new_page()
        for path in (
            "",
            "/deliveries",
            f"/deliveries/{delivery}",
            "/settings",
            "/settings/builds",
            "/settings/danger",
            "/../-/new",
        ):
            page.goto(f"/projects/{connected}{path}")
            if found := page.evaluate(FIND_BROKEN, STANDARDS):
                broken[path] = found
    assert broken == {}


def test_only_administrators_change_projects(browser: Browser, site: Site, connected: str) -> None:
    with signed_in(browser, site, "linus") as context:
        page = context.new_page()
        page.goto(f"/projects/{connected}")
        expect(page.get_by_role("link", name="Settings")).to_have_count(0)
        expect(page.get_by_role("button", name="Build it")).to_have_count(0)
        answer = page.goto(f"/projects/{connected}/settings")
        assert answer is not None
        assert answer.status == 403
