"""What ends at a time ends at that very instant, and what is swept is what has ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import func, select

from pipelines.accounts.audit import KEEP_S, Audit
from pipelines.accounts.sessions import IDLE_S, LIFETIME_S, LINK_S, Links, Sessions
from pipelines.accounts.sign_ins import LIFETIME_S as SIGN_IN_S
from pipelines.accounts.sign_ins import SignIns
from pipelines.accounts.throttle import Bucket, Throttle
from pipelines.accounts.tokens import Tokens
from pipelines.accounts.users import Users
from pipelines.errors import ConflictError, InvalidRequestError, LinkError, SignInError, ThrottledError, TokenError
from pipelines.schema import sessions, sign_in_links, throttle
from pipelines.service import Service

_PASSWORD = "correct horse battery"
_START = 1_000_000_000.0
_DAY_S = 86400.0


class Clock:
    """The time, which goes on when it is told to."""

    def __init__(self) -> None:
        self.now = _START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fails(kind: type[Exception], action: Callable[[], object]) -> bool:
    try:
        action()
    except kind:
        return True
    return False


def test_session_ends_when_it_was_not_used_for_its_time_and_when_it_is_old(service: Service, clock: Clock) -> None:
    user = Users(service.database, clock=clock).create("ann", "member", _PASSWORD)
    assert user.signed_in_at is None
    mine = Sessions(service.database, clock=clock)
    text = mine.begin(user, address="a" * 65, agent="b" * 301)
    assert service.users.get("ann").signed_in_at == _START
    (session,) = mine.list("ann")
    assert (session.address, session.agent) == ("a" * 64, "b" * 300)
    assert (session.created_at, session.expires_at) == (_START, _START + LIFETIME_S)
    clock.now = _START + 60
    assert mine.find(text) is not None
    assert mine.list("ann")[0].seen_at == _START, "it is noted once a minute at most"
    clock.now += 1
    assert mine.find(text) is not None
    seen = mine.list("ann")[0].seen_at
    assert seen == _START + 61
    clock.now = seen + IDLE_S - 1
    assert len(mine.list("ann")) == 1
    clock.now = seen + IDLE_S
    assert (mine.find(text), mine.list("ann")) == (None, [])
    clock.now = seen + IDLE_S - 1
    while clock.now < _START + LIFETIME_S - 1:
        assert mine.find(text) is not None
        clock.now = min(clock.now + IDLE_S - 100, _START + LIFETIME_S - 1)
    assert mine.find(text) is not None
    clock.now = _START + LIFETIME_S
    assert (mine.find(text), mine.list("ann")) == (None, [])


def test_sessions_are_listed_by_their_last_use_and_swept_once_they_have_ended(service: Service, clock: Clock) -> None:
    user = Users(service.database, clock=clock).create("ann", "member", _PASSWORD)
    mine, links = Sessions(service.database, clock=clock), Links(service.database, clock=clock)
    for agent in ("first", "second"):
        mine.begin(user, address="", agent=agent)
        clock.now += 1
    assert [session.agent for session in mine.list("ann")] == ["second", "first"]
    links.create("ann")

    def kept() -> tuple[int, int]:
        mine.sweep()
        with service.database.read() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(t)).scalar_one() for t in (sessions, sign_in_links)
            ]
        return counts[0], counts[1]

    clock.now = _START + IDLE_S
    assert kept() == (2, 0), "the link has ended, and no session is older than its time"
    clock.now = _START + IDLE_S + 0.5
    assert kept() == (1, 0)
    clock.now = _START + IDLE_S + 1.5
    assert kept() == (0, 0)


def test_link_ends_at_its_time(service: Service, clock: Clock) -> None:
    Users(service.database, clock=clock).create("ann", "member", _PASSWORD)
    links = Links(service.database, clock=clock)
    text = links.create("ann")
    assert (links.find(text).user, links.find(text).expires_at) == ("ann", _START + LINK_S)
    clock.now = _START + LINK_S - 1
    assert links.find(text).user == "ann"
    clock.now = _START + LINK_S
    assert fails(LinkError, lambda: links.find(text))
    assert fails(LinkError, lambda: links.use(text, "ann", _PASSWORD))


def test_newer_link_takes_the_place_of_the_older_one_of_the_same_user(service: Service, clock: Clock) -> None:
    links = Links(service.database, clock=clock)
    first = [links.create_first() or "", links.create_first() or ""]
    assert fails(LinkError, lambda: links.find(first[0]))
    assert links.find(first[1]).user == ""
    root = links.use(first[1], "root", _PASSWORD)
    assert (root.name, root.role) == ("root", "admin")
    assert fails(LinkError, lambda: links.find(first[1])), "it is good once"
    service.users.create("bob", "member", _PASSWORD)
    texts = [links.create("root"), links.create("bob"), links.create("bob")]
    assert [fails(LinkError, partial(links.find, text)) for text in texts] == [False, True, False]
    assert links.use(texts[2], "ignored", "another password").name == "bob"
    assert service.users.sign_in("bob", "another password").name == "bob"
    assert links.find(texts[0]).user == "root", "another user's link stays"


def test_sign_in_by_a_provider_ends_at_its_time(service: Service, clock: Clock) -> None:
    ins = SignIns(service.database, clock=clock)
    begun = [ins.begin(f"/{number}") for number in range(3)]
    assert len({len(each.state) for each in begun} | {len(each.nonce) for each in begun}) == 1
    clock.now = _START + SIGN_IN_S - 1
    ins.sweep()
    assert ins.take(begun[0].state) == begun[0]
    clock.now = _START + SIGN_IN_S
    assert fails(SignInError, lambda: ins.take(begun[1].state))
    ins.sweep()
    clock.now = _START
    assert fails(SignInError, lambda: ins.take(begun[2].state)), "it was forgotten"


def test_bucket_is_forgotten_after_a_day_and_not_before(service: Service, clock: Clock) -> None:
    mine = Throttle(service.database, clock=clock)
    full = Bucket("k", 1, 10 * _DAY_S)
    mine.take([full])

    def kept() -> int:
        mine.sweep()
        with service.database.read() as connection:
            return connection.execute(select(func.count()).select_from(throttle)).scalar_one()

    clock.now = _START + _DAY_S
    assert kept() == 1
    assert fails(ThrottledError, lambda: mine.take([full]))
    clock.now = _START + _DAY_S + 1
    assert kept() == 0


def test_bucket_says_how_long_to_wait_for_the_fullest(service: Service, clock: Clock) -> None:
    mine = Throttle(service.database, clock=clock)
    small, large = Bucket("a", 1, 7.5), Bucket("b", 1, 100.0)
    mine.take([small, large])
    with pytest.raises(ThrottledError) as refused:
        mine.take([small, large])
    assert refused.value.retry_after_s == 100
    clock.now = _START + 50
    mine.take([small])
    mine.give_back([small])
    mine.give_back([small])
    mine.take([small])
    assert fails(ThrottledError, lambda: mine.take([small])), "what was given back too often leaves no more room"


def test_token_expires_at_its_time_and_is_forgotten_a_month_later(service: Service, clock: Clock) -> None:
    tokens = Tokens(service.database, service.settings.root / "admin.token", clock=clock)
    token, text = tokens.create("t", ["build", "read", "build"], 100.0)
    _, lasting = tokens.create("for ever", ["read"])
    assert (token.scopes, token.created_at, token.expires_at) == (("read", "build"), _START, _START + 100)
    assert tokens.identify(text).last_used_at is None
    clock.now = _START + 99
    assert tokens.identify(text).last_used_at == _START
    clock.now = _START + 100
    with pytest.raises(TokenError, match="the API token has expired") as told:
        tokens.identify(text)
    assert told.value.hint == "ask for a new one"
    clock.now = _START + 100 + 30 * _DAY_S
    tokens.sweep()
    assert [each.name for each in tokens.list()] == ["t", "for ever"]
    clock.now += 1
    tokens.sweep()
    assert [each.name for each in tokens.list()] == ["for ever"]
    assert tokens.verify(lasting, "read").expires_at is None


def test_trail_is_kept_for_its_time_and_asked_by_it(service: Service, clock: Clock) -> None:
    trail = Audit(service.database, clock=clock)
    for number in range(3):
        clock.now = _START + number
        trail.add("ann", f"do {number}", "s", project=f"p{number}")

    def found(**asked: object) -> list[str]:
        return [entry.action for entry in trail.list(**asked)]  # type: ignore[arg-type]

    assert found() == ["do 2", "do 1", "do 0"]
    assert found(since=_START + 1) == ["do 2", "do 1"]
    assert found(until=_START + 1) == ["do 0"]
    assert found(before=trail.list()[0].id) == ["do 1", "do 0"]
    assert found(projects=["p0", "p2"]) == ["do 2", "do 0"]
    assert found(projects=[]) == []
    assert found(limit=1) == ["do 2"]
    assert found(actor="bob") == []
    clock.now = _START + KEEP_S + 1
    trail.sweep()
    assert found() == ["do 2", "do 1"]


def test_who_is_disabled_has_no_session_and_no_link_left(service: Service) -> None:
    for name in ("ann", "bob"):
        service.users.create(name, "admin", _PASSWORD)
    bob = service.users.get("bob")
    text, link = service.sessions.begin(bob, address="", agent=""), service.links.create("bob")
    other = service.sessions.begin(service.users.get("ann"), address="", agent="")
    service.users.set_disabled("bob", True)
    service.users.set_disabled("bob", False)
    assert service.sessions.find(text) is None
    assert fails(LinkError, lambda: service.links.find(link))
    assert service.sessions.find(other) is not None
    service.users.set_disabled("bob", True)
    for action in (partial(service.users.set_disabled, "ann", True), partial(service.users.set_role, "ann", "member")):
        with pytest.raises(ConflictError, match="this is the last administrator") as refused:
            action()
        assert refused.value.hint == "make another user one first"
    ann = service.users.get("ann")
    assert (ann.role, ann.disabled) == ("admin", False)


def test_password_has_a_least_and_a_largest_length(service: Service) -> None:
    for length, good in ((7, False), (8, True), (1024, True), (1025, False)):
        create = partial(service.users.create, f"u{length}", "member", "x" * length)
        assert fails(InvalidRequestError, create) != good
    assert service.users.sign_in("u1024", "x" * 1024).name == "u1024"
    assert fails(SignInError, lambda: service.users.sign_in("u1024", "x" * 1025)), "and not by more than it"
