"""The OpenAPI 3.1 document, made from the endpoints: their paths, annotations and docstrings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from web.endpoints import Api, Endpoint
from web.replies import ErrorReply

DOCUMENT: Final = "shiplap-openapi"
"""The key of an application's function that returns its document."""

_REF = "#/components/schemas/{name}"


def document(apis: Sequence[Api], *, prefix: str, version: str) -> dict[str, Any]:
    """The document as JSON-able values. prefix: what stands before every path."""
    types = [kind for api in apis for endpoint in api for kind in _types(endpoint)]
    schemas, components = msgspec.json.schema_components([*types, ErrorReply], ref_template=_REF)
    by_type = dict(zip(map(_key, types), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for api in apis:
        for endpoint in api:
            operation = _operation(endpoint, api.tag, by_type)
            paths.setdefault(prefix + endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shiplap",
            "version": version,
            "description": "Submit builds, follow them, and look after what runs them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": api.tag} for api in apis],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "shiplap login --host, or POST /tokens"}
            },
        },
    }


def _types(endpoint: Endpoint) -> Iterable[Any]:
    yield from endpoint.path_types.values()
    if endpoint.body is not None:
        yield endpoint.body
    if endpoint.result is not None and endpoint.result is not type(None):
        yield endpoint.result
    if endpoint.query is not None:
        for member in msgspec.structs.fields(endpoint.query):
            yield member.type


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(endpoint: Endpoint, tag: str, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [tag],
        "summary": endpoint.summary,
        "parameters": [*_path_parameters(endpoint, schemas), *_query_parameters(endpoint, schemas)],
        "responses": _responses(endpoint, schemas),
        "security": [] if endpoint.scope is None else [{"token": [endpoint.scope]}],
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[_key(endpoint.body)]}},
        }
    elif endpoint.accepts != "application/json":
        operation["requestBody"] = {
            "required": True,
            "content": {endpoint.accepts: {"schema": {"type": "string", "format": "binary"}}},
        }
    return operation


def _path_parameters(endpoint: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas[_key(kind)]}
        for name, kind in endpoint.path_types.items()
    ]


def _query_parameters(endpoint: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    parameters = []
    for member in msgspec.structs.fields(endpoint.query):
        schema = dict(schemas[_key(member.type)])
        if not member.required and member.default is not msgspec.NODEFAULT and member.default is not None:
            schema["default"] = member.default
        parameters.append({"name": member.encode_name, "in": "query", "required": member.required, "schema": schema})
    return parameters


def _responses(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary}
    if endpoint.media != "application/json":
        answer["content"] = {endpoint.media: {"schema": {"type": "string"}}}
    elif endpoint.result is not type(None):
        answer["content"] = {"application/json": {"schema": schemas[_key(endpoint.result)]}}
    responses: dict[str, Any] = {str(endpoint.status): answer}
    failures = {"description": "What was wrong", "content": {"application/json": {"schema": _error_schema()}}}
    statuses = set(endpoint.errors)
    if endpoint.scope is not None:
        statuses |= {401, 403}
    if endpoint.body is not None or endpoint.query is not None or endpoint.path_types:
        statuses.add(422)
    for status in sorted(statuses):
        responses[str(status)] = {**failures, "description": endpoint.errors.get(status, _MEANINGS.get(status, ""))}
    responses["default"] = failures
    return responses


_MEANINGS = {
    401: "No valid token",
    403: "The token lacks the scope",
    422: "The request does not have the form that is described here",
}


def _error_schema() -> dict[str, str]:
    return {"$ref": _REF.format(name="ErrorReply")}
