"""The REST API: what each endpoint answers, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from pipelines.model import GitSource, RunRequest
from pipelines.schema import jobs
from pipelines.service import Service
from tests.web.conftest import Api
from web.app import APIS, create_app
from web.endpoints import PARAMETER, Endpoint

ENDPOINTS = [endpoint for api in APIS for endpoint in api]
NAMES = [endpoint.name for endpoint in ENDPOINTS]


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_entry(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "type": "file", "mode": 0o644, "mtime": 1, "size": len(data), "digest": sha256(data)}


def upload(api: Api, **files: bytes) -> str:
    """A context of these files, uploaded; its digest."""
    entries = [file_entry(path, data) for path, data in files.items()]
    reply = api("POST", "/contexts", {"entries": entries})
    for data in files.values():
        if sha256(data) in reply["missing"]:
            api("PUT", f"/contexts/blobs/{sha256(data)}", data=data, status=204)
    context: str = reply["context"]
    return context


def submit(api: Api, **more: Any) -> dict[str, Any]:
    context = upload(api, Dockerfile=b"FROM scratch\n")
    run: dict[str, Any] = api("POST", "/runs", {"source": {"type": "context", "context": context}, **more}, status=201)
    return run


def test_submitted_run_waits_and_says_why(api: Api) -> None:
    run = submit(api, options={"tags": ["app"]})
    assert (run["state"], run["attempt"]) == ("queued", 0)
    shown = api("GET", f"/runs/{run['number']}")
    assert shown["reason"]
    assert shown["options"]["tags"] == ["app"]
    assert api("GET", f"/runs/{run['number']}/steps") == {"steps": []}


def test_answer_to_a_submission_names_the_runs_address(api: Api) -> None:
    context = upload(api, Dockerfile=b"FROM scratch\n")
    response = api.send("POST", "/runs", {"source": {"type": "context", "context": context}})
    assert response.headers["Location"] == f"/api/v1/runs/{response.json['number']}"  # type: ignore[index]


def test_runs_are_listed_newest_first_and_in_pages(api: Api) -> None:
    numbers = [submit(api, project=project)["number"] for project in ("a", "b", "a")]
    assert [run["number"] for run in api("GET", "/runs")["runs"]] == numbers[::-1]
    assert [run["number"] for run in api("GET", "/runs?project=a")["runs"]] == [numbers[2], numbers[0]]
    assert [run["number"] for run in api("GET", f"/runs?before={numbers[2]}&limit=1")["runs"]] == [numbers[1]]
    assert api("GET", "/runs?state=failed") == {"runs": []}


def test_waiting_run_is_cancelled_at_once_and_only_once(api: Api) -> None:
    number = submit(api)["number"]
    assert api("POST", f"/runs/{number}/cancel")["state"] == "cancelled"
    assert api("POST", f"/runs/{number}/cancel", status=409)["error"]["code"] == "conflict"


def test_only_a_run_that_has_ended_is_retried(api: Api) -> None:
    number = submit(api, options={"tags": ["app"]})["number"]
    api("POST", f"/runs/{number}/retry", status=409)
    api("POST", f"/runs/{number}/cancel")
    again = api("POST", f"/runs/{number}/retry", status=201)
    assert again["number"] != number
    assert again["options"]["tags"] == ["app"]


def test_context_is_asked_for_only_what_is_missing(api: Api) -> None:
    upload(api, one=b"1", two=b"2")
    reply = api("POST", "/contexts", {"entries": [file_entry("x", b"1"), file_entry("y", b"3")]})
    assert reply["missing"] == [sha256(b"3")]


def user_of(client: FlaskClient, service: Service, name: str) -> Api:
    """A member with a token."""
    service.users.create(name, "member", "a long password")
    return Api(client, service.tokens.create(f"of {name}", ["build"], owner=name)[1])


def test_file_that_somebody_else_sent_is_missing_and_no_context_of_theirs_is_built(
    client: FlaskClient, service: Service, api: Api
) -> None:
    ann, bob = (user_of(client, service, name) for name in ("ann", "bob"))
    context = upload(ann, Dockerfile=b"FROM scratch\n", plans=b"secret")
    source = {"source": {"type": "context", "context": context}}
    for other in (bob, Api(client, service.tokens.create("ci", ["build"])[1])):
        other("POST", "/runs", source, status=409)  # a digest that was seen in a log
        entries = {"entries": [file_entry("stolen", b"secret"), file_entry("own", b"mine")]}
        reply = other("POST", "/contexts", entries)
        assert set(reply["missing"]) == {sha256(b"secret"), sha256(b"mine")}
        other("PUT", f"/contexts/blobs/{sha256(b'mine')}", data=b"mine", status=204)
        other("POST", "/runs", {"source": {"type": "context", "context": reply["context"]}}, status=409)
    ann("POST", "/runs", source, status=201)
    assert upload(bob, Dockerfile=b"FROM scratch\n", plans=b"secret") == context  # who has the files may build them
    bob("POST", "/runs", source, status=201)
    again = ann("POST", "/contexts", {"entries": [file_entry("plans", b"secret")]})
    assert again["missing"] == []


def test_files_are_one_user_s_whichever_token_sends_them(client: FlaskClient, service: Service) -> None:
    first = user_of(client, service, "ann")
    second = Api(client, service.tokens.create("another", ["build"], owner="ann")[1])
    upload(first, f=b"x")
    assert second("POST", "/contexts", {"entries": [file_entry("f", b"x")]})["missing"] == []


def test_many_small_files_come_in_one_request(api: Api, service: Service) -> None:
    contents = [b"", b"x", b"line\nline\n", b"y" * 700_000]
    entries = [file_entry(str(number), data) for number, data in enumerate(contents)]
    context = api("POST", "/contexts", {"entries": entries})["context"]
    body = b"".join(f"{sha256(data)} {len(data)}\n".encode() + data for data in contents)
    assert api("POST", "/contexts/blobs", data=body) == {"stored": 4}
    assert service.contexts.has(context)


@pytest.mark.parametrize(
    "body", [b"nonsense", b"sha256:00 5\nabc", b"x" * 1000, b"\n", sha256(b"a").encode() + b" 1\nb"]
)
def test_malformed_batch_of_files_is_refused(api: Api, body: bytes) -> None:
    assert api("POST", "/contexts/blobs", data=body, status=422)["error"]["code"] == "invalid_request"


def test_blob_that_is_not_what_it_says_is_refused(api: Api) -> None:
    api("PUT", f"/contexts/blobs/{sha256(b'a')}", data=b"b", status=422)
    api("PUT", "/contexts/blobs/sha256:zz", data=b"b", status=422)


def test_secrets_are_listed_without_their_values(api: Api, service: Service) -> None:
    api("PUT", "/secrets/TOKEN", {"value": "geheim"}, status=204)
    api("PUT", "/secrets/KEY", {"value_base64": "AP8AAAD/"}, status=204)
    text = json.dumps(api("GET", "/secrets"))
    assert "TOKEN" in text
    assert "geheim" not in text
    assert service.secrets.reveal(["KEY"]) == {"KEY": b"\x00\xff\x00\x00\x00\xff"}
    api("PUT", "/secrets/KEY/policy", {"branches": ["main"], "events": ["push"]}, status=204)
    assert [each["policy"] for each in api("GET", "/secrets")["secrets"]] == [
        {"branches": ["main"], "events": ["push"]}, {},
    ]  # fmt: skip
    (entry,) = [entry for entry in service.audit.list() if entry.action == "put secret policy"]
    assert (entry.subject, entry.detail) == ("secret=KEY", "for branches main; events push")
    for wrong in ({"events": ["pushes"]}, {"branch": ["main"]}, {"events": ["pull_request"]}, {"branches": ["["]}):
        api("PUT", "/secrets/KEY/policy", wrong, status=422)
    api("PUT", "/secrets/NONE/policy", {}, status=404)
    api("DELETE", "/secrets/TOKEN", status=204)
    api("DELETE", "/secrets/TOKEN", status=404)
    api("PUT", "/secrets/X", {}, status=422)
    api("PUT", "/secrets/X", {"value_base64": "?"}, status=422)


def test_token_that_was_made_works_until_it_is_revoked(api: Api) -> None:
    made = api("POST", "/tokens", {"name": "ci", "scopes": ["build"]}, status=201)
    assert made["secret"] not in json.dumps(api("GET", "/tokens"))
    other = Api(api.client, made["secret"])
    assert other("GET", "/whoami")["name"] == "ci"
    submit(other)
    assert other("GET", "/tokens", status=403)["error"]["code"] == "forbidden"
    api("DELETE", f"/tokens/{made['token']['id']}", status=204)
    other("GET", "/whoami", status=401)


def test_project_keeps_its_settings(api: Api) -> None:
    api("PUT", "/projects/web", {"concurrency": 3, "weight": 2})
    assert api("GET", "/projects/web")["concurrency"] == 3
    assert api("GET", "/projects/web")["weight"] == 2
    api("PUT", "/projects/web", {"weight": 0}, status=422)
    assert "web" in [project["name"] for project in api("GET", "/projects")["projects"]]
    api("GET", "/projects/nope", status=404)


def test_workers_are_listed(api: Api) -> None:
    assert api("GET", "/workers") == {"workers": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/runs/999", None, 404),
        ("GET", "/runs/999/log", None, 404),
        ("GET", "/runs/999/events", None, 404),
        ("GET", "/runs/0", None, 422),
        ("GET", "/runs/x", None, 422),
        ("GET", "/runs?limit=0", None, 422),
        ("GET", "/runs?nonsense=1", None, 422),
        ("GET", "/whoami?x=1", None, 422),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/runs", None, 405),
        ("POST", "/runs", {"source": {"type": "carrier-pigeon"}}, 422),
        ("POST", "/runs", {"source": {"type": "context", "context": "sha256:" + "0" * 64}}, 409),
        ("POST", "/runs", {"source": {"type": "git", "url": "file:///etc"}}, 422),
        ("POST", "/runs", [], 422),
        ("POST", "/contexts", {"entries": [{"path": "../x", "type": "directory"}]}, 422),
        ("POST", "/tokens", {"name": "x", "scopes": ["god"]}, 422),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(api: Api, method: str, path: str, body: Any, status: int) -> None:
    error = api(method, path, body, status=status)["error"]
    assert error["code"]
    assert error["message"]


def test_pipeline_file_is_checked_for_whoever_writes_one(api: Api) -> None:
    good = api("POST", "/lint", {"file": "jobs: {a: {image: 'b:1', run: x}, c: {build: .}}"})
    assert (good["usable"], good["jobs"], good["problems"]) == (True, ["a", "c"], [])
    bad = api("POST", "/lint", {"file": "jobs:\n  a: {imag: b, run: x}\n", "name": ".shiplap/a.yml"})
    assert (bad["usable"], bad["jobs"]) == (False, [])
    assert {"line": 2, "column": 7, "severity": "error"}.items() <= bad["problems"][-1].items()
    assert bad["problems"][-1]["hint"] == 'did you mean "image"?'
    assert ".shiplap/a.yml:2:7: error: " in bad["text"]
    hostile = api("POST", "/lint", {"file": "a: " + "[" * 250_000})
    assert "nested more than 50 deep" in hostile["problems"][0]["message"]
    assert api("POST", "/lint", {"file": "x" * (512 << 10) + "x"}, status=422)
    assert api("POST", "/lint", {"file": ""})["problems"][0]["line"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("PUT", "/projects/my%20app", {}, "'my app' is not a project's name"),
        ("PUT", "/secrets/a%20b", {"value": "x"}, "'a b' is not a secret's name"),
        ("GET", "/runs/x", None, "'x' is not a run's number"),
        ("GET", "/runs?limit=0", None, "limit has to be a whole number, at least 1"),
        ("GET", "/runs?nonsens=1", None, "there is no field nonsens"),
        ("GET", "/runs?state=done", None, "state is 'done'; it can be cancelled, error"),
        ("POST", "/runs", {"source": {"type": "pigeon"}}, "source.type is 'pigeon'; it can be context or git"),
        ("POST", "/runs", {}, "source is missing"),
        ("POST", "/tokens", {"name": "x", "scopes": ["god"]}, "scopes[0] is 'god'; it can be admin, build or read"),
        ("POST", "/users", {"name": "A B", "role": "viewer"}, "name has to be a user's name: up to 64"),
    ],
)
def test_who_mistypes_something_is_told_the_field_and_what_it_may_be(
    api: Api, method: str, path: str, body: Any, told: str
) -> None:
    error = api(method, path, body, status=422)["error"]
    assert error["message"].startswith(told)
    assert "`" not in error["message"]
    assert "^[" not in error["message"] + (error.get("hint") or "")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=NAMES)
def test_endpoint_takes_no_field_that_it_does_not_know(endpoint: Endpoint) -> None:
    """What is mistyped would not count, and nobody would learn it."""
    for kind in (endpoint.query, endpoint.body):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            assert kind.__struct_config__.forbid_unknown_fields, kind


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_body_that_is_no_json_is_refused(api: Api, data: bytes) -> None:
    api("POST", "/runs", data=data, content_type="application/json", status=422)


def test_body_of_another_type_is_refused(api: Api) -> None:
    api("POST", "/runs", data=b"{}", content_type="text/plain", status=415)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=NAMES)
def test_endpoint_needs_a_token_with_its_scope(client: FlaskClient, service: Service, endpoint: Endpoint) -> None:
    path = PARAMETER.sub("1", endpoint.path)
    for token in ("", "shp_wrong"):
        response = Api(client, token).send(endpoint.method, path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    if endpoint.scope != "read":
        reader = Api(client, service.tokens.create("reader", ["read"])[1])
        reader(endpoint.method, path, status=403)


def test_expired_token_is_refused(client: FlaskClient, service: Service) -> None:
    service.tokens._clock = lambda: 1_000.0
    token = service.tokens.create("old", ["read"], 60)[1]
    service.tokens._clock = lambda: 2_000.0
    assert "expired" in Api(client, token)("GET", "/whoami", status=401)["error"]["message"]


def test_answers_carry_security_headers(client: FlaskClient) -> None:
    for path in ("/healthz", "/api/v1/runs", "/nothing"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_probes_need_no_token(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json == {"ready": True, "database": "ok", "queue": "ok"}


def test_pages_keep_to_https_where_that_is_the_public_address(service: Service) -> None:
    for url, said in (("https://ci.example", "max-age=31536000"), ("http://ci.example", None), ("", None)):
        service.settings = service.settings._replace(public_url=url)
        browser = create_app(service).test_client()
        for path in ("/login", "/healthz", "/api/v1/runs", "/nothing"):
            assert browser.get(path).headers.get("Strict-Transport-Security") == said, (url, path)


def test_metrics_ask_for_their_token_where_there_is_one(service: Service) -> None:
    service.settings = service.settings._replace(metrics_token="gauge")
    scraper = create_app(service).test_client()
    token = service.tokens.create("test", ["admin"])[1]
    for authorization in ("", "Bearer", "Bearer ", "Bearer gaug", "Bearer gaugé", "Basic gauge", f"Bearer {token}"):
        refused = scraper.get("/metrics", headers={"Authorization": authorization} if authorization else {})
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="shiplap"'
        assert b"shiplap_queue" not in refused.data
    assert b"shiplap_queue_depth" in scraper.get("/metrics", headers={"Authorization": "bearer gauge"}).data
    assert scraper.get("/healthz").status_code == 200


def test_metrics_count_what_waits(api: Api, client: FlaskClient) -> None:
    submit(api)
    text = client.get("/metrics").get_data(as_text=True)
    assert "shiplap_queue_depth 1.0" in text
    assert 'shiplap_runs{state="queued"} 1.0' in text


def test_metrics_say_which_workers_are_wanted(api: Api, client: FlaskClient, service: Service) -> None:
    submit(api)
    for labels in (("gpu", "arm64"), ("arm64", "gpu"), ()):
        service.runs.submit(RunRequest(GitSource("https://git.example/x"), worker_labels=labels))
    with service.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.worker_labels.contains("gpu")).values(queued_at=time.time() - 600))
        connection.execute(update(jobs).where(jobs.c.run == 4).values(not_before=time.time() + 600))
    text = client.get("/metrics").get_data(as_text=True)
    assert 'shiplap_jobs_waiting{labels=""} 1.0' in text, "the other one is tried again later"
    assert 'shiplap_jobs_waiting{labels="arm64,gpu"} 2.0' in text
    waited = float(text.partition('shiplap_jobs_waiting_seconds{labels="arm64,gpu"} ')[2].partition("\n")[0])
    assert 600 <= waited < 4000


def test_run_that_names_anothers_image_is_refused_with_the_reason(api: Api) -> None:
    for project in ("web", "other"):
        api("PUT", f"/projects/{project}", {})
    body = {
        "source": {"type": "git", "url": "https://git.example/x"},
        "project": "web",
        "options": {"tags": ["other:latest"]},
    }
    refused = api("POST", "/runs", body, status=403)["error"]
    assert refused["message"] == "the image other belongs to project other, not to web"
    assert "shiplap grant add web image other --push" in refused["hint"]
    assert api("GET", "/runs")["runs"] == []
    api("PUT", "/grants", {"project": "web", "kind": "image", "name": "other", "may_push": True}, status=204)
    assert api("POST", "/runs", body, status=201)["options"]["tags"] == ["other:latest"]
    assert api("GET", "/grants?project=web")["grants"][0]["name"] == "other"
    api("DELETE", "/grants?project=web&kind=image&name=other", status=204)
    api("POST", "/runs", body, status=403)


def test_log_ins_to_registries_are_stored_and_never_shown(api: Api) -> None:
    api("PUT", "/logins/ghcr.io", {"username": "robot", "password": "hunter2hunter2"}, status=204)
    api("PUT", "/logins/ci:5000", {"username": "robot", "password": "hunter2hunter2"}, status=204)
    shown = api("GET", "/logins")
    assert [(login["registry"], login["username"]) for login in shown["logins"]] == [
        ("ci:5000", "robot"),
        ("ghcr.io", "robot"),
    ]
    assert "hunter2" not in str(shown)
    api("DELETE", "/logins/ci:5000", status=204)
    api("DELETE", "/logins/ci:5000", status=404)
    api("PUT", "/logins/ghcr.io", {"username": "a:b", "password": "x"}, status=422)
