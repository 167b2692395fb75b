"""Every page by a name, and where it is: what is held against axe-core, and photographed."""

from __future__ import annotations

from typing import Final

PAGES: Final = {
    "home": "/",
    "home-failing": "/?show=failing",
    "runs": "/runs",
    "run": "/runs/{GREEN}",
    "run-failed": "/runs/{RED}",
    "run-live": "/runs/{RUNNING}",
    "pipeline": "/runs/{PIPELINE}",
    "tests": "/runs/{PIPELINE}/jobs/6/tests",
    "project-tests": "/projects/shop/tests",
    "run-again": "/runs/{RED}/again",
    "log": "/runs/{LONG}#L20018-L20022",
    "projects": "/projects",
    "project": "/projects/web",
    "branches": "/projects/web/branches",
    "pulls": "/projects/web/pulls?text=nothing",
    "trends": "/projects/web/trends",
    "images": "/images",
    "repository": "/images/harbour/web",
    "image": "/images/harbour/web/-/main",
    "layer": "/images/harbour/web/-/main/layers/1",
    "image-rules": "/images/harbour/web/-/-/rules",
    "compare": "/images/harbour/web/-/stable/compare?with=main&tab=files",
    "compare-layers": "/images/harbour/web/-/stable/compare?with=main&tab=layers",
    "compare-runs": "/runs/{GREEN}/compare/{RED}",
    "commit": "/projects/web/commits/9fceb02d0ae5",
    "workers": "/workers",
    "disk": "/disk",
    "find": "/find?q=web",
    "users": "/users",
    "tokens": "/tokens",
    "audit": "/audit",
    "service": "/service",
    "api": "/api",
    "api-operation": "/api/put_project",
    "settings": "/projects/web/settings",
    "settings-builds": "/projects/web/settings/builds",
    "settings-danger": "/projects/web/settings/danger",
    "account": "/account",
    "login": "/login",
    "not-found": "/nowhere",
}
"""Numbers of runs are filled in by the names that ``conftest.Site.runs`` has."""
