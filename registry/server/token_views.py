"""``/v2/`` itself, and ``/v2/token``.

Source: distribution's "Token Authentication" and "OAuth2 Token" specifications.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response, request

from registry.errors import ErrorCode
from registry.server.errors import SpecError
from registry.server.http import json_response
from registry.server.registry import Registry
from registry.server.tokens import parse_scopes

_MAX_FORM_BYTES = 64 << 10


class TokenViews:
    def __init__(self, registry: Registry) -> None:
        self._gate = registry.gate

    def base(self) -> Response:
        """GET: 200, or 401 with the challenge."""
        return json_response({})

    def token(self) -> Response:
        """GET with Basic credentials or none; POST with a form (``grant_type=password``). 200, 400, 401, 429."""
        if request.method == "GET":
            client = self._gate.identify(
                request.headers.get("Authorization", ""), address=request.remote_addr or "", by_token=False
            )
            asked, service = request.args.getlist("scope"), request.args.get("service", "")
        else:
            request.max_content_length = _MAX_FORM_BYTES
            form = request.form
            if form.get("grant_type") != "password":
                raise SpecError(400, ErrorCode.UNSUPPORTED, "unsupported grant_type: use password")
            name, password = form.get("username", ""), form.get("password", "")
            client = self._gate.log_in(name, password, address=request.remote_addr or "")
            asked, service = form.getlist("scope"), form.get("service", "")
        token, issued_at = self._gate.grant_token(client, parse_scopes(asked), service)
        document = {
            "token": token,
            "access_token": token,
            "expires_in": self._gate.token_lifetime_s,
            "issued_at": datetime.fromtimestamp(issued_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return json_response(document, headers={"Cache-Control": "no-store"})
