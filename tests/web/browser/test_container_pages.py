"""Containers of a real engine in a real browser: from the list to a log to the stop; and a terminal in one.

With one engine, one web process of gunicorn's, and three containers for all tests.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.settings import ServiceSettings
from core.websocket import new_key
from pipelines.accounts.users import Role
from pipelines.database import migrate
from pipelines.service import Service
from tests.pipelines.test_shells import HERE, PLACE, failed
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.service import RedisServer
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap
from tests.web.guard.signing import token_of
from tests.web.processes import WebProcess

TALKS = (
    "echo 'ERROR: the first line'; printf '\\033]0;owned\\007<script>document.title=1</script>\\n';"
    " until test -e /go; do sleep 0.1; done; echo later; exec tail -f /dev/null"
)
LABEL = 'org.opencontainers.image.title=<img src=x onerror="document.title=1">'


@dataclass
class Harbour:
    """A web process that shows an engine's containers. sessions: of users, by their names."""

    api: Api
    web: WebProcess
    service: Service
    sessions: dict[str, str]


@pytest.fixture(scope="module")
def harbour(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    directory = tmp_path_factory.mktemp("harbour")
    folder = Path(tempfile.mkdtemp(prefix="shiplap-", dir="/tmp"))  # a socket's path is short
    shiplap = Shiplap(directory / "engine")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    api, redis = Api(shiplap, folder), RedisServer(directory)
    redis.start()
    api.start(options=["--pages", f"unix://{folder}/pages", "--pages-user", "root"])  # pages ask for nothing beyond it
    try:
        for name in ("talks", "stays", "stops"):
            api.docker(
                "run", "-d", "--init", "--name", name, "--label", LABEL, BUSYBOX_NAME, "sh", "-c", TALKS, check=True
            )
        settings = ServiceSettings.from_environ({"SHIPLAP_REDIS_URL": redis.url}, root=str(directory / "root"))
        migrate(settings)
        with Service.open(settings) as service, WebProcess(settings, SHIPLAP_ENGINE=f"unix://{folder}/pages") as web:
            users: tuple[tuple[str, Role], ...] = (("ada", "admin"), ("grace", "member"))
            sessions = {
                name: service.sessions.begin(service.users.create(name, role), address="127.0.0.1", agent="test")
                for name, role in users
            }
            yield Harbour(api, web, service, sessions)
    finally:
        api.stop()
        redis.kill()
        shutil.rmtree(folder)


@pytest.fixture
def pages(browser: Browser, harbour: Harbour) -> Iterator[Page]:
    """Of the administrator. No page may fail, nor be refused anything by its policy."""
    context = browser.new_context(base_url=harbour.web.url, viewport={"width": 1366, "height": 850})
    context.set_default_timeout(stretched(30) * 1000)
    context.add_cookies([{"name": "shiplap_session", "value": harbour.sessions["ada"], "url": harbour.web.url}])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert wrong == []


def test_from_the_list_to_the_log_to_the_stop(pages: Page, harbour: Harbour) -> None:
    pages.goto("/")
    pages.keyboard.press("g")
    pages.keyboard.press("c")
    pages.locator("tr", has_text="stops").get_by_role("link", name="stops").click()
    lines = pages.get_by_role("region", name="Lines of the log")
    expect(lines).to_contain_text("ERROR: the first line")
    expect(lines).to_contain_text("<script>document.title=1</script>")
    expect(pages.locator("#log-errors")).to_have_text("1 error")
    assert "owned" not in pages.title()
    harbour.api.docker("exec", "stops", "touch", "/go", check=True)
    expect(lines).to_contain_text("later")
    pages.get_by_role("button", name="Stop").click()
    pages.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(pages.get_by_role("status").filter(has_text="It was stopped")).to_be_visible()
    expect(pages.locator("#box-head")).to_contain_text("exited")
    assert "Exited" in harbour.api.docker("ps", "-a", "--filter", "name=stops", "--format", "{{.Status}}").stdout
    pages.get_by_text("Labels").click()
    expect(pages.get_by_text('<img src=x onerror="document.title=1">')).to_be_visible()


def test_terminal_types_draws_resizes_and_ends_with_its_page(pages: Page, harbour: Harbour) -> None:
    page = pages
    page.goto("/containers/talks/shell")
    rows = page.locator(".xterm-rows")
    expect(page.locator("#state")).to_have_text("Open")
    page.keyboard.type("stty size; echo $((6*7))\n")
    expect(rows).to_contain_text("42")
    before = page.evaluate("document.querySelectorAll('.xterm-rows > div').length")
    page.set_viewport_size({"width": 700, "height": 500})
    page.wait_for_function("(before) => document.querySelectorAll('.xterm-rows > div').length < before", arg=before)
    after = page.evaluate("document.querySelectorAll('.xterm-rows > div').length")
    page.keyboard.type("clear; stty size\n")
    expect(rows).to_contain_text(f"{after} ")
    page.keyboard.type("sleep 54320\n")
    eventually(lambda: "54320" in harbour.api.docker("top", "talks").stdout)  # Ctrl-C before would end nothing
    page.keyboard.press("Control+c")
    page.keyboard.type("printf '\\033]0;owned\\007\\033]52;c;b3duZWQ=\\007'; echo al''ive\n")
    expect(rows).to_contain_text("alive")
    assert "owned" not in page.title()
    page.keyboard.type("sleep 54321\n")
    eventually(lambda: "54321" in harbour.api.docker("top", "talks").stdout)
    page.goto("about:blank")
    eventually(lambda: "54321" not in harbour.api.docker("top", "talks").stdout, why="its line was cut")
    entry = next(each for each in harbour.service.audit.list(limit=20) if each.action == "open shell")
    assert (entry.actor, entry.subject.split(" (")[0]) == ("ada", "container talks")


def test_terminal_says_what_became_of_its_shell(pages: Page, harbour: Harbour) -> None:
    pages.goto("/containers/stays/shell")
    expect(pages.locator("#state")).to_have_text("Open")
    pages.keyboard.type("yes 0123456789 | head -c 4000000; exit 3\n")
    expect(pages.locator("#why")).to_have_text("The shell ended with exit code 3")
    pages.get_by_role("button", name="Open another one").click()
    expect(pages.locator("#state")).to_have_text("Open")
    harbour.api.docker("kill", "stays", check=True)
    expect(pages.locator("#over")).to_be_visible()


def test_terminal_in_a_job_is_asked_for_and_passed_on(pages: Page, harbour: Harbour) -> None:
    """The worker is played here. With a real one: tests/worker/test_worker_shells.py."""
    run = failed(harbour.service)
    shells = harbour.service.shells
    pages.goto(f"/runs/{run}/jobs/{PLACE}/shell")
    eventually(lambda: bool(shells.list(run, PLACE)))
    shell = shells.list(run, PLACE)[0].id
    assert shells.open(shell, HERE) is not None
    worker = harbour.service.shell_pipes.end(shell, "worker")
    worker.say("opened")
    worker.say("data", b"ready> ")
    expect(pages.locator(".xterm-rows")).to_contain_text("ready>")
    pages.keyboard.type("ls\n")
    heard: list[bytes] = []

    def typed() -> bool:
        heard.extend(said.data for said in worker.hear(0.1) if said.kind == "data")
        return b"".join(heard) == b"ls\r"

    eventually(typed)
    worker.say("ended", b'{"exit_code": 5, "reason": ""}')
    expect(pages.locator("#why")).to_have_text("The shell ended with exit code 5")


@pytest.mark.parametrize(
    ("origin", "token", "user", "status"),
    [
        (None, True, "ada", b"403"), ("http://evil.test", True, "ada", b"403"), ("null", True, "ada", b"403"),
        ("own", False, "ada", b"403"), ("own", True, "grace", b"403"), ("own", True, "nobody", b"303"),
        ("own", True, "ada", b"101"),
    ],
)  # fmt: skip
def test_terminal_is_of_a_page_of_ours_alone(
    harbour: Harbour, origin: str | None, token: bool, user: str, status: bytes
) -> None:
    """Whichever page asks has the browser's cookie; what it has not is our address and the session's token."""
    cookie = harbour.sessions.get(user, "made up")
    head = [
        "GET /containers/talks/terminal HTTP/1.1", f"Host: 127.0.0.1:{harbour.web.port}", "Upgrade: websocket",
        "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {new_key()}",
        f"Cookie: shiplap_session={cookie}",
        f"Sec-WebSocket-Protocol: shiplap-terminal, csrf.{token_of(cookie) if token else 'x'}",
    ]  # fmt: skip
    if origin is not None:
        head.append(f"Origin: {harbour.web.url if origin == 'own' else origin}")
    with socket.create_connection(("127.0.0.1", harbour.web.port), stretched(20)) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode())
        assert client.recv(100).split()[1] == status
