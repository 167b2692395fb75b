"""One service, one server and one Chromium for all tests of the pages."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Response,
    expect,
    sync_playwright,
)
from werkzeug.serving import WSGIRequestHandler, make_server

from core.settings import ServiceSettings
from images.store import Store
from pipelines.database import migrate
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.toolkit.bounds import stretched
from tests.toolkit.service import RedisServer
from tests.toolkit.standin import Standin
from tests.web.browser import plays
from tests.web.browser.pipelines import ENDS, LASTS_S, plan
from tests.web.browser.stage import Stage
from tests.web.browser.stock import stock, stock_cache, stock_evil
from web.app import create_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PASSWORD = "correct horse battery"
_NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
"""A program of this host, such as a test beside this one, made or removed an interface."""


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Say nothing."""


class _Closing:
    """Closes what was answered, however the connection ends: werkzeug's server forgets to when a browser resets it."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        with contextlib.ExitStack() as stack:
            body = self._app(environ, start_response)
            if hasattr(body, "close"):
                stack.callback(body.close)
            yield from body


@dataclass
class Site:
    """The pages at ``url``, what they show, and the numbers of the runs by name."""

    url: str
    app: Flask
    service: Service
    registry: Registry
    stage: Stage
    runs: dict[str, int]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With users ada (admin), grace (member) and linus (viewer); and a stand-in for an engine."""
    directory = tmp_path_factory.mktemp("site")
    sockets = Path(tempfile.mkdtemp(prefix="shiplap-", dir="/tmp"))  # a socket's path is short
    redis = RedisServer(directory)
    redis.start()
    environment = {"SHIPLAP_REDIS_URL": redis.url, "SHIPLAP_ENGINE": f"unix://{sockets}/engine"}
    settings = ServiceSettings.from_environ(environment, root=str(directory / "root"))
    migrate(settings)
    stock_cache(settings.root)
    with Service.open(settings) as service, Store.open(settings.root) as store, Standin(sockets / "engine") as engine:
        engine.stock()
        for name, role in (("ada", "admin"), ("grace", "member"), ("linus", "viewer")):
            service.users.create(name, role, PASSWORD)  # type: ignore[arg-type]
        registry = Registry(store, ServerSettings(access="users"))
        stock(registry)
        app = create_app(service, registry)
        server = make_server("127.0.0.1", 0, _Closing(app), threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, name="site", daemon=True)
        thread.start()
        stage = Stage(service)
        try:
            names = ("LOST", "CANCELLED", "LONG", "CACHED", "GREEN", "RED", "RUNNING")
            runs = {name: stage.play(getattr(plays, name)) for name in names}
            runs["QUEUED"] = stage.queue("tide", plays.GREEN.trigger, labels=("arm64",))
            runs["PIPELINE"] = plan(service, ENDS, began_s=1800.0, lasts_s=LASTS_S).number
            yield Site(f"http://127.0.0.1:{server.port}", app, service, registry, stage, runs)
        finally:
            stage.close()
            server.shutdown()
            thread.join()
            registry.close()
            redis.kill()
            shutil.rmtree(sockets)


@pytest.fixture(scope="session")
def evil(site: Site) -> int:
    """The number of a run that tries to get markup into the pages; an image that does is ``evil/image:main``."""
    stock_evil(site.registry)
    return site.stage.play(plays.EVIL)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: scripts/install-debian test"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]
        )
        expect.set_options(timeout=stretched(10) * 1000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Page, "goto", _go_patiently(Page.goto))
            yield browser
        browser.close()


def _go_patiently(goto: Callable[..., Response | None]) -> Callable[..., Response | None]:
    """As somebody does whose network changed while a page came: they ask once more."""

    def go(page: Page, *args: Any, **options: Any) -> Response | None:
        try:
            return goto(page, *args, **options)
        except Error as error:
            if _NETWORK_CHANGED not in error.message:
                raise
        return goto(page, *args, **options)

    return go


def signed_in(browser: Browser, site: Site, name: str, **options: Any) -> BrowserContext:
    """A context with the session of a user."""
    context = browser.new_context(base_url=site.url, **options)
    text = site.service.sessions.begin(site.service.users.get(name), address="127.0.0.1", agent="test")
    context.set_default_timeout(stretched(30) * 1000)
    context.add_cookies([{"name": "shiplap_session", "value": text, "url": site.url}])
    return context


_EXPECTED = (
    "status of 422",  # a form that was filled in wrongly
    _NETWORK_CHANGED,
    "htmx:sendError",  # what htmx says of the same
    "htmx:afterRequest",
)


def _is_wrong(message: ConsoleMessage) -> bool:
    return message.type == "error" and not any(text in message.text for text in _EXPECTED)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """Of an administrator. No page may fail, nor be refused anything by its own policy."""
    site.service.workers.beat("worker-1", ("amd64",), 2)
    context = signed_in(browser, site, "ada")
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if _is_wrong(message) else None)
    yield page
    context.close()
    assert wrong == []
