"""Users, rights, tokens, and what those without rights learn: nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from registry.server.errors import ServerSettingsError, UserError
from registry.server.serve import choose_access, is_loopback, parse_address
from registry.server.settings import ServerSettings
from registry.server.tokens import Claims, Scope, TokenSigner, load_key, parse_scopes
from registry.server.users import EVERYONE, Users
from tests.registry.server.conftest import Bench, Clock
from tests.registry.server.serving import InProcess, code_of, digest_of

_PASSWORD = "correct horse"
_ABSENT = digest_of(b"nobody has this")


@pytest.fixture
def guarded(make_bench: Callable[..., Bench]) -> Bench:
    """alice has all rights in team/, bob may pull everything, carol nothing."""
    bench = make_bench(ServerSettings(access="users"))
    users = bench.registry.users
    for name, rights in (("alice", {"team/*": ["*"]}), ("bob", {"*": ["pull"]}), ("carol", {})):
        users.set_password(name, _PASSWORD, new=True)
        for pattern, actions in rights.items():
            users.grant(name, pattern, actions)
    return bench


def _as(bench: Bench, user: str, password: str = _PASSWORD) -> InProcess:
    value = base64.b64encode(f"{user}:{password}".encode()).decode()
    return InProcess(bench.client.http, headers={"Authorization": f"Basic {value}"})


def _bearer(bench: Bench, token: str) -> InProcess:
    return InProcess(bench.client.http, headers={"Authorization": f"Bearer {token}"})


def _token(client: InProcess, *scopes: str) -> str:
    response = client("GET", "/v2/token?service=x&" + "&".join(f"scope={quote(scope)}" for scope in scopes))
    assert response.status_code == 200, response.data
    document = json.loads(response.data)
    assert document["token"] == document["access_token"]
    assert document["expires_in"] == 300
    return str(document["token"])


def _challenge(response: TestResponse) -> dict[str, str]:
    assert response.status_code == 401
    assert code_of(response) == "UNAUTHORIZED"
    header = response.headers["WWW-Authenticate"]
    assert header.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', header))


def test_base_401_names_the_token_service(guarded: Bench) -> None:
    challenge = _challenge(guarded.client("GET", "/v2/"))
    assert challenge == {"realm": "http://localhost/v2/token", "service": "localhost"}


def test_public_url_is_what_the_challenge_names(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ServerSettings(access="users", public_url="https://images.example/"))
    told = bench.client("GET", "/v2/", headers={"Host": "evil.example"})
    assert _challenge(told) == {"realm": "https://images.example/v2/token", "service": "images.example"}
    assert told.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_who_comes_by_another_known_name_is_answered_by_it(make_bench: Callable[..., Bench]) -> None:
    names = frozenset({"registry.internal:5000"})
    bench = make_bench(ServerSettings(access="users", public_url="https://images.example", other_names=names))
    told = bench.client("GET", "/v2/", headers={"Host": "registry.internal:5000"})
    assert _challenge(told)["realm"] == "http://registry.internal:5000/v2/token"
    told = bench.client("GET", "/v2/", headers={"Host": "registry.internal"})
    assert _challenge(told)["realm"] == "https://images.example/v2/token"


@pytest.mark.parametrize(
    ("method", "path", "actions"),
    [
        ("GET", "/v2/team/app/tags/list", "pull"),
        ("HEAD", "/v2/team/app/manifests/v1", "pull"),
        ("PUT", "/v2/team/app/manifests/v1", "pull,push"),
        ("DELETE", "/v2/team/app/manifests/v1", "pull,delete"),
        ("POST", "/v2/team/app/blobs/uploads/", "pull,push"),
        ("GET", f"/v2/team/app/blobs/uploads/{'0' * 32}", "pull,push"),
        ("DELETE", f"/v2/team/app/blobs/uploads/{'0' * 32}", "pull,push"),
        ("DELETE", f"/v2/team/app/blobs/{_ABSENT}", "pull,delete"),
    ],
)
def test_without_credentials_401_with_the_scope_to_ask_for(
    guarded: Bench, method: str, path: str, actions: str
) -> None:
    response = guarded.client(method, path)
    assert response.status_code == 401
    assert f'scope="repository:team/app:{actions}"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "header",
    [
        "Basic !!!", "Basic " + base64.b64encode(b"alice").decode(), "Bearer x.y.z", "Bearer ", "Digest x",
        "Basic " + base64.b64encode(b"alice:wrong").decode(), "Basic " + base64.b64encode(b"nobody:wrong").decode(),
        "Bearer shp_unknown", "Bearer \xff", "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)  # fmt: skip
def test_bad_credentials_401(guarded: Bench, header: str) -> None:
    for path in ("/v2/", "/v2/token", "/v2/team/app/tags/list"):
        assert guarded.client("GET", path, headers={"Authorization": header}).status_code == 401


def test_basic_credentials_give_the_users_rights(guarded: Bench) -> None:
    alice, bob, carol = (_as(guarded, name) for name in ("alice", "bob", "carol"))
    assert alice("GET", "/v2/").status_code == 200
    manifest = alice.push_image("v1")
    assert bob("GET", "/v2/team/app/manifests/v1").data == manifest
    for response in (
        bob("POST", "/v2/team/app/blobs/uploads/"),
        bob("DELETE", "/v2/team/app/manifests/v1"),
        carol("GET", "/v2/team/app/manifests/v1"),
        alice("POST", "/v2/other/app/blobs/uploads/"),
    ):
        assert response.status_code == 403
        assert code_of(response) == "DENIED"
    assert alice("DELETE", "/v2/team/app/manifests/v1").status_code == 202


def test_who_may_not_pull_cannot_tell_what_exists(guarded: Bench) -> None:
    _as(guarded, "alice").push_image("v1")
    carol = _as(guarded, "carol")
    there, nowhere = (carol("GET", f"/v2/{name}/manifests/v1") for name in ("team/app", "team/no"))
    assert there.status_code == nowhere.status_code == 403
    assert there.data.replace(b"team/app", b"team/no") == nowhere.data
    assert carol("GET", "/v2/_catalog").json == {"repositories": []}
    assert _as(guarded, "bob")("GET", "/v2/_catalog").json == {"repositories": ["team/app"]}


def test_mount_needs_the_right_to_pull_from_the_source(guarded: Bench) -> None:
    guarded.registry.users.grant("carol", "carol/*", ["pull", "push"])
    digest = _as(guarded, "alice").push_blob(b"secret")
    local = guarded.store.blobs.put(b"of the local store")
    carol = _as(guarded, "carol")
    for query in (f"mount={digest}&from=team/app", f"mount={digest}", f"mount={local}"):
        assert carol("POST", f"/v2/carol/app/blobs/uploads/?{query}").status_code == 202
    guarded.registry.users.grant("carol", "team/*", ["pull"])
    assert carol("POST", f"/v2/carol/app/blobs/uploads/?mount={digest}&from=team/app").status_code == 201


def test_token_covers_what_was_asked_and_no_more_than_the_user_may(guarded: Bench) -> None:
    _as(guarded, "alice").push_image("v1")
    token = _token(_as(guarded, "bob"), "repository:team/app:pull,push")
    bob = _bearer(guarded, token)
    assert bob("GET", "/v2/").status_code == 200
    assert bob("GET", "/v2/team/app/manifests/v1").status_code == 200
    assert bob("POST", "/v2/team/app/blobs/uploads/").status_code == 403
    elsewhere = bob("GET", "/v2/team/other/manifests/v1")
    assert _challenge(elsewhere)["error"] == "insufficient_scope"


def test_several_scopes_in_one_parameter_and_in_many(guarded: Bench) -> None:
    alice = _as(guarded, "alice")
    alice.push_image("v1")
    for scopes in (
        ("repository:team/app:pull repository:team/new:pull,push",),
        ("repository:team/app:pull", "repository:team/new:pull,push"),
        ("repository:team/app:*", "repository:team/new:*"),
    ):
        client = _bearer(guarded, _token(alice, *scopes))
        assert client("GET", "/v2/team/app/manifests/v1").status_code == 200
        assert client("POST", "/v2/team/new/blobs/uploads/").status_code == 202


def test_token_by_form(guarded: Bench) -> None:
    form = {"grant_type": "password", "username": "alice", "password": _PASSWORD, "scope": "repository:team/app:push"}
    response = guarded.client("POST", "/v2/token", data=form)
    assert response.status_code == 200
    client = _bearer(guarded, json.loads(response.data)["access_token"])
    assert client("POST", "/v2/team/app/blobs/uploads/").status_code == 202
    assert guarded.client("POST", "/v2/token", data=form | {"password": "wrong"}).status_code == 401
    assert guarded.client("POST", "/v2/token", data=form | {"grant_type": "magic"}).status_code == 400


def test_token_expires(guarded: Bench, clock: Clock) -> None:
    client = _bearer(guarded, _token(_as(guarded, "alice"), "repository:team/app:pull,push"))
    assert client("POST", "/v2/team/app/blobs/uploads/").status_code == 202
    clock.now += 400
    assert _challenge(client("POST", "/v2/team/app/blobs/uploads/"))["error"] == "invalid_token"


def test_small_token_cannot_be_exchanged_for_a_larger_one(guarded: Bench) -> None:
    client = _bearer(guarded, _token(_as(guarded, "alice"), "repository:team/app:pull"))
    assert client("GET", "/v2/token?scope=repository:team/app:push").status_code == 401


def test_rights_taken_away_count_at_once(guarded: Bench) -> None:
    client = _bearer(guarded, _token(_as(guarded, "alice"), "repository:team/app:pull,push"))
    guarded.registry.users.revoke("alice", "team/*")
    assert client("POST", "/v2/team/app/blobs/uploads/").status_code == 403
    guarded.registry.users.remove("alice")
    assert client("POST", "/v2/team/app/blobs/uploads/").status_code == 401
    assert _as(guarded, "alice")("GET", "/v2/").status_code == 401


def test_changed_password_counts_at_once(guarded: Bench) -> None:
    assert _as(guarded, "alice")("GET", "/v2/").status_code == 200
    guarded.registry.users.set_password("alice", "another one", new=False)
    assert _as(guarded, "alice")("GET", "/v2/").status_code == 401
    assert _as(guarded, "alice", "another one")("GET", "/v2/").status_code == 200


def test_access_token_has_at_most_its_own_and_the_users_rights(guarded: Bench, clock: Clock) -> None:
    users = guarded.registry.users
    _as(guarded, "alice").push_image("v1")
    token, secret = users.create_token("alice", "*", ["pull"], lifetime_s=1000)
    for client in (_as(guarded, "alice", secret), _bearer(guarded, secret)):
        assert client("GET", "/v2/team/app/manifests/v1").status_code == 200
        assert client("POST", "/v2/team/app/blobs/uploads/").status_code == 403
        assert client("GET", "/v2/other/app/manifests/v1").status_code == 403
        derived = _bearer(guarded, _token(client, "repository:team/app:pull,push"))
        assert derived("GET", "/v2/team/app/manifests/v1").status_code == 200
        assert derived("POST", "/v2/team/app/blobs/uploads/").status_code == 401
    assert _as(guarded, "bob", secret)("GET", "/v2/").status_code == 401
    clock.now += 1001
    assert _as(guarded, "alice", secret)("GET", "/v2/").status_code == 401
    users.remove_token(token.id)
    assert users.tokens() == []
    with pytest.raises(UserError):
        users.remove_token(token.id)


def test_anonymous_pull(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ServerSettings(access="users", anonymous_pull=True))
    bench.registry.users.set_password("alice", _PASSWORD, new=True)
    bench.registry.users.grant("alice", "*", ["*"])
    manifest = _as(bench, "alice").push_image("v1")
    assert bench.client("GET", "/v2/").status_code == 401  # else docker would never log in
    assert bench.client("GET", "/v2/team/app/manifests/v1").data == manifest
    anonymous = _bearer(bench, _token(bench.client, "repository:team/app:pull,push"))
    assert anonymous("GET", "/v2/").status_code == 200
    assert anonymous("GET", "/v2/team/app/manifests/v1").data == manifest
    assert anonymous("POST", "/v2/team/app/blobs/uploads/").status_code == 401


def test_rights_of_everyone(guarded: Bench) -> None:
    _as(guarded, "alice").push_image("v1", name="team/public")
    guarded.registry.users.grant(EVERYONE, "team/public", ["pull"])
    assert guarded.client("GET", "/v2/team/public/manifests/v1").status_code == 200
    assert _as(guarded, "carol")("GET", "/v2/team/public/manifests/v1").status_code == 200
    assert guarded.client("GET", "/v2/team/app/manifests/v1").status_code == 401


def test_loopback_is_open_until_there_are_users(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ServerSettings(access="open-until-users"))
    bench.client.push_image("v1")
    bench.registry.users.set_password("alice", _PASSWORD, new=True)
    assert bench.client("GET", "/v2/team/app/manifests/v1").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "localhost.evil.example", "1.2.3.4.example"])
def test_open_registry_answers_to_no_name_that_others_may_have_given_it(
    make_bench: Callable[..., Bench], host: str
) -> None:
    bench = make_bench(ServerSettings(access="open-until-users"))
    refused = bench.client("GET", "/v2/_catalog", headers={"Host": host})
    assert (refused.status_code, code_of(refused)) == (403, "DENIED")
    for good in ("localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "[::1]", "app.localhost:1"):
        assert bench.client("GET", "/v2/_catalog", headers={"Host": good}).status_code == 200
    bench.registry.users.set_password("alice", _PASSWORD, new=True)
    assert bench.client("GET", "/v2/", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    ("host", "users", "insecure", "access"),
    [
        ("127.0.0.1", False, False, "open-until-users"),
        ("::1", True, False, "open-until-users"),
        ("localhost", False, False, "open-until-users"),
        ("0.0.0.0", True, False, "users"),
        ("192.0.2.1", False, True, "open"),
    ],
)
def test_access_by_address(host: str, users: bool, insecure: bool, access: str) -> None:
    assert choose_access(host, users_exist=users, insecure=insecure) == access


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "registry.example"])
def test_other_machines_are_not_let_in_without_users(host: str) -> None:
    with pytest.raises(ServerSettingsError, match="no users"):
        choose_access(host, users_exist=False, insecure=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:5000", ("127.0.0.1", 5000)), ("[::1]:80", ("::1", 80)), (":5000", ("0.0.0.0", 5000))],
)
def test_address(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "5000", "localhost", "localhost:", "localhost:x", "::1:80", "[::1:80", "a:99999"])
def test_bad_address(text: str) -> None:
    with pytest.raises(ServerSettingsError):
        parse_address(text)


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.1.2.3", "::1", "localhost", "10.0.0.1", "example")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "everyone", "-x", "a b", "a:b", "x" * 65, "ä"])
def test_bad_user_name(bench: Bench, name: str) -> None:
    with pytest.raises(UserError):
        bench.registry.users.set_password(name, _PASSWORD, new=True)


def test_users_errors(bench: Bench) -> None:
    users = bench.registry.users
    users.set_password("alice", _PASSWORD, new=True)
    for call in (
        lambda: users.set_password("alice", _PASSWORD, new=True),
        lambda: users.set_password("bob", _PASSWORD, new=False),
        lambda: users.set_password("carol", "short", new=True),
        lambda: users.grant("bob", "*", ["pull"]),
        lambda: users.grant("alice", "*", ["dance"]),
        lambda: users.grant("alice", "*", []),
        lambda: users.revoke("alice", "*"),
        lambda: users.remove("bob"),
        lambda: users.create_token("bob", "*", ["pull"], lifetime_s=None),
    ):
        with pytest.raises(UserError):
            call()
    assert users.names() == ["alice"]


def test_users_of_a_store(bench: Bench) -> None:
    users = Users.of(bench.store)
    assert not users.exist()
    users.set_password("alice", _PASSWORD, new=True)
    assert users.exist()
    users.close()


def test_tokens_of_another_key_or_with_other_claims_are_refused(clock: Clock) -> None:
    signer = TokenSigner(b"k" * 32, lifetime_s=60, clock=clock)
    claims = Claims("alice", (Scope("repository", "a/b", ("pull",)),))
    token, issued_at = signer.sign(claims, audience="x")
    assert (signer.verify(token), issued_at) == (claims, clock.now)
    head, payload, signature = token.split(".")
    larger = base64.urlsafe_b64encode(base64.urlsafe_b64decode(payload + "===").replace(b"pull", b"push")).decode()
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for forged in (
        f"{head}.{larger.rstrip('=')}.{signature}", f"{head}.{payload}.", f"{unsigned}.{payload}.", f"{head}.{payload}",
        token[:-1], token + "A", "", ".", "..", "ä.ö.ü",
    ):  # fmt: skip
        assert signer.verify(forged) is None
    assert TokenSigner(b"x" * 32, lifetime_s=60, clock=clock).verify(token) is None
    clock.now -= 100
    assert signer.verify(token) is None


def test_key_is_made_once_and_private(bench: Bench) -> None:
    path = bench.store.root / "serve" / "token.key"
    assert load_key(path) == load_key(path)
    assert path.stat().st_mode & 0o077 == 0
    assert len(load_key(path)) == 32


def test_scopes() -> None:
    assert parse_scopes(
        ["repository:host:5000/a:pull,push nonsense", "registry:catalog:*", "repository(plugin):x:pull"]
    ) == [
        Scope("repository", "host:5000/a", ("pull", "push")),
        Scope("registry", "catalog", ("*",)),
        Scope("repository", "x", ("pull",)),
    ]


def test_many_wrong_passwords_429_for_this_name_and_address_only(guarded: Bench, clock: Clock) -> None:
    for _ in range(10):
        assert _as(guarded, "alice", "guess")("GET", "/v2/").status_code == 401
    refused = _as(guarded, "alice")("GET", "/v2/token")
    assert refused.status_code == 429
    assert code_of(refused) == "TOOMANYREQUESTS"
    assert refused.headers["Retry-After"] == "61"
    form = {"grant_type": "password", "username": "alice", "password": _PASSWORD}
    assert guarded.client.http.post("/v2/token", data=form).status_code == 429
    assert _as(guarded, "bob")("GET", "/v2/").status_code == 200
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert guarded.client.http.post("/v2/token", data=form, environ_overrides=elsewhere).status_code == 200
    clock.now += 61
    assert _as(guarded, "alice")("GET", "/v2/").status_code == 200


@pytest.mark.parametrize("scheme", ["Digest", "Negotiate", "Token", "bearers", ""])
def test_other_schemes_than_basic_and_bearer_let_nobody_in(guarded: Bench, scheme: str) -> None:
    token = _token(_as(guarded, "alice"), "repository:team/app:pull")
    client = InProcess(guarded.client.http, headers={"Authorization": f"{scheme} {token}"})
    assert client("GET", "/v2/").status_code == 401


@pytest.mark.parametrize("scheme", ["Basic", "BASIC", "basic"])
def test_schemes_are_known_in_any_case(guarded: Bench, scheme: str) -> None:
    value = base64.b64encode(f"alice:{_PASSWORD}".encode()).decode()
    client = InProcess(guarded.client.http, headers={"Authorization": f"{scheme}  {value} "})
    assert client("GET", "/v2/").status_code == 200


@pytest.mark.parametrize(
    "value", ["", "!!!!", base64.b64encode(b"alice").decode(), base64.b64encode(b"\xff:x").decode()]
)
def test_malformed_credentials_let_nobody_in(guarded: Bench, value: str) -> None:
    client = InProcess(guarded.client.http, headers={"Authorization": f"Basic {value}"})
    assert client("GET", "/v2/").status_code == 401
