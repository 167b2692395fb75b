"""The pages that people see: server-rendered HTML, one blueprint for each group of pages.

A group is a module that exports ``blueprint``; ``PAGES`` lists them, and ``install`` puts them into an application.
Views read through the objects of ``pipelines.service.Service`` (``backing.service()``) and the registry
(``backing.registry()``); what they say of it is in ``templates/``, which all extend ``layout.html`` and use the macros
of ``macros.html``. Pages work without JavaScript as far as they can; what is live is htmx polling with ETags, and
``static/log.js``.

No view has SQL, no template has inline script or style: the Content-Security-Policy of ``frame`` forbids them.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from web.pages.account import blueprint as account
from web.pages.audit import blueprint as audit
from web.pages.disk import blueprint as disk
from web.pages.images import blueprint as images
from web.pages.login import blueprint as login
from web.pages.oidc import blueprint as oidc
from web.pages.projects import blueprint as projects
from web.pages.projects_settings import blueprint as project_settings
from web.pages.run import blueprint as run
from web.pages.runs import blueprint as runs
from web.pages.tokens import blueprint as tokens
from web.pages.users import blueprint as users
from web.pages.workers import blueprint as workers

PAGES: Final[tuple[Blueprint, ...]] = (
    runs, run, projects, project_settings, images, workers, disk, login, oidc, account, users, tokens, audit,
)  # fmt: skip
