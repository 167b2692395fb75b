"""The page of the service and the API of service, disk, registry, backups and images; and the API's own pages."""

from __future__ import annotations

import re
import tarfile
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.release import VERSION
from core.settings import ServiceSettings
from images.store import Store
from pipelines.changes import in_words
from pipelines.errors import BackupError
from pipelines.keeping import directory
from pipelines.keeping.diskuse import DiskSample, note_sample
from pipelines.keeping.records import last_whole, made_backups
from pipelines.model import Project
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import Policy, ServerSettings
from tests.toolkit.bounds import eventually, stretched
from tests.web.browser.stock import stock
from tests.web.conftest import Api
from tests.web.guard.signing import csrf, sign_in
from web.app import create_app

HOUR = 3600.0


@pytest.fixture
def settings(settings: ServiceSettings, tmp_path: Path) -> ServiceSettings:
    (tmp_path / "backups").mkdir()
    return settings._replace(
        backup_dir=tmp_path / "backups", backup_keep=2, metrics_token="a-token-of-metrics", outputs_url=""
    )


@pytest.fixture
def registry(service: Service) -> Iterator[Registry]:
    with Store.open(service.settings.root) as store:
        rules = (Policy("shop/*", quota_bytes=5000, immutable_tags=("v*",), mirror="quay.io"),)
        found = Registry(store, ServerSettings(access="users", policies=rules, anonymous_pull=True))
        yield found
        found.close()


@pytest.fixture
def app(service: Service, registry: Registry) -> Flask:
    return create_app(service, registry)


@pytest.fixture
def api(app: Flask, service: Service) -> Api:
    return Api(app.test_client(), service.tokens.create("test", ["admin"])[1])


@pytest.fixture
def admin(app: Flask, service: Service) -> FlaskClient:
    client = app.test_client()
    sign_in(client, service, "ada")
    return client


def test_backup_is_asked_for_noted_and_stays_on_the_host(
    api: Api, admin: FlaskClient, service: Service, tmp_path: Path
) -> None:
    before = api("GET", "/backups")
    assert (before["last"], before["made"], before["directory"]) == (None, [], str(tmp_path / "backups"))
    assert api("POST", "/backups", {}, status=202)["being_made_by"] in ("token test", None)  # it may be done already
    eventually(lambda: api("GET", "/backups")["last"] is not None, why="the backup is whole")
    form = {"_csrf": csrf(admin), "images": "1"}
    eventually(lambda: admin.post("/service/backups", data=form).status_code == 303, why="another one begins")
    eventually(lambda: len(api("GET", "/backups")["made"]) == 2, why="the second is whole")
    newest, first = api("GET", "/backups")["made"]
    assert [(each["by"], each["images"], each["error"]) for each in (newest, first)] == [
        ("ada", True, ""), ("token test", False, ""),
    ]  # fmt: skip
    path = Path(newest["place"].partition(" on ")[0])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == newest["size_bytes"]
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert {"secret.key", "registry.json", "shiplap-backup.end"} <= set(names)
    page = unescape(admin.get("/service").text)
    assert str(path) in page
    assert "Back up now" in page
    notes = [(note.actor, *map(in_words, note.changes)) for note in service.audit.list(action="start backup")]
    assert notes == [("ada", "images: nothing → yes"), ("token test", "images: nothing → no")]


def test_one_backup_at_a_time_and_none_where_there_is_no_place(
    app: Flask, api: Api, admin: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    goes_on = threading.Event()
    backups = app.extensions["shiplap-administration"].backups
    monkeypatch.setattr(backups, "_make", lambda *_, **__: goes_on.wait(stretched(60)))
    api("POST", "/backups", {}, status=202)
    assert "a backup is being made" in api("POST", "/backups", {}, status=409)["error"]["message"]
    assert api("GET", "/backups")["being_made_by"] == "token test"
    assert "A backup is being made" in admin.get("/service/backups").text
    refused = admin.post("/service/backups", data={"_csrf": csrf(admin)})
    assert (refused.status_code, "wait until it is there" in refused.text) == (409, True)
    goes_on.set()
    eventually(lambda: api("GET", "/backups")["being_made_by"] is None, why="it has ended")
    monkeypatch.setattr(backups, "_settings", service.settings._replace(backup_dir=tmp_path / "gone"))
    assert "No such file or directory" in api("POST", "/backups", {}, status=422)["error"]["message"]
    monkeypatch.setattr(backups, "_settings", service.settings._replace(backup_dir=None))
    assert "SHIPLAP_BACKUP_DIR" in api("POST", "/backups", {}, status=422)["error"]["hint"]
    assert "Back up now" not in admin.get("/service/backups").text


def test_page_shows_versions_settings_without_secrets_and_health(
    admin: FlaskClient, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:hunter2@db/x")
    for name, value in {
        "SHIPLAP_DATABASE_URL": "", "SHIPLAP_DATABASE_URL_FILE": str(secret), "SHIPLAP_METRICS_TOKEN": "hunter3-secret",
        "SHIPLAP_REDIS_URL": "rediss://:hunter4@redis.example:6380/1?password=hunter5",
        "https_proxy": "http://u:hunter6@proxy:3128",
        "SHIPLAP_PUBLIC_URL": "https://ci.example",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    page = unescape(re.sub(r"\s+", " ", admin.get("/service").text))
    assert "hunter" not in page
    for shown in ("rediss://redis.example:6380/1", "http://proxy:3128", str(secret), "https://ci.example", VERSION):
        assert shown in page
    assert re.search(r"SHIPLAP_METRICS_TOKEN</code>.{0,200}<bdi>set</bdi></td><td class=\"wide\">variable", page)
    assert re.search(r"SHIPLAP_DATABASE_URL</code>.{0,300}<bdi>set</bdi></td><td class=\"wide\">file", page)
    assert re.search(r"anonymous_pull</code></td><td class=\"wide\"><bdi>on</bdi></td><td class=\"wide\">file", page)
    assert "<bound method" not in page
    told = api("GET", "/service")
    origins = {each["name"]: each["origin"] for group in told["settings"] for each in group["settings"]}
    assert (origins["SHIPLAP_METRICS_TOKEN"], origins["SHIPLAP_DATABASE_URL"]) == ("variable", "file")
    assert "hunter" not in str(told)
    health = admin.get("/service/health").text
    for name in ("database", "key of secrets", "Redis", "git's tools", "disk", "workers", "queue", "registry"):
        assert f"<b>{name}</b>" in unescape(health)


def test_forecast_is_of_what_was_measured(
    api: Api, admin: FlaskClient, service: Service, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api("GET", "/disk")["forecast"] is None
    assert "measured for six hours" in admin.get("/service").text
    now = api("GET", "/disk")["now"]
    day = 24 * HOUR
    for hour in range(48, 0, -1):
        used = now["used_bytes"] - round(now["free_bytes"] / 10 * hour / 24)
        note_sample(
            service.database, registry.store.identity,
            DiskSample(now["at"] - hour * HOUR, used, now["free_bytes"], 0, 0),
        )  # fmt: skip
    found = api("GET", "/disk")["forecast"]
    assert 9 * day < found["full_at"] - now["at"] < 11 * day
    assert "Full in about" in admin.get("/service").text


def test_registry_and_images_are_for_who_may(app: Flask, service: Service, registry: Registry, api: Api) -> None:
    stock(registry)
    service.projects.put(Project("shop"))
    service.projects.put(Project("other"))
    shown = api("GET", "/registry")
    assert shown["rules"] == [
        {"pattern": "shop/*", "quota_bytes": 5000, "immutable_tags": ["v*"], "mirror": "quay.io",
         "has_retention": False, "origin": "file", "untagged_days": None},
    ]  # fmt: skip
    every = [each["name"] for each in api("GET", "/images")["repositories"]]
    assert shown["repositories"] == len(every) > 0
    name = every[0]
    tag = api("GET", f"/images/{name}/-/tags")["tags"][0]
    image = api("GET", f"/images/{name}/-/manifests/{tag['name']}")
    assert (image["digest"], tag["name"] in image["tags"]) == (tag["digest"], True)
    assert image == api("GET", f"/images/{name}/-/manifests/{tag['digest']}")
    stranger = Api(app.test_client(), service.roles.create_token("other", "robot", "maintain")[1])
    assert stranger("GET", "/images") == {"repositories": [], "next": None}
    part = api("GET", "/images?limit=1")
    assert [each["name"] for each in part["repositories"]] == every[:1]
    assert [each["name"] for each in api("GET", f"/images?after={part['next']}")["repositories"]] == every[1:]
    for method, path in (("GET", "tags"), ("GET", "manifests/x"), ("DELETE", f"manifests/{tag['name']}")):
        stranger(method, f"/images/{name}/-/{path}", status=404)
    for path in ("/registry", "/backups", "/service", "/disk"):
        stranger("GET", path, status=403)
    viewer = Api(app.test_client(), service.tokens.create("viewer", ["build"])[1])
    assert viewer("GET", "/disk")["now"]["used_bytes"] > 0
    viewer("DELETE", f"/images/{name}/-/manifests/{tag['name']}", status=403)
    for path in ("no/such/-/tags", f"{name}/-/manifests/nothing", f"{name}/-/manifests/sha256:0"):
        assert api("GET", f"/images/{path}", status=404)["error"]["code"] == "not_found"
    api("DELETE", f"/images/{name}/-/manifests/{tag['name']}", status=204)
    api("GET", f"/images/{name}/-/manifests/{tag['name']}", status=404)
    deleted = service.audit.list(action="delete image")[0]
    assert deleted.subject == f"repository={name} reference={tag['name']}"
    assert api("POST", "/registry/collect")["tags"] == 0


def test_the_api_is_described_for_everybody_who_is_signed_in(app: Flask, service: Service) -> None:
    client = app.test_client()
    index = client.get("/api/v1/").get_json()
    assert (index["documentation"], index["paths"]["list_runs"]) == ("/api", "/api/v1/runs")
    assert client.get("/api").status_code == 303
    sign_in(client, service, "gus", "guest")
    listed = client.get("/api")
    names = set(re.findall(r'href="/api/([a-z_]+)"', listed.text))
    document = client.get("/api/v1/openapi.json").get_json()
    told = {found["operationId"] for methods in document["paths"].values() for found in methods.values()}
    assert names == told
    found = client.get("/api?text=secret+put").text
    assert "/api/put_project_secret" in found
    assert "/api/list_runs" not in found
    for name in sorted(told):
        assert client.get(f"/api/{name}").status_code == 200, name
    page = unescape(client.get("/api/put_member").text)
    for shown in ("who maintains the project", '"build" | "maintain" | "read"', "-X PUT", '"role":', "No valid token"):
        assert shown in page, shown
    assert "anybody, without a token" not in page
    missing = client.get("/api/nothing")
    assert (missing.status_code, missing.mimetype) == (404, "text/html")
    assert client.get("/api/v1/nothing").mimetype == "application/json"


def test_leftovers_of_killed_backups_and_old_ones_go(service: Service, tmp_path: Path) -> None:
    """The directory's own names alone are removed; a lock of a process that is gone is nobody's."""
    place = tmp_path / "backups"
    for name in (
        "shiplap-20200101T000000Z.tar", "shiplap-20210101T000000Z-images.tar", "shiplap-2020.tar", "mine.tar",
        ".shiplap-20200101T000000Z.tar.x1y2", ".shiplap-backup.lock",
    ):  # fmt: skip
        (place / name).write_bytes(b"{}")
    made = directory.BackupDirectory(service.settings)
    assert made.being_made() is None
    made.start("ada", images=False).join()
    names = sorted(path.name for path in place.iterdir())
    assert names[:3] == [".shiplap-backup.lock", "mine.tar", "shiplap-2020.tar"]
    assert names[3] == "shiplap-20210101T000000Z-images.tar"
    assert len(names) == 5


def test_a_backup_that_fails_is_listed_with_its_reason(service: Service, tmp_path: Path) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    made = directory.BackupDirectory(service.settings, make=fails)
    made.start("ada", images=False).join()
    (failed,) = made_backups(service.database)
    assert "No space left on device" in failed.error
    assert last_whole(service.database) is None


def test_a_disk_that_is_full_refuses_a_backup_and_leaves_the_next_one_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = directory.BackupDirectory(service.settings, make=lambda *_, **__: None)
    with monkeypatch.context() as full:
        full.setattr("pipelines.keeping.directory.os.pwrite", mock.Mock(side_effect=OSError(28, "No space left")))
        with pytest.raises(BackupError, match="No space left"):
            made.start("ada", images=False)
    assert made.being_made() is None
    made.start("ada", images=False).join()
