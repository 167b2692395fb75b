"""schemathesis holds the API to its OpenAPI document: whatever is sent, every answer is one that the document has."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from pipelines.model import ContextSource, RunRequest
from pipelines.service import Service
from web.app import create_app
from web.backing import hub_of

_CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
_EXAMPLES = 5


@schemathesis.serializer("application/vnd.shiplap.blobs")
def serialize_blobs(context: Any, value: Any) -> bytes:
    """As a client that does not know the format would."""
    return value if isinstance(value, bytes) else str(value).encode()


def test_no_request_that_the_document_allows_fails(service: Service) -> None:
    app = create_app(service)
    hub_of(app).stopping = True  # logs of waiting runs have no end
    run = service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64)))
    service.runs.cancel(run.number)
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == sum(map(len, schema.raw_schema["paths"].values()))
    assert any(operation.path.endswith("/events") for operation in operations)
    for operation in operations:
        _, token = service.tokens.create("test", ["admin"])  # the last one may have been revoked by a request
        check(operation, token)


def check(operation: Any, token: str) -> None:
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def every(case: Case[Any]) -> None:
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        case.validate_response(response, checks=_CHECKS)

    every()
