"""The WSGI application: pages, REST API, probes and metrics, with the registry beside it under /v2/."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from flask import Flask, Response, request

from registry.server.http import transport_headers
from web.access import authenticate, authenticate_scraper
from web.backing import attach
from web.calls import Call, Streamed
from web.endpoints import Endpoint, decode_body
from web.erroranswers import add_error_handlers
from web.errors import TooLargeError, UnsupportedTypeError
from web.guard import install as guard
from web.guard import note
from web.guard.notes import has_noted, subject_of
from web.guard.rights import Target, check
from web.hooks import badge, follow, receive
from web.loghub import Hub
from web.metrics import exposition
from web.openapi import DOCUMENT, document
from web.pages.installing import PAGES, install
from web.pages.outputs import previewed
from web.requestlog import log_requests
from web.views import (
    admin,
    comparisons,
    contexts,
    grants,
    images,
    jobs,
    lint,
    members,
    outputs,
    projects,
    reports,
    rules,
    runs,
    schedules,
    secrets,
    shells,
    users,
)
from web.views import service as service_views
from web.views.operation import readiness

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from pipelines.service import Service
    from registry.server.registry import Registry
    from web.identities import Provider

PREFIX: Final = "/api/v1"
APIS: Final = (
    runs.api, jobs.api, outputs.api, reports.api, contexts.api, projects.api, admin.api, secrets.api, users.api,
    grants.api,
    members.api, lint.api, schedules.api, shells.api, images.api, comparisons.api, rules.api, service_views.api,
)  # fmt: skip
REPOSITORIES: Final = "/git/"
API_VERSION: Final = "1.0"
_MAX_JSON_BYTES: Final = 64 << 20  # the list of a context's files: some 300,000 of them
_WITH_SLASHES: Final = ("job", "repository")
_DIGITS: Final = 17  # longer than any run's number
_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(service: Service, registry: Registry | None = None, identities: Provider | None = None) -> Flask:
    """The service's own part: API and pages. The caller closes all of it.

    registry: the registry that is served beside it, for the pages of images.
    identities: the provider by which people sign in, in addition to passwords.
    """
    app = Flask("web")
    hub = Hub(service.logs)
    attach(app, service, hub, registry=registry, identities=identities)
    app.url_map.strict_slashes = False
    for api in APIS:
        for endpoint in api:
            rule = PREFIX + endpoint.path
            for name in _WITH_SLASHES:
                rule = rule.replace(f"{{{name}}}", f"<path:{name}>")
            rule = rule.replace("{", "<").replace("}", ">")
            view = _view(endpoint, service, hub)
            app.add_url_rule(rule, endpoint.name, view, methods=[endpoint.method], provide_automatic_options=False)
            if endpoint.is_websocket:  # without this it is not found by whoever asks for one
                app.add_url_rule(rule, endpoint.name, websocket=True, methods=["GET"], provide_automatic_options=False)
    _add_operation(app, service)
    add_error_handlers(app)
    log_requests(app)

    always = {**_SECURITY, **transport_headers(service.settings.public_url)}

    @app.after_request
    def secure(response: Response) -> Response:
        for name, value in always.items():
            response.headers.setdefault(name, value)
        return response

    for blueprint in (receive.blueprint, follow.blueprint, badge.blueprint, previewed):
        app.register_blueprint(blueprint)
    install(app)
    guard(app, service, {page.name for page in PAGES})
    return app


def with_registry(app: WSGIApplication, registry: WSGIApplication) -> WSGIApplication:
    """Send /v2/ to the registry, the rest to ``app``."""

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        chosen = registry if path == "/v2" or path.startswith("/v2/") else app
        return chosen(environ, start_response)

    return dispatch


def with_repositories(app: WSGIApplication, repositories: WSGIApplication) -> WSGIApplication:
    """Send /git/ to the bare repositories, the rest to ``app``."""

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chosen = repositories if environ.get("PATH_INFO", "").startswith(REPOSITORIES) else app
        return chosen(environ, start_response)

    return dispatch


def _view(endpoint: Endpoint, service: Service, hub: Hub) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        caller = None
        if endpoint.scope is not None:
            caller = authenticate(service, request)
            check(service, caller.rights, endpoint.scope, _target(path))
        arguments: dict[str, Any] = endpoint.path_arguments(path)
        query = endpoint.query_argument(request.args)
        if query is not None:
            arguments["query"] = query
        if endpoint.body is not None:
            arguments["body"] = decode_body(_json_bytes(), endpoint.body)
        call = Call(service, hub, caller, request)
        response = _response(endpoint, endpoint.handler(call, **arguments))
        if endpoint.is_noted and not has_noted():
            made = response.headers.get("Location", "").removeprefix(PREFIX)
            note(service, endpoint.name.replace("_", " "), subject_of(path) or made, actor=call.actor)
        return response

    return view


def _target(path: Mapping[str, str]) -> Target:
    """The target of a call, by its path. Errors in the path are reported only once the caller has the right to know."""
    run = path.get("run", "")
    number = int(run) if run.isascii() and run.isdigit() and len(run) < _DIGITS else 0
    return Target(path.get("project", ""), number, path.get("repository", ""))


def _json_bytes() -> bytes:
    if request.mimetype != "application/json":
        raise UnsupportedTypeError(
            f"the body is {request.mimetype or 'of no type'}, expected JSON", hint="Content-Type: application/json"
        )
    if (request.content_length or 0) > _MAX_JSON_BYTES:
        raise TooLargeError(f"the body has more than {_MAX_JSON_BYTES} bytes")
    data = request.stream.read(_MAX_JSON_BYTES + 1)
    if len(data) > _MAX_JSON_BYTES:
        raise TooLargeError(f"the body has more than {_MAX_JSON_BYTES} bytes")
    return data


def _response(endpoint: Endpoint, result: Any) -> Response:
    if isinstance(result, Streamed):
        response = Response(result.pieces, endpoint.status, content_type=endpoint.media)
        response.headers.update(result.headers)
        response.headers["X-Accel-Buffering"] = "no"  # makes nginx pass each event on at once
        return response
    if result is None:
        return Response(status=endpoint.status)
    response = Response(msgspec.json.encode(result, enc_hook=_plain), endpoint.status, mimetype="application/json")
    if endpoint.location:
        response.headers["Location"] = PREFIX + endpoint.location.format(result)
    return response


def _plain(value: object) -> str:
    """Digests as strings: they have types of their own, which msgspec leaves to us."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} in an answer")


@functools.cache
def _document() -> dict[str, Any]:
    """The document, shared by all applications: to make it takes longer than all the rest of an application."""
    return document(APIS, prefix=PREFIX, version=API_VERSION)


@functools.cache
def _description() -> bytes:
    return msgspec.json.encode(_document())


@functools.cache
def _index() -> bytes:
    """Where things are, for whoever looks at the API's root: each collection, by its first operation that reads it."""
    paths = {
        endpoint.name: PREFIX + endpoint.path
        for api in APIS
        for endpoint in api
        if endpoint.method == "GET" and endpoint.media == "application/json" and not endpoint.is_websocket
    }
    found = {"version": API_VERSION, "documentation": "/api", "openapi": f"{PREFIX}/openapi.json", "paths": paths}
    return msgspec.json.format(msgspec.json.encode(found), indent=2)


def _add_operation(app: Flask, service: Service) -> None:
    app.extensions[DOCUMENT] = _document

    @app.get(f"{PREFIX}/")
    def index() -> Response:
        return Response(_index(), mimetype="application/json")

    @app.get(f"{PREFIX}/openapi.json")
    def openapi() -> Response:
        return Response(_description(), mimetype="application/json")

    @app.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @app.get("/readyz")
    def readyz() -> Response:
        state = readiness(service)
        return Response(msgspec.json.encode(state), 200 if state.ready else 503, mimetype="application/json")

    @app.get("/metrics")
    def metrics() -> Response:
        authenticate_scraper(service.settings.metrics_token, request)
        return Response(exposition(service), content_type="text/plain; version=0.0.4; charset=utf-8")
