"""The Flask application: routes, who may what, errors as the protocol wants them. The views do the rest."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from core.errors import ShiplapError, StorageFullError
from registry import OURS_HEADER
from registry.errors import ErrorCode
from registry.server.blob_views import BlobViews
from registry.server.errors import CredentialsNeededError, SpecError
from registry.server.http import json_response, location, own_url, transport_headers
from registry.server.listening.vouching import vouch
from registry.server.manifest_views import ManifestViews
from registry.server.names import parse_name
from registry.server.registry import Registry
from registry.server.token_views import TokenViews
from registry.server.upload_views import UploadViews
from registry.server.users import EVERYONE

EXTENSION: Final = "shiplap-registry"

_log = logging.getLogger(__name__)
_ACTIONS: Final = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_INSUFFICIENT_STORAGE: Final = 507


def application(registry: Registry) -> Flask:
    """The WSGI application of a registry."""
    app = Flask("registry.server", static_folder=None)
    app.extensions[EXTENSION] = registry
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    _add_routes(app, registry)
    _add_errors(app, registry)

    @app.before_request
    def check() -> None:
        """Names first, then rights: what is malformed is 400 for everyone."""
        registry.gate.check_host(request.host)
        name = (request.view_args or {}).get("name")
        if name is not None:
            parse_name(name)
        if request.endpoint in (None, "token"):
            return
        authorization = request.headers.get("Authorization", "")
        g.client = registry.gate.identify(authorization, address=request.remote_addr or "")
        if g.client.is_known and not g.client.trusted and g.client.user != EVERYONE:
            vouch()
        if name is not None:
            action = _needed(request.method, request.endpoint)
            registry.gate.require(g.client, name, action)
            if action != "pull" and registry.mirror is not None and registry.mirror.mirrors(name):
                raise SpecError(403, ErrorCode.DENIED, f"{name} mirrors another registry: push there")
        elif not g.client.is_known:
            raise CredentialsNeededError

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        response.headers[OURS_HEADER] = "1"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.update(transport_headers(registry.settings.public_url))
        return response

    return app


def _needed(method: str, endpoint: str | None) -> str:
    if endpoint is not None and endpoint.startswith("upload"):
        return "push"
    return _ACTIONS.get(method, "push")


def _add_routes(app: Flask, registry: Registry) -> None:
    blobs, uploads = BlobViews(registry), UploadViews(registry)
    manifests, tokens = ManifestViews(registry), TokenViews(registry)
    app.add_url_rule("/v2/", "base", tokens.base, methods=["GET"])
    app.add_url_rule("/v2/token", "token", tokens.token, methods=["GET", "POST"])
    app.add_url_rule("/v2/_catalog", "catalog", manifests.catalog, methods=["GET"])
    app.add_url_rule("/v2/<path:name>/tags/list", "tags", manifests.tags, methods=["GET"])
    app.add_url_rule("/v2/<path:name>/referrers/<digest>", "referrers", manifests.referrers, methods=["GET"])
    app.add_url_rule("/v2/<path:name>/blobs/uploads/", "uploads", uploads.begin, methods=["POST"])
    upload = "/v2/<path:name>/blobs/uploads/<identity>"
    app.add_url_rule(upload, "upload", uploads.status, methods=["GET"])
    app.add_url_rule(upload, "upload-append", uploads.append, methods=["PATCH"])
    app.add_url_rule(upload, "upload-finish", uploads.finish, methods=["PUT"])
    app.add_url_rule(upload, "upload-cancel", uploads.cancel, methods=["DELETE"])
    blob = "/v2/<path:name>/blobs/<digest>"
    app.add_url_rule(blob, "blob", blobs.get, methods=["GET"])
    app.add_url_rule(blob, "blob-delete", blobs.delete, methods=["DELETE"])
    manifest = "/v2/<path:name>/manifests/<reference>"
    app.add_url_rule(manifest, "manifest", manifests.get, methods=["GET"])
    app.add_url_rule(manifest, "manifest-put", manifests.put, methods=["PUT"])
    app.add_url_rule(manifest, "manifest-delete", manifests.delete, methods=["DELETE"])


def _add_errors(app: Flask, registry: Registry) -> None:
    @app.errorhandler(SpecError)
    def refuse(error: SpecError) -> Response:
        response = json_response(error.body(), error.status, error.headers)
        if "Location" in error.headers:
            response.headers["Location"] = location(error.headers["Location"])
        if isinstance(error, CredentialsNeededError):
            response.headers["WWW-Authenticate"] = _challenge(registry, error)
        return response

    @app.errorhandler(StorageFullError)
    def full(error: StorageFullError) -> Response:
        _log.error("%s %s: %s", request.method, request.path, error)
        return _failure(_INSUFFICIENT_STORAGE, ErrorCode.UNAVAILABLE, "the registry's disk is full")

    @app.errorhandler(ShiplapError)
    def fail(error: ShiplapError) -> Response:
        _log.exception("%s %s", request.method, request.path)
        del error  # its text is for the administrator
        return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorCode.UNKNOWN, "internal error; the log has more")

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return _failure(status, ErrorCode.UNKNOWN, "internal error; the log has more")
        response = _failure(status, ErrorCode.UNSUPPORTED, error.name.lower())
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def _failure(status: int, code: ErrorCode, message: str) -> Response:
    return json_response(SpecError(status, code, message).body(), status)


def _challenge(registry: Registry, error: CredentialsNeededError) -> str:
    url = own_url(registry.settings)
    parts = [f'realm="{url}/v2/token"', f'service="{urlsplit(url).netloc}"']
    if error.scope:
        parts.append(f'scope="{error.scope}"')
    if error.error:
        parts.append(f'error="{error.error}"')
    return "Bearer " + ",".join(parts)
