"""Outputs for people, by the API and on pages: whose they are, as one file or all, and never shown by the service."""

from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from ci.ends import JobOutcome, Published
from ci.graph import JobNode
from core.digests import DiffID
from core.settings import ServiceSettings
from images.store import Store
from images.tarwriter import TarWriter
from pipelines.model import Project
from pipelines.runs.artifacts import Artifact, note_artifacts
from pipelines.schema import jobs, runs
from pipelines.service import Service
from registry.server.content import Blob
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.web.conftest import Api
from tests.web.guard.signing import sign_in
from tests.web.test_jobs_api import claimed, nothing, planned

EVIL = b"<script>alert(1)<\\script>.html"
DAY_S = 86400.0


def stored(store: Store) -> DiffID:
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        writer.directory(b"site", 0o755, 0, 0, 0)
        writer.file(b"site/index.html", 0o644, 0, 0, 0, 9, b"<h1>Hi!\n\n")
        writer.file(b"site/" + EVIL, 0o644, 0, 0, 0, 1, b"x")
        writer.symlink(b"site/away", b"/etc/passwd", 0, 0, 0)
        writer.close()
        return blob.commit()


@pytest.fixture
def run(service: Service, settings: ServiceSettings) -> int:
    """A run on main that succeeded, whose job ``docs/make`` has an output for people."""
    with Store.open(settings.root) as store:
        layer = stored(store)
        store.kept.keep("output/1/make/site", [layer], until=2e9 * 2)
    number = planned(service, JobNode("docs/make"), JobNode("silent"))
    published = (Published("site", layer, 3, 10, 30 * DAY_S),)
    service.claims.finish(
        claimed(service), "succeeded", "", JobOutcome("succeeded", published=published), store=nothing
    )
    service.claims.finish(claimed(service), "succeeded", "", JobOutcome("succeeded"), store=nothing)
    return number


def test_outputs_are_listed_with_what_is_in_them(api: Api, run: int) -> None:
    (found,) = api("GET", f"/runs/{run}/jobs/docs/make/outputs")["outputs"]
    assert (found["name"], found["files"], found["size"]) == ("site", 3, 10)
    ended = api("GET", f"/runs/{run}/jobs/2")["finished_at"]
    assert found["until"] == ended + 30 * DAY_S
    assert api("GET", f"/runs/{run}/jobs/silent/outputs") == {"outputs": []}
    files = api("GET", f"/runs/{run}/jobs/2/outputs/site")
    assert [file["path"] for file in files["files"]] == [
        "site",
        "site/index.html",
        f"site/{EVIL.decode()}",
        "site/away",
    ]
    assert files["next"] is None
    page = api("GET", f"/runs/{run}/jobs/2/outputs/site?below=site&after=1&limit=1")
    assert ([file["path"] for file in page["files"]], page["next"]) == ([f"site/{EVIL.decode()}"], 2)


@pytest.mark.parametrize(
    "path",
    ["outputs/none", "outputs/none/file?path=x", "outputs/site/file?path=site", "outputs/site/file?path=site/away",
             "outputs/site/file?path=../../store.db", "outputs/none/archive"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(api: Api, run: int, path: str) -> None:
    api("GET", f"/runs/{run}/jobs/2/{path}", status=404)


def test_a_file_is_to_be_saved_and_no_browser_shows_it(api: Api, run: int) -> None:
    answer = api.send("GET", f"/runs/{run}/jobs/2/outputs/site/file?path=site/index.html")
    assert answer.get_data() == b"<h1>Hi!\n\n"
    assert answer.headers["Content-Length"] == "9"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="index.html"')
    assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    evil = api.send("GET", f"/runs/{run}/jobs/2/outputs/site/file", query_string={"path": f"site/{EVIL.decode()}"})
    assert evil.get_data() == b"x"
    assert "filename=\"file\"; filename*=UTF-8''%3Cscript" in evil.headers["Content-Disposition"]


def test_all_comes_as_a_tar_or_a_zip(api: Api, run: int) -> None:
    data = api.send("GET", f"/runs/{run}/jobs/2/outputs/site/archive").get_data()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert len(tar.getnames()) == 4
    answer = api.send("GET", f"/runs/{run}/jobs/2/outputs/site/archive?format=zip")
    assert 'filename="site.zip"' in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.get_data())) as archive:
        assert archive.read("site/index.html") == b"<h1>Hi!\n\n"
    api("GET", f"/runs/{run}/jobs/2/outputs/site/archive?format=rar", status=422)


def test_after_its_time_or_on_another_host_it_is_told(api: Api, service: Service, run: int) -> None:
    with service.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.run == run).values(finished_at=1000.0))
    told = api("GET", f"/runs/{run}/jobs/2/outputs/site/archive", status=404)["error"]["message"]
    assert "was kept for its time" in told
    gone = Published("site", DiffID("sha256:" + "0" * 64), 1, 1, 4e9)
    with service.database.write() as connection:
        values = {"result": JobOutcome("succeeded", published=(gone,)).to_json()}
        connection.execute(update(jobs).where(jobs.c.run == run, jobs.c.place == 2).values(**values))
    told = api("GET", f"/runs/{run}/jobs/2/outputs/site/archive", status=404)["error"]["message"]
    assert "are not on this host" in told


def test_a_download_that_nobody_reads_keeps_nothing(api: Api, settings: ServiceSettings, run: int) -> None:
    answer = api.send("GET", f"/runs/{run}/jobs/2/outputs/site/archive", buffered=False)
    answer.close()
    with Store.open(settings.root) as store:
        held = store.database.all("SELECT session FROM leases")
    assert held == []


def test_the_newest_of_a_branch_is_found_by_name(api: Api, client: FlaskClient, service: Service, run: int) -> None:
    found = api("GET", "/projects/app/latest?branch=main&job=docs/make")
    assert (found["run"], found["place"], found["outputs"][0]["name"]) == (run, 2, "site")
    api("GET", "/projects/app/latest?branch=other&job=docs/make", status=404)
    api("GET", "/projects/app/latest?branch=main&job=silent", status=404)
    service.projects.put(Project("other"))
    api("GET", "/projects/other/latest?branch=main&job=docs/make", status=404)
    sign_in(client, service, "grace", "member")
    answer = client.get("/projects/app/latest/main/docs/make/site/index.html")
    assert (answer.status_code, answer.get_data()) == (200, b"<h1>Hi!\n\n")
    answer = client.get("/projects/app/latest/main/docs/make")
    assert (answer.status_code, answer.location) == (303, f"/runs/{run}/jobs/2/outputs/site")
    assert client.get("/projects/app/latest/main/docs/make/none").status_code == 404
    assert client.get("/projects/app/latest/main").status_code == 404


def test_what_a_fork_calls_main_is_never_the_newest(api: Api, service: Service, run: int) -> None:

    for domain in ("fork 3", "by ana", "branch other"):
        with service.database.write() as connection:
            connection.execute(update(runs).where(runs.c.number == run).values(domain=domain))
        api("GET", "/projects/app/latest?branch=main&job=docs/make", status=404)


def test_of_two_pipelines_with_such_a_job_the_one_with_outputs_is_found(api: Api, service: Service, run: int) -> None:
    planned(service, JobNode("docs/make"), JobNode("silent"))
    with service.database.write() as connection:
        connection.execute(update(runs).where(runs.c.number != run).values(pipeline="a"))
    for _ in range(2):
        service.claims.finish(claimed(service), "succeeded", "", JobOutcome("succeeded"), store=nothing)
    assert api("GET", "/projects/app/latest?branch=main&job=docs/make")["run"] == run


def test_a_directory_is_seen_whole_however_much_lies_in_another(
    client: FlaskClient, service: Service, settings: ServiceSettings, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(settings.root) as store, store.layers.writer() as blob:
        writer = TarWriter(blob)
        for name in (b"aa", b"zz"):
            writer.directory(name, 0o755, 0, 0, 0)
            for number in range(50):
                writer.file(name + b"/%d" % number, 0o644, 0, 0, 0, 0, b"")
        writer.close()
        layer = blob.commit()
        store.kept.keep("output/1/make/site", [layer], until=2e9 * 2)
    published = (Published("site", layer, 100, 0, 30 * DAY_S),)
    with service.database.write() as connection:
        values = {"result": JobOutcome("succeeded", published=published).to_json()}
        connection.execute(update(jobs).where(jobs.c.run == run, jobs.c.place == 2).values(**values))
    monkeypatch.setattr("web.pages.outputs._READ", 20, raising=False)
    monkeypatch.setattr("web.pages.outputs._SHOWN", 10)
    sign_in(client, service, "grace", "member")
    page = client.get(f"/runs/{run}/jobs/2/outputs/site").text
    assert ("?in=aa" in page, "?in=zz" in page, "more: the archives" in page) == (True, True, False)
    inner = client.get(f"/runs/{run}/jobs/2/outputs/site?in=zz").text
    assert "and 40 more: the archives have all of them" in inner
    assert (inner.count("download>"), inner.count('aria-label="Save ')) == (2, 10)


def test_pages_list_it_and_execute_none_of_it(client: FlaskClient, service: Service, run: int) -> None:
    sign_in(client, service, "grace", "member")
    job = client.get(f"/runs/{run}/jobs/2").text
    assert f'href="/runs/{run}/jobs/2/outputs/site"' in job
    page = client.get(f"/runs/{run}/jobs/2/outputs/site?in=site")
    assert page.status_code == 200
    assert "&lt;script&gt;alert(1)&lt;" in page.text
    assert "<script>alert" not in page.text
    answer = client.get(f"/runs/{run}/jobs/2/outputs/site/files/site/index.html")
    assert answer.get_data() == b"<h1>Hi!\n\n"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert client.get(f"/runs/{run}/jobs/2/outputs/site/archive.zip").get_data()[:2] == b"PK"
    for path in ("?in=none", "/files/site/away", "/archive.rar"):
        assert client.get(f"/runs/{run}/jobs/2/outputs/site{path}").status_code == 404, path


def test_who_may_not_see_the_project_sees_none_of_it(client: FlaskClient, service: Service, run: int) -> None:
    sign_in(client, service, "guest", "guest")
    for path in (
        f"/runs/{run}/jobs/2/outputs/site", f"/runs/{run}/jobs/2/outputs/site/files/site/index.html",
        f"/runs/{run}/jobs/2/outputs/site/archive.tar", "/projects/app/latest/main/docs/make",
        f"/api/v1/runs/{run}/jobs/2/outputs", "/api/v1/projects/app/latest?branch=main&job=docs/make",
    ):  # fmt: skip
        assert client.get(path).status_code in (403, 404), path


def test_files_that_are_lost_are_not_found(api: Api, settings: ServiceSettings, run: int) -> None:
    with Store.open(settings.root) as store:
        store.layers.path(stored(store)).unlink()
    lost = api("GET", f"/runs/{run}/jobs/2/outputs/site", status=404)
    assert "of output site" in lost["error"]["message"]


@pytest.fixture
def registry(api: Api, settings: ServiceSettings) -> Iterator[Registry]:
    """Beside the application."""
    with Store.open(settings.root) as store, contextlib.closing(Registry(store, ServerSettings())) as made:
        api.client.application.extensions["shiplap-registry"] = made
        yield made


def test_an_output_that_is_on_another_host_comes_from_the_registry(
    api: Api, service: Service, settings: ServiceSettings, registry: Registry, run: int, tmp_path: Path
) -> None:
    """It is imported by its digest once, and told of where it is."""
    with Store.open(tmp_path / "elsewhere") as other, Store.open(settings.root) as store:
        layer = stored(other)
        blob = other.layers.compressed(layer, "zstd", 1)
        store.kept.drop(["output/1/make/site"])
        store.images.prune(cache=True)
        assert not store.layers.has(layer)
        api("GET", f"/runs/{run}/jobs/2/outputs/site", status=404)
        data = other.blobs.read_checked(blob.digest)
        registry.content.put_bytes(
            data,
            lambda connection, found: registry.content.link(
                connection, "runs/app", Blob(blob.digest, found, len(data))
            ),
        )
    sent = Artifact("output", "site", "runs/app", "m", str(layer), str(blob.digest), blob.media_type, blob.size, 4e9)
    with service.database.write() as connection:
        note_artifacts(connection, service.jobs.number(run, 2), [sent])
    files = api("GET", f"/runs/{run}/jobs/2/outputs/site")["files"]
    assert len(files) == 4
    (view,) = api("GET", f"/runs/{run}/jobs/2/outputs")["outputs"]
    assert view["artifact"] == f"runs/app:{run}-2-site"
    assert api.send("GET", f"/runs/{run}/jobs/2/outputs/site/file?path=site/index.html").get_data() == b"<h1>Hi!\n\n"
