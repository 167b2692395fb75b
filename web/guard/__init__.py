"""Guards of the pages: sessions, roles, CSRF tokens, and the notes of who did what.

    @blueprint.post("/runs/<int:number>/cancel")
    @require("member")
    def cancel(number: int) -> Response: ...      # flask.g.user is a pipelines.accounts.users.User

A page's view without ``require`` is for everybody who is signed in and may read the project, run or image that the page
is about (``web.guard.rights``). A view marked ``public`` is for everybody. ``install`` makes one hook enforce this, so
that a forgotten decorator opens nothing. The same hook checks the CSRF token of every request that is not GET or HEAD:
the hidden field ``_csrf`` (``csrf_token()`` in templates) or the header X-CSRF-Token. ``web.access`` checks the API's
calls by session.
"""

from __future__ import annotations

from web.guard.csrf import csrf_token
from web.guard.gate import current_user, install, public, require
from web.guard.notes import note

__all__ = ["csrf_token", "current_user", "install", "note", "public", "require"]
