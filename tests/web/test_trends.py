"""A project's page: its trends to scale and as data, its branches page by page, and how connecting a forge goes."""

from __future__ import annotations

import csv
import io
import json

import pytest
from flask.testing import FlaskClient

from pipelines.model import ContextSource, HookSettings, Project, RunRequest, RunResult, Trigger
from pipelines.runs.rollups import Day
from pipelines.service import Service
from tests.toolkit import forgepayloads as sent
from tests.web.guard.signing import sign_in
from web.pages.trends import HEIGHT, WIDTH, as_csv, columns, panels

_CONTEXT = ContextSource("sha256:" + "0" * 64)


def day(number: int, *, good: int = 1, bad: int = 0, median_s: float | None = 10.0) -> Day:
    return Day(number, good + bad, good, bad, 0, 0, median_s, median_s, 10, 5, 1.0)


def test_nothing_is_drawn_of_nothing() -> None:
    assert [
        (panel.value, panel.line, panel.area, panel.second, panel.bars) for panel in panels(columns([], 9, 30))
    ] == [("–", "", "", "", ())] * 4


def test_days_stand_in_their_places_and_inside() -> None:
    trends = columns([day(71), day(80, good=1, bad=3), day(100, median_s=40.0)], 100, 30)
    assert len(trends.days) == 30
    assert trends.days[-1] == "1970-04-11"
    duration, success, reused, _ = panels(trends)
    assert [point.partition(",")[0] for point in duration.line.split()] == ["0.0", "93.1", "300.0"]
    assert [(bar.kind, bar.x) for bar in success.bars][1:3] == [("failed", 90.0), ("succeeded", 90.0)]
    assert success.bars[1].height == pytest.approx(3 * success.bars[2].height, abs=0.2)
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT and bar.x + bar.width <= WIDTH for bar in success.bars)
    assert reused.value == "50.0 %"
    rows = list(csv.DictReader(io.StringIO(as_csv(trends))))
    assert (rows[0]["day"], rows[0]["median_s"], rows[1]["median_s"], rows[9]["failed"]) == (
        "1970-03-13",
        "10.000",
        "",
        "3",
    )


def test_a_change_is_for_the_better_by_what_is_measured() -> None:
    found = [day(number, median_s=20.0) for number in range(7)] + [day(7 + number) for number in range(7)]
    duration, success, *_ = panels(columns(found, 13, 30))
    assert (duration.change, duration.is_better) == ("−50 %", True)
    assert (success.change, success.is_better) == ("as before", None)


def test_trends_are_a_page_a_table_and_data(client: FlaskClient, service: Service) -> None:
    run = service.runs.submit(RunRequest(_CONTEXT, "web"), Trigger(kind="push", branch="main"))
    claim = service.claims.take("w", ())
    assert claim is not None
    service.claims.finish(claim, "succeeded", "", RunResult(executed=1), store=lambda connection: None)
    sign_in(client, service, "linus", "viewer")
    assert "uplot.min.js" in client.get("/projects/web/trends").text
    assert len(client.get("/projects/web/trends.csv?days=90").text.splitlines()) == 91
    data = json.loads(client.get("/projects/web/trends.json?days=7").text)
    assert (len(data["days"]), data["succeeded"][-1], data["reused"][-1]) == (30, 1, 0.0)
    assert f'href="/runs/{run.number}"' in client.get("/projects/web/branches").text
    assert "/trends.csv?days=365" in client.get("/").text
    assert len(client.get("/trends.csv?days=365").text.splitlines()) == 366
    assert json.loads(client.get("/trends.json").text)["succeeded"][-1] == 1
    sign_in(client, service, "gus", "guest")
    assert json.loads(client.get("/trends.json").text)["succeeded"][-1] == 0, "of a project that is not theirs"
    sign_in(client, service, "linus")
    for path in ("trends", "trends.csv", "trends.json", "branches", "pulls", "connect"):
        assert client.get(f"/projects/nothing/{path}").status_code == 404


def test_branches_come_page_by_page(client: FlaskClient, service: Service) -> None:
    for number in range(52):
        service.runs.submit(RunRequest(_CONTEXT, "web"), Trigger(kind="push", branch=f"b-{number}"))
    sign_in(client, service, "linus", "viewer")
    first = client.get("/projects/web/branches").text
    assert first.count("link-row") == 50
    assert 'href="?after=3&amp;text="' in first
    assert client.get("/projects/web/branches?after=3").text.count("link-row") == 2
    assert client.get("/projects/web/branches?text=B-51").text.count("link-row") == 1


def test_connecting_shows_each_step_as_it_comes_in(client: FlaskClient, service: Service) -> None:
    hook = HookSettings(repository="https://github.com/octo-org/hello.git", forge="github")
    service.projects.put(Project("hello", hook=hook))
    service.projects.set_webhook_secret("hello", sent.SECRET)
    sign_in(client, service, "ada", "admin")
    headers = {"HX-Request": "true"}
    first = client.get("/projects/hello/connect", headers=headers)
    assert "waiting for GitHub to call …" in first.text
    assert "/hooks/hello" in client.get("/projects/hello").text
    wrong, body = sent.github_push().request("not the secret")
    client.post("/hooks/hello", data=body, headers=wrong)
    again = client.get("/projects/hello/connect", headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert "GitHub called, and was refused" in again.text
    right, body = sent.github_push().request(sent.SECRET)
    client.post("/hooks/hello", data=body, headers=right)
    assert "push received: run #1" in client.get("/projects/hello/connect", headers=headers).text
    assert 'id="connect"' not in client.get("/projects/hello").text
