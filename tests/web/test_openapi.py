"""The OpenAPI document says what the routes do, and no body that it allows or forbids makes the service fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.service import Service
from tests.web.conftest import Api
from web.app import APIS, create_app

_ENDPOINTS = [endpoint for api in APIS for endpoint in api]
_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def fetch(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/api/v1/openapi.json").get_json()
    return document


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_document_has_just_the_routes_that_there_are(service: Service) -> None:
    app: Flask = create_app(service)
    document = fetch(app.test_client())
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v1/") and rule.rule not in ("/api/v1/openapi.json", "/api/v1/")
    }
    assert described == routes


def test_every_reference_of_the_document_leads_somewhere(client: FlaskClient) -> None:
    document = fetch(client)
    for node in nodes(document):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_operations_have_unique_names_summaries_and_answers(client: FlaskClient) -> None:
    operations = [operation for methods in fetch(client)["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert any(status.startswith("2") for status in operation["responses"])
        assert "401" in operation["responses"]


def sample(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that ``schema`` allows, and now and then some that it does not."""
    return st.one_of(_allowed(schema, schemas, 0), _allowed(schema, schemas, 0), _junk)


def _allowed(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _allowed(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([_allowed(inner, schemas, depth) for inner in schema["anyOf"]])
    match schema.get("type"):
        case "object":
            members = {
                name: _allowed(inner, schemas, depth + 1) | (_junk if depth else st.nothing())
                for name, inner in schema.get("properties", {}).items()
            }
            required = {name: members.pop(name) for name in schema.get("required", ()) if name in members}
            return st.fixed_dictionaries(required, optional=members)
        case "array":
            inner = schema.get("items") or {"type": "string"}
            return st.lists(_allowed(inner, schemas, depth + 1), max_size=3)
        case "string":
            return st.text(max_size=30) | st.just("sha256:" + "0" * 64) | st.just("a\x00b")
        case "integer":
            return st.integers() | st.integers(0, 10)
        case "number":
            return st.floats()
        case "boolean":
            return st.booleans()
    return _junk


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_request_makes_the_service_fail(api: Api, data: st.DataObject) -> None:
    document = fetch(api.client)
    schemas = document["components"]["schemas"]
    endpoint = data.draw(st.sampled_from([e for e in _ENDPOINTS if e.name != "follow_run"]))
    operation = document["paths"][f"/api/v1{endpoint.path}"][endpoint.method.lower()]
    path = endpoint.path
    query = {}
    for parameter in operation["parameters"]:
        value = data.draw(sample(parameter["schema"], schemas))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", re.sub(r"[^\w:.-]", "", str(value)) or "1")
        elif value is not None:
            query[parameter["name"]] = str(value)
    options: dict[str, Any] = {"query_string": query}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        body = data.draw(sample(content["application/json"]["schema"], schemas))
        options |= {"data": json.dumps(body), "content_type": "application/json"}
    elif content:
        options["data"] = data.draw(st.binary(max_size=200))
    response = api.send(endpoint.method, path, **options)
    assert response.status_code < 500, response.get_data(as_text=True)
    assert str(response.status_code) in operation["responses"] or response.status_code >= 400
    response.close()
