"""Signing in by a provider of identities, and what must not get anybody in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from core.settings import OidcSettings
from pipelines.service import Service
from tests.web.guard.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, new_keys
from tests.web.guard.signing import PASSWORD
from web.app import create_app
from web.guard.cookies import SESSION
from web.identities import Provider

ROLES = (("ops", "admin"), ("dev", "member"), ("*", "viewer"))


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


def client_of(service: Service, provider: IdentityProvider, **settings: Any) -> FlaskClient:
    """A browser on an application that trusts the provider."""
    values = {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "roles": ROLES}
    known = Provider(OidcSettings(**{**values, "name": "Example", **settings}))
    return create_app(service, identities=known).test_client()


def leave(client: FlaskClient, target: str = "/runs/7") -> str:
    """The provider's address that the browser is sent to."""
    response = client.get("/oidc/sign-in", query_string={"next": target})
    assert response.status_code == 303, response.text
    return str(response.headers["Location"])


def come_back(client: FlaskClient, provider: IdentityProvider, target: str = "/runs/7") -> TestResponse:
    back = urlsplit(provider.authorize(leave(client, target)))
    return client.get(f"{back.path}?{back.query}")


def is_signed_in(client: FlaskClient) -> bool:
    return client.get_cookie(SESSION) is not None


def test_user_of_the_provider_signs_in(service: Service, provider: IdentityProvider) -> None:
    client = client_of(service, provider)
    assert "Sign in by Example" in client.get("/login").text
    response = come_back(client, provider)
    assert (response.status_code, response.headers["Location"]) == (303, "/runs/7")
    assert is_signed_in(client)
    user = service.users.get("jane.doe")
    assert (user.role, user.issuer, user.has_password) == ("viewer", provider.issuer, False)
    assert service.audit.list(limit=1)[0].detail == f"by {provider.issuer}"


def test_role_is_that_of_the_claims_at_each_sign_in(service: Service, provider: IdentityProvider) -> None:
    for groups, role in ((["dev", "ops"], "admin"), ("dev", "member"), (["x"], "viewer"), (None, "viewer")):
        provider.claims["groups"] = groups
        come_back(client_of(service, provider), provider)
        assert service.users.get("jane.doe").role == role
    assert len(service.users.list()) == 1


def test_claims_that_the_id_token_lacks_come_from_the_user_information(
    service: Service, provider: IdentityProvider
) -> None:
    provider.user_info = {"groups": ["ops"]}
    come_back(client_of(service, provider), provider)
    assert service.users.get("jane.doe").role == "admin"
    provider.user_info = {"sub": "somebody else", "groups": ["ops"]}
    assert come_back(client_of(service, provider), provider).status_code == 401


def test_user_without_a_role_does_not_get_in(service: Service, provider: IdentityProvider) -> None:
    client = client_of(service, provider, roles=(("ops", "admin"),))
    response = come_back(client, provider)
    assert response.status_code == 401
    assert "no role here" in response.text
    assert service.users.list() == []


def test_name_of_a_local_user_is_not_taken_over(service: Service, provider: IdentityProvider) -> None:
    service.users.create("jane.doe", "admin", PASSWORD)
    come_back(client_of(service, provider), provider)
    assert [(user.name, user.role) for user in service.users.list()] == [
        ("jane.doe", "admin"),
        ("jane.doe-2", "viewer"),
    ]


def test_disabled_user_does_not_get_in(service: Service, provider: IdentityProvider) -> None:
    come_back(client_of(service, provider), provider)
    service.users.create("boss", "admin")
    service.users.set_disabled("jane.doe", True)
    client = client_of(service, provider)
    assert come_back(client, provider).status_code == 401
    assert not is_signed_in(client)


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": NOW - 3600, "iat": NOW - 7200},
        {"exp": None},
        {"nbf": NOW + 3600},
        {"sub": None},
        {"at_hash": "AAAA"},
    ],
    ids=lambda claims: " ".join(claims),
)
def test_id_token_with_wrong_claims_gets_nobody_in(
    service: Service, provider: IdentityProvider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    client = client_of(service, provider)
    response = come_back(client, provider)
    assert response.status_code == 401
    assert "ID token is not valid" in response.text
    assert not is_signed_in(client)
    assert service.users.list() == []


def test_id_token_without_a_signature_gets_nobody_in(service: Service, provider: IdentityProvider) -> None:
    provider.algorithm = "none"
    assert come_back(client_of(service, provider), provider).status_code == 401


def test_id_token_signed_by_another_key_gets_nobody_in(service: Service, provider: IdentityProvider) -> None:
    provider.key = ECKey.generate_key("P-256", {"kid": "one"})
    assert come_back(client_of(service, provider), provider).status_code == 401


def test_id_token_signed_by_a_published_text_gets_nobody_in(service: Service, provider: IdentityProvider) -> None:
    """HMAC with what is public: the confusion of algorithms."""
    provider.algorithm, provider.key = "HS256", new_keys()[1]
    assert come_back(client_of(service, provider), provider).status_code == 401


def test_new_key_of_the_provider_is_fetched(service: Service, provider: IdentityProvider) -> None:
    now = [time.time()]
    settings = OidcSettings(provider.issuer, CLIENT_ID, CLIENT_SECRET, roles=ROLES)
    client = create_app(service, identities=Provider(settings, clock=lambda: now[0])).test_client()
    assert come_back(client, provider).status_code == 303
    provider.algorithm, provider.key = "RS256", new_keys()[0]
    provider.published.append(provider.key)
    assert come_back(client, provider).status_code == 401  # within half a minute nothing is fetched again
    now[0] += 31
    assert come_back(client, provider).status_code == 303
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1


def test_client_secret_goes_the_way_that_the_provider_takes(service: Service, provider: IdentityProvider) -> None:
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert come_back(client_of(service, provider), provider).status_code == 303
    assert come_back(client_of(service, provider, client_secret="wrong"), provider).status_code == 401


def test_sign_in_that_another_browser_began_is_refused(service: Service, provider: IdentityProvider) -> None:
    back = urlsplit(provider.authorize(leave(client_of(service, provider))))
    victim = client_of(service, provider)
    assert victim.get(f"{back.path}?{back.query}").status_code == 401
    leave(victim)
    assert victim.get(f"{back.path}?{back.query}").status_code == 401
    assert not is_signed_in(victim)


def test_answer_of_the_provider_is_good_once(service: Service, provider: IdentityProvider) -> None:
    client = client_of(service, provider)
    back = urlsplit(provider.authorize(leave(client)))
    cookie = client.get_cookie("shiplap_oidc", path="/oidc")
    assert cookie is not None
    assert client.get(f"{back.path}?{back.query}").status_code == 303
    client.set_cookie("shiplap_oidc", cookie.value, path="/oidc")
    assert client.get(f"{back.path}?{back.query}").status_code == 401


def test_sign_in_that_takes_too_long_is_refused(service: Service, provider: IdentityProvider) -> None:
    client = client_of(service, provider)
    back = urlsplit(provider.authorize(leave(client)))
    service.sign_ins._clock = lambda: time.time() + 601
    assert client.get(f"{back.path}?{back.query}").status_code == 401
    leave(client)
    service.sign_ins.sweep()


def test_refusal_of_the_provider_is_told(service: Service, provider: IdentityProvider) -> None:
    client = client_of(service, provider)
    state = parse_qs(urlsplit(leave(client)).query)["state"][0]
    response = client.get("/oidc/callback", query_string={"state": state, "error": "access_denied<script>"})
    assert response.status_code == 401
    assert "access_denied&lt;script&gt;" in response.text


def test_afterwards_nobody_is_sent_to_another_site(service: Service, provider: IdentityProvider) -> None:
    response = come_back(client_of(service, provider), provider, "//evil.example")
    assert response.headers.get("Location") == "/", response.text


@pytest.mark.parametrize("metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": 7}])
def test_provider_that_is_not_what_was_set_up_is_refused(
    service: Service, provider: IdentityProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert client_of(service, provider).get("/oidc/sign-in").status_code == 401


def test_provider_that_is_away_is_told(service: Service) -> None:
    with IdentityProvider() as provider:
        client = client_of(service, provider)
    response = client.get("/oidc/sign-in")
    assert response.status_code == 401
    assert "does not answer" in response.text


def test_without_a_provider_there_is_no_such_sign_in(client: FlaskClient) -> None:
    assert client.get("/oidc/sign-in").status_code == 404
    assert client.get("/oidc/callback").status_code == 404
    assert "Sign in by" not in client.get("/login").text


def test_sign_ins_by_a_provider_are_bounded(service: Service, provider: IdentityProvider) -> None:
    service.throttle._clock = lambda: 1.0
    client = client_of(service, provider)
    for _ in range(30):
        leave(client)
    assert client.get("/oidc/sign-in").status_code == 429


def refusal(service: Service, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Whom and why, of the newest entry in the trail, which the log has as well."""
    entry = service.audit.list(limit=1)[0]
    assert (entry.actor, entry.action) == ("(nobody)", "fail to sign in")
    (said,) = [record.getMessage() for record in caplog.records if record.name == "web.pages.oidc"]
    assert said == f"a sign-in by Example was refused for {entry.subject}: {entry.detail}"
    return entry.subject, entry.detail


@pytest.mark.parametrize(
    ("claims", "options", "who", "why"),
    [
        ({"nonce": "another"}, {}, "(by the provider)", "ID token is not valid: invalid_claim: Invalid claim: 'nonce'"),
        ({"exp": 1}, {}, "(by the provider)", "ID token is not valid: expired_token"),
        (
            {"groups": ["a", "b"]},
            {"roles": (("ops", "admin"),)},
            "Jane.Doe",
            "no role: the claim 'groups' has 2 values",
        ),
        ({}, {"roles": (("ops", "admin"),)}, "Jane.Doe", "no role: the provider sent nothing in the claim 'groups'"),
    ],
    ids=["nonce", "expired", "values", "no claim"],
)
def test_reason_of_a_refusal_is_in_log_and_trail(
    service: Service,
    provider: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
    options: dict[str, Any],
    who: str,
    why: str,
) -> None:
    provider.claims = claims
    assert come_back(client_of(service, provider, **options), provider).status_code == 401
    told = refusal(service, caplog)
    assert told[0] == who
    assert why in told[1]
    assert "another" not in told[1]


def test_signature_provider_and_state_are_reasons_too(
    service: Service, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.key = ECKey.generate_key("P-256", {"kid": "one"})
    come_back(client_of(service, provider), provider)
    assert "bad_signature" in refusal(service, caplog)[1]
    caplog.clear()
    client_of(service, provider).get("/oidc/callback?state=x&code=y")
    assert "begun in another browser" in refusal(service, caplog)[1]
    caplog.clear()
    provider.metadata = {"issuer": "https://evil.example"}
    client_of(service, provider).get("/oidc/sign-in")
    assert "says that it is 'https://evil.example'" in refusal(service, caplog)[1]


def test_disabled_user_is_named_in_log_and_trail(
    service: Service, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    come_back(client_of(service, provider), provider)
    service.users.create("boss", "admin")
    service.users.set_disabled("jane.doe", True)
    come_back(client_of(service, provider), provider)
    assert refusal(service, caplog) == ("Jane.Doe", "this user is disabled")


def test_what_a_stranger_says_of_a_refusal_is_short_and_steers_nothing(
    service: Service, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(service, provider)
    state = parse_qs(urlsplit(leave(client)).query)["state"][0]
    said = {"error": "denied\r\n\x1b[2J\u202e", "error_description": "y" * 9000}
    assert client.get("/oidc/callback", query_string={"state": state, **said}).status_code == 401
    detail = refusal(service, caplog)[1]
    assert detail == f"the provider refused: denied\ufffd\ufffd\ufffd[2J\ufffd: {'y' * 100}"


def test_refusals_of_one_address_do_not_fill_the_trail(service: Service, provider: IdentityProvider) -> None:
    service.throttle._clock = lambda: 1.0
    client = client_of(service, provider)
    statuses = [client.get("/oidc/callback?state=x").status_code for _ in range(40)]
    assert statuses == [401] * 30 + [429] * 10
    assert len(service.audit.list(action="fail to sign in", limit=100)) == 30
