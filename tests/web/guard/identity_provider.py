"""A provider of identities that does what OpenID Connect says, and on demand something else."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT_ID = "shiplap"
CLIENT_SECRET = "between us"
SUBJECT = "248289761001"


@dataclass
class Authorization:
    """What the authorization endpoint was asked."""

    nonce: str
    challenge: str
    redirect_uri: str
    scope: str


@dataclass
class IdentityProvider:
    """A context manager: a server on a free port. claims: what ID tokens say besides the usual, or instead of it.

    algorithm, key: how ID tokens are signed; published: the keys that jwks_uri has. user_info: what its endpoint says.
    host: by which name it is known. Whoever comes to /authorize agrees at once.
    """

    claims: dict[str, Any] = field(default_factory=dict)
    user_info: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "ES256"
    host: str = "127.0.0.1"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key: Any = ECKey.generate_key("P-256", {"kid": "one"})
        self.published: list[Any] = [self.key]
        self.codes: dict[str, Authorization] = {}
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://{self.host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def authorize(self, address: str) -> str:
        """What a browser does at ``address`` once its user agreed: where it is sent, with a code."""
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query))
        assert parts.path == "/authorize"
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = Authorization(query["nonce"], query["code_challenge"], query["redirect_uri"], query["scope"])
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        if request.path == "/.well-known/openid-configuration":
            _answer(request, 200, self._discovery())
        elif request.path == "/keys":
            _answer(request, 200, {"keys": [key.as_dict(private=False) for key in self.published]})
        elif request.path.startswith("/authorize?"):
            request.send_response(303)
            request.send_header("Location", self.authorize(request.path))
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif request.path == "/user":
            assert request.headers["Authorization"] == "Bearer access"
            _answer(request, 200, {"sub": SUBJECT, **self.user_info})
        else:
            _answer(request, 404, {})

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/user",
            "response_types_supported": ["code"],
            **self.metadata,
        }

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        form = {name: values[0] for name, values in parse_qs(_body(request).decode()).items()}
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            client = tuple(base64.b64decode(given).decode().split(":", 1))
        else:
            client = (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (CLIENT_ID, CLIENT_SECRET):
            _answer(request, 401, {"error": "invalid_client"})
            return
        authorization = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if authorization is None or challenge.rstrip(b"=").decode() != authorization.challenge:
            _answer(request, 400, {"error": "invalid_grant"})
            return
        assert form["redirect_uri"] == authorization.redirect_uri
        _answer(
            request, 200, {"token_type": "Bearer", "access_token": "access", "id_token": self._token(authorization)}
        )

    def _token(self, authorization: Authorization) -> str:
        now = int(time.time())
        usual = {
            "iss": self.issuer, "sub": SUBJECT, "aud": CLIENT_ID, "nonce": authorization.nonce,
            "iat": now, "exp": now + 300, "preferred_username": "Jane.Doe",
        }  # fmt: skip
        claims = {name: value for name, value in {**usual, **self.claims}.items() if value is not None}
        if self.algorithm == "none":
            parts = [{"alg": "none", "typ": "JWT"}, claims]
            return (
                ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
                + "."
            )
        header = {"alg": self.algorithm, "kid": self.key.kid}
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])


def new_keys() -> tuple[RSAKey, OctKey]:
    """An RSA key, and a symmetric one: the public part of an EC key, as those do who trust ``alg`` in the header."""
    return RSAKey.generate_key(2048, {"kid": "rsa"}), OctKey.import_key("public" * 8, {"kid": "one"})


def _body(request: BaseHTTPRequestHandler) -> bytes:
    return request.rfile.read(int(request.headers.get("Content-Length", "0")))


def _answer(request: BaseHTTPRequestHandler, status: int, document: object) -> None:
    data = json.dumps(document).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
