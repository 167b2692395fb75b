"""Pages without a browser: who may, what is answered when nothing changed or went wrong, and the forms' effects."""

from __future__ import annotations

import time
from html import escape, unescape

import pytest
from flask.testing import FlaskClient

from pipelines.model import BuildOptions, ContextSource, GitSource, RunRequest, RunResult, Trigger
from pipelines.runs.workers import Workers
from pipelines.service import Service
from tests.web.guard.signing import csrf, sign_in
from tests.web.processes import FakeWorker
from web.pages.words import passages

_CONTEXT = ContextSource("sha256:" + "0" * 64)


@pytest.fixture
def member(client: FlaskClient, service: Service) -> FlaskClient:
    sign_in(client, service, "grace", "member")
    return client


@pytest.fixture
def ended(service: Service) -> int:
    """The number of a run that failed."""
    number = service.runs.submit(
        RunRequest(GitSource("https://git.example.org/a.git", "main"), options=BuildOptions(build_args={"A": "1"})),
        Trigger(kind="push", by="ada", branch="main", commit="ab" * 20, title="Change it", context="shiplap"),
    ).number
    claim = service.claims.take("w", ())
    assert claim is not None
    service.claims.finish(claim, "failed", "", RunResult(error="it broke"), store=lambda connection: None)
    return number


def test_pages_allow_no_foreign_and_no_inline_code(member: FlaskClient) -> None:
    response = member.get("/runs")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "font-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script>" not in response.text
    assert " style=" not in response.text
    assert " onclick=" not in response.text


def test_what_did_not_change_is_not_sent_again(member: FlaskClient, service: Service) -> None:
    service.runs.submit(RunRequest(_CONTEXT))
    headers = {"HX-Request": "true"}
    first = member.get("/runs", headers=headers)
    assert "<html" not in first.text
    again = member.get("/runs", headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    service.runs.submit(RunRequest(_CONTEXT))
    assert member.get("/runs", headers={**headers, "If-None-Match": first.headers["ETag"]}).status_code == 200


def test_what_one_user_has_is_not_current_for_another(member: FlaskClient, service: Service) -> None:
    headers = {"HX-Request": "true"}
    etag = member.get("/runs", headers=headers).headers["ETag"]
    sign_in(member, service, "linus", "viewer")
    assert member.get("/runs", headers={**headers, "If-None-Match": etag}).status_code == 200


def test_static_files_are_kept_by_their_version(client: FlaskClient) -> None:
    with client.get("/static/app.css?v=123456789abc") as named, client.get("/static/app.css") as plain:
        assert "immutable" in named.headers["Cache-Control"]
        assert plain.headers["Cache-Control"] == "no-cache"
    assert client.get("/static/../app.py").status_code == 404


def test_people_get_errors_as_pages_and_programs_as_json(member: FlaskClient) -> None:
    page = member.get("/runs/4711")
    assert page.status_code == 404
    assert "there is no run 4711" in page.text
    assert page.mimetype == "text/html"
    assert member.get("/api/v1/runs/4711").mimetype == "application/json"
    assert member.get("/nowhere").mimetype == "text/html"


def test_filters_that_make_no_sense_are_as_if_they_were_not_there(member: FlaskClient, service: Service) -> None:
    number = service.runs.submit(RunRequest(_CONTEXT)).number
    assert f"#{number}" in member.get("/runs?state=broken&before=x&after=").text


def test_pages_of_the_list_go_both_ways(member: FlaskClient, service: Service) -> None:
    numbers = [service.runs.submit(RunRequest(_CONTEXT)).number for _ in range(53)]
    first = member.get("/runs?project=default").text
    assert "Newer" not in first
    assert f"/runs?project=default&before={numbers[3]}" in unescape(first)
    second = member.get(f"/runs?project=default&before={numbers[3]}").text
    assert f'id="run-{numbers[2]}"' in second
    assert "Older" not in second
    assert f"/runs?project=default&after={numbers[2]}" in unescape(second)
    back = member.get(f"/runs?project=default&after={numbers[2]}").text
    assert f'id="run-{numbers[3]}"' in back
    assert f'id="run-{numbers[2]}"' not in back


def test_retry_says_who_wanted_it(member: FlaskClient, service: Service, ended: int) -> None:
    response = member.post(f"/runs/{ended}/retry", data={"_csrf": csrf(member)})
    assert response.status_code == 303
    assert response.headers["Location"] == f"/runs/{ended + 1}?done=again"
    assert "This is the new run." in member.get(response.headers["Location"]).text
    assert "This is the new run." not in member.get(f"/runs/{ended + 1}/head").text
    assert service.runs.get(ended + 1).trigger.by == "grace"
    told = f'retry of <a class="num" href="/runs/{ended}">#{ended}</a> by <bdi>grace</bdi>'
    assert told in member.get(f"/runs/{ended + 1}").text
    assert told in member.get("/runs").text


def test_who_cancelled_a_run_and_what_superseded_it_is_told_on_its_page_and_in_the_list(
    member: FlaskClient, service: Service
) -> None:
    source = GitSource("https://git.example.org/a.git")
    mine, old, going = (service.runs.submit(RunRequest(source)).number for _ in range(3))
    member.post(f"/runs/{mine}/cancel", data={"_csrf": csrf(member)})
    assert service.claims.take("w", ()) is not None
    service.runs.cancel(old, superseded_by=going)
    link = f'superseded by <a class="num" href="/runs/{going}">#{going}</a>'
    sentence = '<span class="why sentence">'
    assert f"{sentence}{link}" in member.get(f"/runs/{old}").text
    assert f"{sentence}{link}" in member.get(f"/runs/{old}/head").text
    assert f"{sentence}<bdi>cancelled by grace</bdi>" in member.get(f"/runs/{mine}").text
    listed = member.get("/runs").text
    assert link in listed
    assert "<bdi>cancelled by grace</bdi>" in listed


def test_run_again_changes_what_the_form_says_and_reports_no_commit(
    member: FlaskClient, service: Service, ended: int
) -> None:
    form = {"_csrf": csrf(member), "arguments": "A=2\r\nB=x y\r\n", "target": "test", "file": "", "ref": "fix"}
    response = member.post(f"/runs/{ended}/again", data=form)
    assert response.status_code == 303
    run = service.runs.get(ended + 1)
    assert run.options == BuildOptions(build_args={"A": "2", "B": "x y"}, target="test")
    assert run.source == GitSource("https://git.example.org/a.git", "fix")
    assert run.trigger.context == ""


def test_fork_s_run_with_other_arguments_is_the_fork_s(member: FlaskClient, service: Service) -> None:
    source = GitSource("https://git.example.org/a.git", "0" * 40, trusted=False)
    run = service.runs.submit(RunRequest(source), Trigger("pull_request", pull_request=7, fork=True))
    service.runs.cancel(run.number)
    form = {"_csrf": csrf(member), "arguments": "A=2", "target": "", "file": "", "ref": "0" * 40}
    assert member.post(f"/runs/{run.number}/again", data=form).status_code == 303
    again = service.runs.get(run.number + 1)
    assert (again.domain, again.trigger.by) == ("fork 7", "grace")
    assert "domain: fork 7" in member.get(f"/runs/{again.number}").text


@pytest.mark.parametrize("arguments", ["no equals", "1A=2", "=x"])
def test_run_again_explains_what_is_wrong(member: FlaskClient, service: Service, ended: int, arguments: str) -> None:
    response = member.post(f"/runs/{ended}/again", data={"_csrf": csrf(member), "arguments": arguments})
    assert response.status_code == 422
    assert arguments in unescape(response.text), "what was typed is not lost"
    assert len(service.runs.list()) == 1


def test_cancel_of_what_has_ended_leads_back(member: FlaskClient, ended: int) -> None:
    response = member.post(f"/runs/{ended}/cancel", data={"_csrf": csrf(member)})
    assert response.headers["Location"] == f"/runs/{ended}"


@pytest.mark.parametrize("action", ["cancel", "retry", "again"])
def test_viewers_change_nothing(client: FlaskClient, service: Service, ended: int, action: str) -> None:
    sign_in(client, service, "linus", "viewer")
    assert client.post(f"/runs/{ended}/{action}", data={"_csrf": csrf(client)}).status_code == 403


@pytest.mark.parametrize("path", ["/disk/cache", "/disk/registry"])
def test_only_administrators_make_room(member: FlaskClient, path: str) -> None:
    assert member.post(path, data={"_csrf": csrf(member), "keep": "0"}).status_code == 403


def test_a_web_process_without_registry_says_so(member: FlaskClient) -> None:
    response = member.get("/images")
    assert response.status_code == 404
    assert "this web process has no registry" in response.text


def test_a_queue_that_is_away_is_told(member: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.errors import QueueUnreachableError

    def away() -> None:
        raise QueueUnreachableError("Redis does not answer")

    monkeypatch.setattr(service.queue, "ping", away)
    assert "nothing new is started: Redis does not answer" in unescape(member.get("/workers").text)


def test_worker_that_is_sick_says_why(member: FlaskClient, service: Service) -> None:
    service.workers.beat("bad", (), 2)
    for _ in range(3):
        service.runs.submit(RunRequest(_CONTEXT))
        claim = service.claims.take("bad", ())
        assert claim is not None
        service.claims.fail(claim, "no space left on <the disk>", "worker")
    shown = unescape(member.get("/workers").text)
    assert "3 runs in a row failed by the machine's fault, the last, run 3: no space left on <the disk>" in shown
    assert "status-sick" in shown
    assert "<the disk>" not in member.get("/workers").text


def test_places_of_a_worker_that_is_lost_are_none(member: FlaskClient, service: Service) -> None:
    service.workers.beat("here", (), 2)
    Workers(service.database, clock=lambda: time.time() - 3600).beat("gone", (), 5)
    assert "0 of 2 places taken" in member.get("/workers").text


@pytest.mark.parametrize("part", ["", "/about?job=1"])
def test_last_lines_of_the_failed_step_stand_where_the_failure_is_told(
    member: FlaskClient, service: Service, part: str
) -> None:
    """For those without a script: the log itself opens there."""
    worker = FakeWorker(service)
    worker.write(1, 1200)
    worker.write_and_fail(b"\x1b[31mred\x1b[0m <b>", b"10 %\r99 %", b"\x1b]0;title\x07last")
    headers = {"HX-Request": "true"} if part else {}
    shown = member.get(f"/runs/{worker.number}{part}", headers=headers).text
    tail = shown.partition('printed">')[2].partition("</pre>")[0]
    lines = [f"line {number}" for number in range(1189, 1201)]
    assert unescape(tail).splitlines() == [*lines, "red <b>", "99 %", "last"]
    assert "<b>" not in tail
    if not part:
        assert 'data-lines="1206" data-after="206"' in shown, "a follower begins a thousand lines before the end"


def test_run_that_succeeded_has_no_last_lines(member: FlaskClient, service: Service) -> None:
    worker = FakeWorker(service)
    worker.write_and_finish(3)
    assert "The last lines" not in member.get(f"/runs/{worker.number}").text


def test_who_is_signed_in_keeps_the_navigation_on_a_page_that_does_not_exist(member: FlaskClient) -> None:
    for path in ("/nowhere", "/runs/x/y", "/runs/999999"):
        lost = member.get(path)
        assert lost.status_code == 404
        assert '<nav class="rail" aria-label="Main">' in lost.text
        assert ">grace</span>" in lost.text


def test_a_stranger_learns_nothing_from_a_page_that_does_not_exist(client: FlaskClient) -> None:
    lost = client.get("/nowhere", headers={"Cookie": "shiplap_session=nonsense"})
    assert lost.status_code == 404
    assert "<nav" not in lost.text
    assert client.get("/api/v1/nowhere").get_json()["error"]["code"] == "not_found"


def test_an_error_s_excerpt_keeps_its_columns_and_its_sentences_do_not() -> None:
    error = "Dockerfile:2:7: COPY: unknown flag\n    2 | \tCOPY --form\n      | \t     ^^^^^^\nhint: --from?"
    assert [(part.is_excerpt, part.text.count("\n")) for part in passages(error)] == [(False, 0), (True, 1), (False, 0)]
    assert "\n".join(part.text for part in passages(error)) == error
    assert [tuple(part) for part in passages("a | b\n12 | x\n   |")] == [(False, "a | b"), (True, "12 | x\n   |")]


@pytest.mark.parametrize("found", [(), ("web/Dockerfile", "<b>/Dockerfile")])
def test_a_run_without_a_dockerfile_leads_to_the_project_s_setting(
    client: FlaskClient, service: Service, found: tuple[str, ...]
) -> None:
    run = service.runs.submit(RunRequest(GitSource("https://git.example.org/a.git")))
    claim = service.claims.take("w", ())
    assert claim is not None
    result = RunResult(error="there is no Dockerfile in the build context", dockerfiles=found)
    service.claims.finish(claim, "failed", result.error, result, store=lambda connection: None)
    admin, member = client, client.application.test_client()
    sign_in(admin, service, "ada", "admin")
    sign_in(member, service, "grace", "member")
    page = admin.get(f"/runs/{run.number}").text
    assert '<a href="/projects/default/settings/builds#f-file">' in page
    assert all(f"<code>{escape(path)}</code>" in page for path in found)
    assert "as the project's <a" in page
    assert "which a maintainer can change" in member.get(f"/runs/{run.number}").text
