"""Previews of outputs: by tickets, without a session, and scripts only on a host that has nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import Client

from ci.ends import JobOutcome, Published
from ci.graph import JobNode
from core.digests import DiffID
from core.errors import SettingsError
from core.settings import ServiceSettings
from images.store import Store
from images.tarwriter import TarWriter
from pipelines.service import Service
from tests.web.guard.signing import sign_in
from tests.web.test_jobs_api import claimed, nothing, planned
from web.app import create_app
from web.previews import VALID_S, OutputsHost, host_of, kind_of

OUTPUTS = "https://outputs.example"
FILES = {
    "report/deep/index.html": b"<p>deep",
    "report/index.html": b"<link rel=stylesheet href=style.css><img src=dot.png><script src=s.js></script>",
    "report/style.css": b"h1 { color: rgb(0, 128, 0) }",
    "report/s.js": b"document.title = 'ran'",
    "report/dot.png": b"\x89PNG\r\n\x1a\n",
    "report/log.txt": b"<b>one</b>\n" + b"x" * 400_000,
    "report/data.bin": b"\0\1",
}


def stored(store: Store, files: dict[str, bytes] | None = None) -> DiffID:
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        for path, content in (files or FILES).items():
            writer.file(path.encode(), 0o644, 0, 0, 0, len(content), content)
        writer.close()
        return blob.commit()


def published(service: Service, files: dict[str, bytes] | None = None, *, preview: bool = True) -> int:
    """The number of a run whose job ``docs`` at place 2 has the output ``report``."""
    with Store.open(service.settings.root) as store:
        layer = stored(store, files)
        store.kept.keep("output/1/docs/report", [layer], until=4e9)
    number = planned(service, JobNode("docs"))
    each = Published("report", layer, len(files or FILES), 10, 30 * 86400.0, preview)
    service.claims.finish(claimed(service), "succeeded", "", JobOutcome("succeeded", published=(each,)), store=nothing)
    return number


@pytest.fixture
def run(service: Service) -> int:
    return published(service)


@pytest.fixture
def member(client: FlaskClient, service: Service) -> FlaskClient:
    sign_in(client, service, "grace", "member")
    return client


def address(client: FlaskClient, run: int, path: str = "report/index.html") -> str:
    """Where a page of HTML is shown."""
    found = client.get(f"/runs/{run}/jobs/2/outputs/report/look/{path}", buffered=True)
    assert found.status_code == 303, found.get_data(as_text=True)
    return found.headers["Location"]


def test_an_output_opens_with_the_page_nearest_to_the_top(member: FlaskClient, run: int) -> None:
    found = member.get(f"/runs/{run}/jobs/2/outputs/report/open", buffered=True)
    assert found.headers["Location"] == f"/runs/{run}/jobs/2/outputs/report/look/report/index.html"
    assert 'outputs/report/open"' in member.get(f"/runs/{run}/jobs/2/outputs/report", buffered=True).get_data(
        as_text=True
    )


def test_an_output_without_a_page_opens_its_one_file_or_its_list(member: FlaskClient, service: Service) -> None:
    one = published(service, {"a b.txt": b"x"})
    base = f"/runs/{one}/jobs/2/outputs/report"
    assert member.get(f"{base}/open", buffered=True).headers["Location"] == f"{base}/look/a%20b.txt"
    many = published(service, {"a.txt": b"x", "b.txt": b"y"}, preview=False)
    base = f"/runs/{many}/jobs/2/outputs/report"
    assert member.get(f"{base}/open", buffered=True).headers["Location"] == base
    assert f"{base}/open" not in member.get(base, buffered=True).get_data(as_text=True)


def test_a_page_is_shown_in_a_sandbox_without_scripts_to_whoever_has_the_address(
    service: Service, member: FlaskClient, run: int
) -> None:
    where = address(member, run)
    assert re.fullmatch(r"/o/\d+-2-\d+-[0-9a-f]{40}/report/report/index\.html", where)
    stranger = create_app(service).test_client()
    found = stranger.get(where, buffered=True)
    assert (found.status_code, found.get_data()) == (200, FILES["report/index.html"])
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script" not in policy
    assert "Set-Cookie" not in found.headers
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert found.headers["Content-Type"] == "text/html; charset=utf-8"
    beside = stranger.get(where.replace("index.html", "style.css"), buffered=True)
    assert (beside.status_code, beside.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert beside.headers["Access-Control-Allow-Origin"] == "*"
    unknown = stranger.get(where.replace("index.html", "data.bin"), buffered=True)
    assert unknown.headers["Content-Type"] == "application/octet-stream"
    assert unknown.headers["Content-Disposition"].startswith("attachment")
    assert stranger.get(where.replace("index.html", ""), buffered=True).get_data() == FILES["report/index.html"], (
        "of a directory"
    )
    assert stranger.get(where.replace("index.html", "none.html"), buffered=True).status_code == 404
    assert stranger.post(where).status_code == 405


def test_a_ticket_is_for_one_output_and_for_some_hours(
    service: Service, member: FlaskClient, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = address(member, run)
    other = published(service)
    _, _, ticket, name, *path = where.split("/")
    number, place, until, signature = ticket.split("-")
    for forged in (
        f"{other}-{place}-{until}-{signature}", f"{number}-1-{until}-{signature}",
        f"{number}-{place}-{int(until) + 9}-{signature}", f"{number}-{place}-{until}-{'0' * 40}", "x", f"{ticket}0",
    ):  # fmt: skip
        assert member.get(f"/o/{forged}/{name}/{'/'.join(path)}", buffered=True).status_code == 404
    assert member.get(f"/o/{ticket}/other/{'/'.join(path)}", buffered=True).status_code == 404
    assert member.get(f"/o/{ticket}/{name}/../../../api/v1/runs", buffered=True).status_code in (301, 308, 404)
    monkeypatch.setattr("web.previews.time.time", lambda: float(until) + 1)
    found = member.get(where, buffered=True)
    assert found.status_code == 404
    assert "hours" in found.get_data(as_text=True)
    assert VALID_S <= 8 * 3600


def test_who_may_not_read_the_project_gets_no_ticket(service: Service, run: int) -> None:
    client = create_app(service).test_client()
    assert (
        client.get(f"/runs/{run}/jobs/2/outputs/report/look/report/index.html", buffered=True)
        .headers["Location"]
        .startswith("/login")
    )
    assert client.get(f"/runs/{run}/jobs/2/outputs/report/open", buffered=True).headers["Location"].startswith("/login")


def test_texts_and_images_are_looked_at_within_the_service(member: FlaskClient, run: int) -> None:
    base = f"/runs/{run}/jobs/2/outputs/report"
    text = member.get(f"{base}/look/report/log.txt", buffered=True).get_data(as_text=True)
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "This is its beginning" in text
    assert len(text) < 300_000
    image = member.get(f"{base}/look/report/dot.png", buffered=True)
    (source,) = re.findall(r'<img src="(/o/[^"]+)"', image.get_data(as_text=True))
    found = member.get(source, buffered=True)
    assert (found.headers["Content-Type"], found.get_data()) == ("image/png", FILES["report/dot.png"])
    assert member.get(f"{base}/look/report/data.bin", buffered=True).status_code == 404
    assert member.get(f"{base}/look/report/none.txt", buffered=True).status_code == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [("a.png", "image"), ("a/b.SVG", "image"), ("index.html", "page"), ("a.log", "text"), ("LICENSE", "text"),
     ("a.json", "text"), ("a.exe", ""), ("a.tar.gz", ""), ("a.js", "text"), ("x.png.exe", ""),
     ("v1.2/LICENSE", "text"), ("html", "text"), ("site.html/png", "text")],
)  # fmt: skip
def test_what_is_looked_at_is_told_by_its_name(path: str, kind: str) -> None:
    assert kind_of(path) == kind


class _Seen:
    """An application that says which request reached it."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.environ: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.environ = dict(environ)
        return self.app(environ, start_response)


@pytest.fixture
def apart(service: Service, monkeypatch: pytest.MonkeyPatch) -> tuple[Client, _Seen]:
    """A service with a host for outputs, and what reached the application behind it."""
    monkeypatch.setattr(service, "settings", service.settings._replace(outputs_url=OUTPUTS))
    seen = _Seen(create_app(service))
    return Client(OutputsHost(seen, OUTPUTS), use_cookies=False), seen


def test_scripts_run_on_the_host_for_outputs_and_nowhere_else(
    service: Service, member: FlaskClient, run: int, monkeypatch: pytest.MonkeyPatch, apart: tuple[Client, _Seen]
) -> None:
    where = address(member, run)
    assert where.startswith(f"{OUTPUTS}/o/")
    path = urlsplit(where).path
    client, seen = apart
    headers = {"Cookie": "shiplap_session=x", "Authorization": "Bearer y"}
    found = client.get(path, base_url=OUTPUTS, headers=headers, buffered=True)
    assert found.status_code == 200
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in policy
    assert "Set-Cookie" not in found.headers
    assert "HTTP_COOKIE" not in seen.environ
    assert "HTTP_AUTHORIZATION" not in seen.environ
    for other in ("https://ci.example", "https://outputs.example.evil", "https://outputs.example:444"):
        policy = client.get(path, base_url=other, buffered=True).headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; "), other


def test_the_host_for_outputs_has_nothing_else(apart: tuple[Client, _Seen]) -> None:
    client, seen = apart
    for path in (
        "/",
        "/login",
        "/runs",
        "/api/v1/runs",
        "/v2/",
        "/git/app.git",
        "/static/app.css",
        "/metrics",
        "/o",
        "//o/",
    ):
        found = client.get(path, base_url=OUTPUTS, buffered=True)
        assert (found.status_code, found.get_data(), "Set-Cookie" in found.headers) == (404, b"", False), path
    for rest in ("", ".", ":", ":443", ".:443"):
        host = f"OUTPUTS.example{rest}"
        found = client.get("/login", base_url=OUTPUTS, headers={"Host": host}, buffered=True)
        assert (found.status_code, found.get_data()) == (404, b""), host
    assert client.post("/o/x/y/z", base_url=OUTPUTS).status_code == 404
    assert seen.environ == {}
    assert client.get("/login", base_url="https://ci.example", buffered=True).status_code == 200
    missing = client.get("/o/x/y/z", base_url=OUTPUTS, buffered=True)
    assert (missing.status_code, missing.headers["Content-Type"]) == (404, "application/json")
    assert "Set-Cookie" not in missing.headers


def test_hosts_are_known_with_and_without_their_usual_port() -> None:
    assert host_of("https://o.example") == {"o.example", "o.example:443"}
    assert host_of("http://o.example:8080") == {"o.example:8080"}
    assert host_of("http://[::1]") == {"[::1]", "[::1]:80"}
    assert host_of("") == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "outputs.example", "https://ci.example", "https://ci.example:444", "https://o.example/x", "ftp://o.example",
        "https://o.example:x", "https://o.example:99999", "https://[o", "https://me@o.example", "https://o.example#x",
    ],
)  # fmt: skip
def test_a_host_for_outputs_that_shares_cookies_or_is_none_is_refused(url: str) -> None:
    environ = {"SHIPLAP_OUTPUTS_URL": url, "SHIPLAP_PUBLIC_URL": "https://ci.example"}
    with pytest.raises(SettingsError, match="SHIPLAP_OUTPUTS_URL"):
        ServiceSettings.from_environ(environ)
    good = ServiceSettings.from_environ({**environ, "SHIPLAP_OUTPUTS_URL": "https://o.example/"})
    assert good.outputs_url == "https://o.example"
