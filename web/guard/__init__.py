"""Who may see which page: sessions, roles, CSRF tokens, and what is noted of who did what.

    @blueprint.post("/runs/<int:number>/cancel")
    @require("member")
    def cancel(number: int) -> Response: ...      # flask.g.user is a pipelines.accounts.users.User

A page's view without ``require`` is for whoever is signed in and may read the project, run or image that it is about
(``web.guard.rights``), and one marked ``public`` for everybody; ``install`` makes one hook enforce
it, so that a forgotten decorator opens nothing. The same hook checks the CSRF token of every request that is not GET or
HEAD: the hidden field ``_csrf`` (``csrf_token()`` in templates) or the header X-CSRF-Token. The API's calls by session
are checked by ``web.access``.
"""

from __future__ import annotations

from web.guard.csrf import csrf_token
from web.guard.gate import current_user, install, public, require
from web.guard.notes import note

__all__ = ["csrf_token", "current_user", "install", "note", "public", "require"]
