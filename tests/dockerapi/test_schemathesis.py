"""schemathesis holds the engine's API to a description of it: whatever is sent, the answer is one that it has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok

from tests.toolkit.engineapi import Api, UnixConnection
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

EXAMPLES = int(os.environ.get("SHIPLAP_EXAMPLES", "3"))
_DESCRIPTION: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "description.yaml").read_text())


@pytest.fixture(scope="module")
def described(api: Api) -> Iterator[Api]:
    api.docker("run", "-d", "--name", "mistreated", "--network", "none", BUSYBOX_NAME, "sleep", "1000", check=True)
    yield api
    api.docker("unpause", "mistreated")
    for kind, words in {"container": ("rm", "-f"), "network": ("network", "rm"), "volume": ("volume", "rm")}.items():
        listed = api.docker(kind, "ls", "-q", *(["-a"] if kind == "container" else ["--filter", "name=made-"])).stdout
        if listed.split():
            api.docker(*words, *listed.split(), check=True)


def test_no_request_that_the_description_allows_fails(described: Api) -> None:
    schema = schemathesis.openapi.from_dict(_DESCRIPTION)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 30
    for operation in operations:
        _held(operation, described)
    assert described.answers()


def _held(operation: Any, api: Api) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def every(case: Case[Any]) -> None:
        status, kind, data = _sent(case, api)
        answers = operation.definition.raw["responses"]
        asked = f"{case.method} {case.formatted_path} {case.query} {case.body!r}"
        told = f"{asked}: {status} {data[:500]!r}\n{api.log()[-2000:]}"
        assert str(status) in answers, told
        answer = answers[str(status)]
        if "$ref" in answer:
            answer = _DESCRIPTION["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        if "content" in answer:
            assert kind == "application/json", told
            wanted = answer["content"]["application/json"]["schema"]
            assert jsonschema_rs.is_valid(wanted, json.loads(data)), told

    every()


def _sent(case: Case[Any], api: Api) -> tuple[int, str, bytes]:
    values = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in case.query.items()}
    path = quote(case.formatted_path, safe="/%")
    url = f"/v1.45{path}?{urlencode(values, doseq=True, errors='surrogatepass')}"
    is_empty = isinstance(case.body, schemathesis.core.NotSet)
    body = None if is_empty else json.dumps(case.body).encode()
    client = UnixConnection(api.socket)
    client.request(case.method, url, body, {} if body is None else {"Content-Type": "application/json"})
    answer = client.getresponse()
    data = answer.read()
    client.close()
    return answer.status, answer.headers.get_content_type(), data
