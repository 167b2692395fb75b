"""Signing in and out, one-time links, sessions, CSRF tokens."""

from __future__ import annotations

import html
import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pipelines.service import Service
from tests.web.guard.signing import PASSWORD, csrf, sign_in, token_of
from web.guard.browsers import COOKIE
from web.guard.cookies import SESSION, VISIT
from web.guard.redirects import same_origin


def form_token(response: TestResponse) -> str:
    """The CSRF token of the first form of a page."""
    match = re.search(r'name="_csrf" value="([^"]+)"', response.text)
    assert match is not None, response.text
    return html.unescape(match[1])


def log_in(client: FlaskClient, name: str, password: str, **more: str) -> TestResponse:
    token = form_token(client.get("/login"))
    return client.post("/login", data={"_csrf": token, "name": name, "password": password, **more})


@pytest.fixture
def alice(service: Service) -> str:
    return service.users.create("alice", "member", PASSWORD).name


def test_name_and_password_begin_a_session(client: FlaskClient, service: Service, alice: str) -> None:
    response = log_in(client, "Alice", PASSWORD, next="/runs?project=web")
    assert (response.status_code, response.headers["Location"]) == (303, "/runs?project=web")
    cookie = response.headers.getlist("Set-Cookie")[0]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert client.get("/account").status_code == 200
    assert [entry.action for entry in service.audit.list(actor=alice)] == ["sign in"]


def test_cookie_is_secure_when_the_browser_came_by_https(client: FlaskClient, alice: str) -> None:
    client.get("/login", base_url="https://localhost")
    token = form_token(client.get("/login", base_url="https://localhost"))
    response = client.post(
        "/login", data={"_csrf": token, "name": alice, "password": PASSWORD}, base_url="https://localhost"
    )
    assert response.status_code == 303
    (cookie,) = [cookie for cookie in response.headers.getlist("Set-Cookie") if cookie.startswith(f"{SESSION}=")]
    assert "; Secure" in cookie


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("\0", "\0")])
def test_wrong_name_and_wrong_password_are_told_alike(
    client: FlaskClient, alice: str, name: str, password: str
) -> None:
    response = log_in(client, name, password)
    assert response.status_code == 401
    assert "Wrong name or password." in response.text
    assert client.get_cookie(SESSION) is None


def test_disabled_user_has_no_way_in(client: FlaskClient, service: Service, alice: str) -> None:
    sign_in(client, service, alice)
    token = service.tokens.create("of alice", ["build"], owner=alice)[1]
    link = service.links.create(alice)
    service.users.create("boss", "admin")
    service.users.set_disabled(alice, True)
    assert client.get("/account").status_code == 303
    assert client.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert client.get(f"/welcome?link={link}").status_code == 410
    client.delete_cookie(SESSION)
    assert log_in(client, alice, PASSWORD).status_code == 401


def test_session_from_before_signing_in_is_not_used_on(client: FlaskClient, service: Service, alice: str) -> None:
    sign_in(client, service, "mallory")
    before = client.get_cookie(SESSION)
    assert before is not None
    response = client.post("/login", data={"_csrf": csrf(client), "name": alice, "password": PASSWORD})
    assert response.status_code == 303
    after = client.get_cookie(SESSION)
    assert after is not None
    assert after.value != before.value
    assert service.sessions.find(before.value) is None


def test_name_is_closed_for_a_while_after_many_wrong_passwords(
    client: FlaskClient, service: Service, alice: str
) -> None:
    service.throttle._clock = lambda: 1.0
    for _ in range(10):
        assert log_in(client, alice, "wrong").status_code == 401
    response = log_in(client, alice, PASSWORD)
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert log_in(client, "bob", "wrong").status_code == 401  # others are not shut out
    service.throttle._clock = lambda: 61.0
    assert log_in(client, alice, PASSWORD).status_code == 303


def from_address(client: FlaskClient, address: str, password: str) -> int:
    token = form_token(client.get("/login"))
    form = {"_csrf": token, "name": "alice", "password": password}
    return client.post("/login", data=form, environ_base={"REMOTE_ADDR": address}).status_code


def test_wrong_passwords_of_others_do_not_shut_a_user_out_elsewhere(
    client: FlaskClient, service: Service, alice: str
) -> None:
    service.throttle._clock = lambda: 1.0
    service.users._decoy = "scrypt$1$AAAA$AAAA"  # quick
    for _ in range(10):
        assert from_address(client, "192.0.2.66", "wrong") == 401
    assert from_address(client, "192.0.2.66", PASSWORD) == 429
    assert from_address(client, "198.51.100.7", PASSWORD) == 303


def test_wrong_passwords_of_others_do_not_shut_a_known_browser_out_here(
    client: FlaskClient, service: Service, alice: str
) -> None:
    service.throttle._clock = lambda: 1.0
    assert log_in(client, alice, PASSWORD).status_code == 303
    client.delete_cookie(SESSION)
    stranger = client.application.test_client()
    for _ in range(10):
        assert log_in(stranger, alice, "wrong").status_code == 401
    assert log_in(stranger, alice, PASSWORD).status_code == 429
    assert log_in(client, alice, PASSWORD).status_code == 303
    client.delete_cookie(SESSION)
    for _ in range(10):  # and is bounded itself
        assert log_in(client, alice, "wrong").status_code == 401
    assert log_in(client, alice, PASSWORD).status_code == 429


@pytest.mark.parametrize("forged", ["x", "AAAA", "é", "x" * 2000, "another's"])
def test_browser_that_nobody_knows_is_bounded_as_all_are(
    client: FlaskClient, service: Service, alice: str, forged: str
) -> None:
    service.throttle._clock = lambda: 1.0
    if forged == "another's":
        service.users.create("bob", "member", PASSWORD)
        other = client.application.test_client()
        log_in(other, "bob", PASSWORD)
        cookie = other.get_cookie(COOKIE)
        assert cookie is not None
        forged = cookie.value
    for _ in range(10):
        client.set_cookie(COOKIE, forged)
        assert log_in(client, alice, "wrong").status_code == 401
    client.set_cookie(COOKIE, forged)
    assert log_in(client, alice, PASSWORD).status_code == 429


def test_address_is_closed_after_trying_many_names(client: FlaskClient, service: Service) -> None:
    service.throttle._clock = lambda: 1.0
    service.users._decoy = "scrypt$1$AAAA$AAAA"  # quick
    for number in range(30):
        assert log_in(client, f"name{number}", "wrong").status_code == 401
    assert log_in(client, "another", "wrong").status_code == 429


def test_good_sign_ins_fill_no_bucket(client: FlaskClient, service: Service, alice: str) -> None:
    service.throttle._clock = lambda: 1.0
    for _ in range(12):
        client.delete_cookie(SESSION)
        assert log_in(client, alice, PASSWORD).status_code == 303


def test_signing_out_ends_the_session_for_good(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    cookie = client.get_cookie(SESSION)
    assert cookie is not None
    assert client.post("/logout", data={"_csrf": csrf(client)}).headers["Location"] == "/login"
    assert client.get_cookie(SESSION) is None
    client.set_cookie(SESSION, cookie.value)
    assert client.get("/account").status_code == 303


def test_session_ends_when_idle_and_when_old(client: FlaskClient, service: Service) -> None:
    now = [1_000_000.0]
    service.sessions._clock = lambda: now[0]
    sign_in(client, service)
    day = 86400.0
    for _ in range(4):
        now[0] += 6 * day
        assert client.get("/account").status_code == 200
    now[0] += 6.9 * day  # 30.9 days in all
    assert client.get("/account").status_code == 303
    sign_in(client, service)
    now[0] += 7.1 * day
    assert client.get("/account").status_code == 303
    service.sessions.sweep()
    assert service.sessions.list("alice") == []


def test_first_link_makes_the_administrator_once(client: FlaskClient, service: Service) -> None:
    text = service.links.create_first()
    assert text is not None
    page = client.get(f"/welcome?link={text}")
    form = {"_csrf": form_token(page), "link": text, "name": "Root", "password": PASSWORD, "again": PASSWORD}
    assert "The two passwords differ" in client.post("/welcome", data={**form, "again": "other"}).text
    assert "The password is shorter" in client.post("/welcome", data={**form, "password": "x", "again": "x"}).text
    assert "Invalid user name" in client.post("/welcome", data={**form, "name": "a b"}).text
    assert client.post("/welcome", data=form).status_code == 303
    assert [(user.name, user.role) for user in service.users.list()] == [("root", "admin")]
    assert client.get("/users").status_code == 200
    assert client.get(f"/welcome?link={text}").status_code == 410
    assert service.links.create_first() is None


def test_of_two_first_links_only_the_newer_is_good(service: Service, client: FlaskClient) -> None:
    old, new = service.links.create_first(), service.links.create_first()
    assert client.get(f"/welcome?link={old}").status_code == 410
    assert client.get(f"/welcome?link={new}").status_code == 200


def test_link_sets_a_password_and_ends_sessions(client: FlaskClient, service: Service, alice: str) -> None:
    session = service.sessions.begin(service.users.get(alice), address="", agent="")
    text = service.links.create(alice)
    page = client.get(f"/welcome?link={text}")
    form = {"_csrf": form_token(page), "link": text, "password": "another password", "again": "another password"}
    assert client.post("/welcome", data=form).status_code == 303
    assert service.sessions.find(session) is None
    assert service.users.sign_in(alice, "another password").name == alice
    assert client.post("/welcome", data={**form, "_csrf": csrf(client)}).status_code == 410


def test_link_expires(client: FlaskClient, service: Service, alice: str) -> None:
    text = service.links.create(alice)
    service.links._clock = lambda: 1e11
    assert client.get(f"/welcome?link={text}").status_code == 410


def test_only_hashes_are_in_the_database(service: Service, alice: str) -> None:
    texts = [service.links.create(alice), service.sessions.begin(service.users.get(alice), address="", agent="")]
    stored = b"".join(path.read_bytes() for path in service.settings.root.joinpath("serve").glob("service.db*"))
    assert alice.encode() in stored
    assert not [text for text in [*texts, PASSWORD] if text.encode() in stored]


@pytest.mark.parametrize("token", ["", "wrong", "\xff"])
def test_form_without_its_token_changes_nothing(client: FlaskClient, service: Service, token: str) -> None:
    sign_in(client, service)
    response = client.post("/users", data={"_csrf": token, "name": "eve", "role": "admin"})
    assert response.status_code == 403
    assert service.users.find("eve") is None


def test_token_of_another_session_is_refused(client: FlaskClient, service: Service) -> None:
    sign_in(client, service)
    other = client.application.test_client()
    sign_in(other, service, "mallory", "viewer")
    response = client.post("/users", data={"_csrf": csrf(other), "name": "eve", "role": "admin"})
    assert response.status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_form_of_another_site_is_refused(client: FlaskClient, service: Service, headers: dict[str, str]) -> None:
    sign_in(client, service)
    form = {"_csrf": csrf(client), "name": "eve", "role": "viewer"}
    assert client.post("/users", data=form, headers=headers).status_code == 403
    assert client.post("/users", data=form, headers={"Origin": "http://localhost"}).status_code == 201


def test_visitor_cannot_be_signed_in_by_another_site(client: FlaskClient, alice: str) -> None:
    assert client.post("/login", data={"name": alice, "password": PASSWORD}).status_code == 403


@pytest.mark.parametrize("visit", [None, ""], ids=["no cookie", "an empty cookie"])
def test_token_of_no_session_is_not_accepted(client: FlaskClient, alice: str, visit: str | None) -> None:
    """It would be a constant, which every other site knows."""
    if visit is not None:
        client.set_cookie(VISIT, visit)
    response = client.post("/login", data={"_csrf": token_of(""), "name": alice, "password": PASSWORD})
    assert response.status_code == 403
    assert client.get_cookie(SESSION) is None


def test_token_of_a_visitor_is_not_accepted_within_a_session(client: FlaskClient, service: Service) -> None:
    """A visitor's cookie can be somebody else's doing, as that of a page that shares the host's name."""
    sign_in(client, service)
    client.set_cookie(VISIT, "planted")
    form = {"name": "eve", "role": "admin"}
    assert client.post("/users", data={"_csrf": token_of("planted"), **form}).status_code == 403
    assert service.users.find("eve") is None
    assert client.post("/users", data={"_csrf": csrf(client), **form}).status_code == 201


def test_script_of_a_page_uses_the_api_by_its_session(client: FlaskClient, service: Service) -> None:
    sign_in(client, service, "mia", "member")
    assert client.get("/api/v1/whoami").get_json() == {
        "name": "mia", "scopes": ["build"], "user": "mia", "expires_at": None,
    }  # fmt: skip
    assert client.post("/api/v1/contexts", json={"entries": []}).status_code == 403
    headers = {"X-CSRF-Token": csrf(client)}
    assert client.post("/api/v1/contexts", json={"entries": []}, headers=headers).status_code == 200
    assert client.get("/api/v1/tokens").status_code == 403
    # A token goes before the session, also a bad one.
    assert client.get("/api/v1/whoami", headers={"Authorization": "Bearer shp_no"}).status_code == 401


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "", "runs", "/a\nb", "/\t/x",
     "///evil.example", "/\\/evil", "/logout", "/login?next=/", "/runs\\..", "/[::1"],
)  # fmt: skip
def test_nobody_is_sent_to_other_sites(target: str) -> None:
    assert same_origin(target) in ("/", "/[::1")
    assert same_origin(target).startswith("/")


@pytest.mark.parametrize("target", ["/runs/7#L3", "/runs?project=a&x=//b", "/projects/web"])
def test_page_that_was_asked_for_comes_after_signing_in(target: str) -> None:
    assert same_origin(target) == target


def test_page_without_a_session_leads_to_signing_in_and_back(client: FlaskClient) -> None:
    response = client.get("/account?done=x")
    assert (response.status_code, response.headers["Location"]) == (303, "/login?next=/account%3Fdone%3Dx")


@pytest.mark.parametrize(
    ("shown", "following"),
    [
        ("http://localhost/runs/7?done=x#L3", "/login?next=/runs/7%3Fdone%3Dx%23L3"),
        ("https://evil.example/runs/7", "/login?next=/runs/7"),
        ("http://[", "/login"),
        ("", "/login"),
    ],
)
def test_part_of_a_page_without_a_session_leads_back_to_the_page(
    client: FlaskClient, shown: str, following: str
) -> None:
    part = client.get("/runs/7/head", headers={"HX-Request": "true", "HX-Current-URL": shown})
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, following)
