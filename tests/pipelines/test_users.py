"""Users, sessions, links, bounds on attempts and the audit trail, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.accounts.throttle import Bucket
from pipelines.errors import (
    ConflictError,
    InvalidRequestError,
    LinkError,
    NotFoundError,
    SignInError,
    ThrottledError,
    TokenError,
)
from pipelines.service import Service

PASSWORD = "correct horse battery"


def test_names_have_no_upper_case(service: Service) -> None:
    assert service.users.create(" Alice ", "member", PASSWORD).name == "alice"
    assert service.users.sign_in("ALICE", PASSWORD).name == "alice"
    with pytest.raises(ConflictError):
        service.users.create("alice", "viewer")


def test_what_is_no_name_is_refused(service: Service) -> None:
    for name in ("", "-x", "a b", "a/b", "ä", "a" * 65, "a\0b", "\udc80"):
        with pytest.raises(InvalidRequestError, match="invalid user name"):
            service.users.create(name, "viewer")
        assert service.users.find(name) is None
        with pytest.raises(SignInError):
            service.users.sign_in(name, PASSWORD)


def test_what_is_no_password_is_refused(service: Service) -> None:
    for password in ("", "short", "x" * 1025):
        with pytest.raises(InvalidRequestError, match="the password is"):
            service.users.create("alice", "viewer", password)
    assert not service.users.exist()


def test_user_without_a_password_signs_in_by_none(service: Service) -> None:
    service.users.create("alice", "viewer")
    for password in ("", PASSWORD):
        with pytest.raises(SignInError):
            service.users.sign_in("alice", password)


def test_what_is_done_to_nobody_is_an_error(service: Service) -> None:
    for action in (
        lambda: service.users.set_password("nobody", PASSWORD),
        lambda: service.users.set_role("nobody", "admin"),
        lambda: service.users.set_disabled("nobody", True),
        lambda: service.users.get("nobody"),
        lambda: service.links.create("nobody"),
        lambda: service.tokens.create("x", ["read"], owner="nobody"),
    ):
        with pytest.raises(NotFoundError):
            action()


def test_two_administrators_cannot_disable_each_other_at_once(service: Service) -> None:
    for name in ("alice", "bob"):
        service.users.create(name, "admin")

    def disable(name: str) -> bool:
        try:
            service.users.set_disabled(name, True)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(disable, ["alice", "bob"])) == [False, True]
    assert sum(not user.disabled for user in service.users.list()) == 1


def test_sweep_takes_only_what_has_ended(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    user = service.users.create("ann", "member", PASSWORD)
    session, link = service.sessions.begin(user, address="", agent=""), service.links.create("ann")
    service.sessions.sweep()
    assert service.sessions.find(session) is not None
    assert service.links.find(link).user == "ann"
    ends = service.links.find(link).expires_at
    monkeypatch.setattr(service.sessions, "_clock", lambda: ends + 1)
    service.sessions.sweep()
    with pytest.raises(LinkError):  # by its own clock it would be good
        service.links.find(link)


def test_link_is_good_for_one_of_many_who_use_it_at_once(service: Service) -> None:
    text = service.links.create_first()
    assert text is not None

    def use(number: int) -> bool:
        try:
            service.links.use(text, f"root{number}", PASSWORD)
        except LinkError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(use, range(4))) == [False, False, False, True]
    assert len(service.users.list()) == 1


def test_identity_of_a_provider_stays_the_same_user(service: Service) -> None:
    service.users.create("jane", "viewer", PASSWORD)
    first = service.users.sign_in_by_identity("https://a", "1", "Jane", "member")
    again = service.users.sign_in_by_identity("https://a", "1", "renamed", "admin")
    other = service.users.sign_in_by_identity("https://b", "1", "j@ne doe/…", "viewer")
    assert [first.name, again.name, other.name] == ["jane-2", "jane-2", "j@ne-doe-"]
    assert again.role == "admin"
    assert service.users.get("jane").role == "viewer"


def test_sessions_end_with_the_password_that_began_them(service: Service) -> None:
    user = service.users.create("alice", "viewer", PASSWORD)
    text = service.sessions.begin(user, address="192.0.2.1", agent="a browser")
    found = service.sessions.find(text)
    assert found is not None
    assert (found[0].address, found[0].agent, found[1].name) == ("192.0.2.1", "a browser", "alice")
    service.users.set_password("alice", "another password")
    assert service.sessions.find(text) is None
    assert service.sessions.find("") is None


def test_bucket_lets_through_as_many_as_it_holds_however_many_come_at_once(service: Service) -> None:
    service.throttle._clock = lambda: 1_000.0
    bucket = Bucket("somebody", 5, 60.0)

    def take(_: int) -> bool:
        try:
            service.throttle.take([bucket])
        except ThrottledError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(16))) == 5
    with pytest.raises(ThrottledError) as refused:
        service.throttle.take([bucket])
    assert refused.value.retry_after_s == 60


def test_bucket_drains_and_what_was_good_is_given_back(service: Service) -> None:
    now = [1_000.0]
    service.throttle._clock = lambda: now[0]
    full, roomy = Bucket("name", 2, 10.0), Bucket("address", 100, 1.0)
    for _ in range(2):
        service.throttle.take([full, roomy])
    with pytest.raises(ThrottledError):
        service.throttle.take([roomy, full])
    service.throttle.give_back([full, roomy])
    service.throttle.take([full])
    now[0] += 10.0
    service.throttle.take([full])
    now[0] += 2 * 86400
    service.throttle.sweep()
    service.throttle.take([full])


def test_audit_trail_takes_any_text_and_finds_it_again(service: Service) -> None:
    service.audit.add("alice\0", "do", "100%_\\ \udc80" + "x" * 400, "y" * 5000, address="192.0.2.1")
    (entry,) = service.audit.list(actor="alice", action="do", subject="%_\\")
    assert len(entry.subject) == 300
    assert len(entry.detail) == 2000
    assert service.audit.list(subject="%__") == []
    assert service.audit.list(actor="\0") == []
    assert service.audit.actions() == ["do"]


def test_token_that_was_made_elsewhere_is_adopted_once(service: Service) -> None:
    for text in ("shp_one", "shp_one", "shp_two"):
        service.tokens.adopt("workers", text, ["build"])
    assert [token.name for token in service.tokens.list()] == ["workers"]
    assert service.tokens.verify("shp_two", "build").owner is None
    with pytest.raises(TokenError):
        service.tokens.verify("shp_one", "read")


def test_sign_in_by_a_provider_comes_back_once(service: Service) -> None:
    begun = service.sign_ins.begin("/runs/1")
    assert service.sign_ins.take(begun.state) == begun
    with pytest.raises(SignInError):
        service.sign_ins.take(begun.state)
