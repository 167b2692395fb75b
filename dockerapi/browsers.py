"""Pages of other sites: a browser shows its user's certificate with whatever a page sends, so they may change nothing.

Browsers say with each request over TLS whose page sent it (Sec-Fetch-Site), which no page can change. docker's clients
say nothing of the kind. What a page only reads, its browser keeps from it.
Source: W3C, "Fetch Metadata Request Headers".
"""

from __future__ import annotations

from typing import Final

import flask

from dockerapi.errors import ApiError

_READING: Final = ("GET", "HEAD")
_OWN: Final = ("", "none", "same-origin")


def refuse_other_sites() -> None:
    """Raise ApiError for a request that a page of another site sent, unless it only reads."""
    site = flask.request.headers.get("Sec-Fetch-Site", "")
    if flask.request.method not in _READING and site not in _OWN:
        raise ApiError(403, "a page of another site sent this: it may change nothing here")
