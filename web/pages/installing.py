"""Puts the pages into an application, and says what browsers may keep of them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

from flask import Blueprint, Flask, Response, request

from web.looks import look_of
from web.pages import compare, outputs, reports, shells, words
from web.pages.account import blueprint as account
from web.pages.api import blueprint as api
from web.pages.audit import blueprint as audit
from web.pages.commits import blueprint as commits
from web.pages.container import blueprint as container
from web.pages.containers import blueprint as containers
from web.pages.containers import of_images
from web.pages.disk import blueprint as disk
from web.pages.find import blueprint as find
from web.pages.frame import POLICY
from web.pages.home import blueprint as home
from web.pages.home import failing_projects
from web.pages.image import blueprint as image
from web.pages.images import blueprint as images
from web.pages.login import blueprint as login
from web.pages.oidc import blueprint as oidc
from web.pages.projects import blueprint as projects
from web.pages.projects_settings import blueprint as project_settings
from web.pages.rules import blueprint as rules
from web.pages.run import blueprint as run
from web.pages.run_jobs import blueprint as run_jobs
from web.pages.run_list import blueprint as runs
from web.pages.service import blueprint as service
from web.pages.start import blueprint as start
from web.pages.tokens import blueprint as tokens
from web.pages.trail import CONTAINERS
from web.pages.users import blueprint as users
from web.pages.workers import blueprint as workers

_STATIC: Final = Path(__file__).parent.parent / "static"
_FOR_EVER: Final = "public, max-age=31536000, immutable"

PAGES: Final[tuple[Blueprint, ...]] = (
    home, start, runs, run, run_jobs, reports.of_runs, outputs.of_runs, shells.of_runs, projects, reports.of_projects,
    outputs.of_projects, project_settings, commits, images, image,
    compare.of_images, compare.of_runs, rules, containers, container, shells.of_containers, workers, disk, find, login,
    oidc, account, users, tokens, audit, service, api,
)  # fmt: skip


def install(app: Flask) -> None:
    """Add the pages to an application."""
    app.jinja_env.filters.update(words.FILTERS)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(asset=_Assets().url, now=time.time, look_of=look_of, failing_projects=failing_projects)
    app.extensions[CONTAINERS] = of_images
    for blueprint in PAGES:
        app.register_blueprint(blueprint)
    names = {blueprint.name for blueprint in PAGES}

    @app.after_request
    def headers(response: Response) -> Response:
        if request.endpoint == "static":
            response.headers["Cache-Control"] = _FOR_EVER if request.args.get("v") else "no-cache"
        elif request.blueprint in names:
            response.headers.setdefault("Content-Security-Policy", POLICY)  # a file that a job made has a stricter one
        return response


class _Assets:
    """Addresses of static files with the hash of their content, so that browsers may keep them for ever."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def url(self, name: str) -> str:
        """The address. Raises FileNotFoundError for a file that does not exist."""
        found = self._known.get(name)
        if found is None:
            version = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
            found = self._known[name] = f"/static/{name}?v={version}"
        return found
