"""Home: who sees what of it, in which order, and the first steps of a service in which nothing succeeded yet."""

from __future__ import annotations

import re

import msgspec
import pytest
from flask.testing import FlaskClient

from pipelines.model import ContextSource, Project, RunRequest, RunResult, RunState, Trigger
from pipelines.runs.strips import Brief, Strip
from pipelines.service import Service
from tests.web.guard.signing import csrf, sign_in
from web.pages.strip import draw_strip, label_of, sparkline

_CONTEXT = ContextSource("sha256:" + "0" * 64)
_CARD = r'<h2>.*?href="/projects/([a-z]+)"'


def brief(number: int, state: RunState, took_s: float | None) -> Brief:
    started = None if took_s is None else 100.0
    return Brief(number, "web", state, 90.0, None if took_s is None else 100.0 + took_s, started, Trigger())


def ended(service: Service, project: str, state: RunState, reason: str = "") -> int:
    trigger = Trigger(kind="push", by="ada", branch="main", title=f"Of {project}")
    run = service.runs.submit(RunRequest(_CONTEXT, project), trigger)
    claim = service.claims.take("w", ())
    assert claim is not None
    service.claims.finish(claim, state, reason, RunResult(error=reason), store=lambda connection: None)
    return run.number


def test_a_strip_is_to_scale_and_what_failed_hangs_below_its_line() -> None:
    drawn = draw_strip(Strip((brief(1, "succeeded", 10.0), brief(2, "failed", 20.0), brief(3, "queued", None))), 0.0)
    assert [bar.state for bar in drawn.bars] == ["none"] * 17 + ["succeeded", "failed", "queued"]
    good, bad, waits = drawn.bars[-3:]
    assert bad.height == pytest.approx(2 * good.height, abs=0.2)
    assert bad.y + bad.height == drawn.height > good.y + good.height
    assert waits.height == 4
    assert drawn.label == "last 3 runs: 1 succeeded, 1 failed, 1 other; newest queued"
    assert label_of(Strip(())) == "no runs yet"
    pulled = msgspec.structs.replace(brief(1, "failed", 20.0), trigger=Trigger(kind="pull_request", pull_request=7))
    assert not Strip((pulled, pulled)).is_failing, "also where all of the last runs are of pull requests"


def test_a_sparkline_stays_inside_and_leaves_gaps_out() -> None:
    points = sparkline([1.0, None, 3.0, 2.0])
    assert [point.partition(",")[0] for point in points.split()] == ["0.0", "80.0", "120.0"]
    assert sparkline([1.0]) == sparkline([None, None]) == ""
    assert len(set(re.findall(r",([0-9.]+)", sparkline([5.0, 5.0])))) == 1


def test_failing_projects_come_first_with_their_reason(client: FlaskClient, service: Service) -> None:
    ended(service, "web", "succeeded")
    ended(service, "shop", "failed", "exit code 3: 10.12 is not 10.13")
    ended(service, "tide", "succeeded")
    sign_in(client, service, "ada", "admin")
    page = client.get("/").text
    assert re.findall(_CARD, page) == ["shop", "tide", "web"]
    assert "exit code 3: 10.12 is not 10.13" in page
    assert 'data-tab="failed"' in page
    assert '<span class="visually-hidden">failing: </span>1' in page
    assert "Three ways" not in page
    assert re.findall(_CARD, client.get("/?show=failing").text) == ["shop"]
    assert client.get("/?show=%00nonsense").status_code == 200


def test_home_shows_no_project_that_one_may_not_see(client: FlaskClient, service: Service) -> None:
    ended(service, "hidden", "failed", "the reason of a stranger")
    service.runs.submit(RunRequest(_CONTEXT, "hidden"), Trigger(by="stranger", title="What strangers wait for"))
    service.projects.put(Project("open"))
    sign_in(client, service, "gus", "guest")
    lonely = client.get("/").text
    assert "No projects yet" in lonely
    assert "Three ways" not in lonely
    service.roles.set("open", "user", "gus", "read")
    for path in ("/", "/?show=failing", "/find?q=hid", "/find?q=%232", "/find?q=@str"):
        text = client.get(path, headers={"Accept": "application/json"}).text
        assert "hidden/" not in text, path
        assert "/projects/hidden" not in text, path
        assert "stranger" not in text, path
        assert "failing: " not in text, path
    assert "/projects/open" in client.get("/").text


def test_finding_looks_at_what_people_see(client: FlaskClient, service: Service) -> None:
    trigger = Trigger(kind="push", by="ada", branch="main", commit="3f2a9c1" + "0" * 33, title="Größere Preise")
    number = service.runs.submit(RunRequest(_CONTEXT, "shop"), trigger).number
    sign_in(client, service, "ada", "admin")
    for text in ("größere", "3f2a9c", f"%23{number}", str(number), "mai", "SHOP", "%40AD"):
        hits = client.get(f"/find?q={text}", headers={"Accept": "application/json"}).text
        assert "/runs?by=ada" in hits if text == "%40AD" else f'"/runs/{number}"' in hits, text
    for text in ("kind", "branch", "push", "%22", "_"):
        hits = client.get(f"/find?q={text}", headers={"Accept": "application/json"}).text
        assert f'"/runs/{number}"' not in hits, text


def test_what_did_not_change_of_home_is_not_sent_again(client: FlaskClient, service: Service) -> None:
    ended(service, "web", "succeeded")
    sign_in(client, service, "ada", "admin")
    headers = {"HX-Request": "true"}
    first = client.get("/", headers=headers)
    assert "<html" not in first.text
    again = {**headers, "If-None-Match": first.headers["ETag"]}
    assert client.get("/", headers=again).status_code == 304
    service.runs.submit(RunRequest(_CONTEXT, "web"))
    assert client.get("/", headers=again).status_code == 200


def test_a_repository_to_push_to_and_a_token_are_made_from_home(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "ada", "admin")
    assert "Three ways to a first green run" in client.get("/").text
    made = client.post("/start/repository", data={"name": "hello", "_csrf": csrf(client)})
    assert made.status_code == 201
    assert re.search(r"git push http://ada@[^ ]+/git/hello.git HEAD:main", made.text)
    bare = service.settings.root / "git"
    assert (bare / "hello.git" / "HEAD").is_file()
    assert (bare / "hello.git" / "shiplap.conf").stat().st_mode & 0o777 == 0o600
    assert service.projects.get("hello").has_webhook_secret
    (secret,) = re.findall(r'data-copy="(shp_[^"]+)"', made.text)
    assert service.tokens.identify(secret).owner == "ada"
    for name in ("hello", "", "../x", "A B"):
        refused = client.post("/start/repository", data={"name": name, "_csrf": csrf(client)})
        assert refused.status_code == 422
        assert 'role="alert"' in refused.text
    assert [path.name for path in bare.iterdir()] == ["hello.git"]
    theirs = bare / "other.git" / "hooks" / "post-receive"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n")
    for _ in range(2):
        refused = client.post("/start/repository", data={"name": "other", "_csrf": csrf(client)})
        assert "post-receive is there already" in refused.text, "what was half made is not left"
    assert "shiplap login --host" in client.post("/start/token", data={"_csrf": csrf(client)}).text


def test_a_view_is_saved_and_removed(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "ada", "admin")
    service.projects.put(Project("web"))
    sent = {"name": "Mine", "path": "/?show=mine", "_csrf": csrf(client)}
    assert client.post("/account/views", data=sent).headers["Location"] == "/?show=mine"
    assert '<a class="chip" href="/?show=mine"><bdi>Mine</bdi></a>' in client.get("/").text
    assert client.post("/account/views", data={**sent, "path": "//evil.example/?"}).status_code == 422
    gone = client.post("/account/views/remove", data={"name": "Mine", "back": "//evil.example/", "_csrf": csrf(client)})
    assert gone.headers["Location"] == "/"
    assert "<bdi>Mine</bdi>" not in client.get("/").text


def test_the_look_is_drawn_by_the_server_and_kept_for_the_account(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "ada", "admin")
    kept = client.post("/account/look", data={"theme": "dark", "density": "compact", "_csrf": csrf(client)})
    assert kept.status_code == 303
    page = client.get("/account").text
    assert '<html lang="en" data-theme="dark" data-density="compact">' in page
    assert "data-no-keys" in page
    assert service.preferences.get("ada").look.theme == "dark"
    assert client.post("/account/look", data={"theme": "pink", "_csrf": csrf(client)}).status_code == 422
    client.set_cookie("shiplap_look", "<script>.dark" + "x" * 500)
    assert "<script>." not in client.get("/account").text
