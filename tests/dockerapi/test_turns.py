"""No user of the API has all of its threads, and nobody's connection waits for ever."""

from __future__ import annotations

from dockerapi.turns import MOST_FOLLOWERS, Followers, Turns

OWNER, ANA, BEN, EVE = 0, 1, 2, 3


def begun(turns: Turns[int], user: int, count: int) -> int:
    """How many of so many connections, by number, are served at once."""
    return sum(turns.begin(user, number) for number in range(count))


def test_one_user_leaves_room_for_another_and_all_of_them_for_the_owner() -> None:
    turns: Turns[int] = Turns(64, OWNER)
    assert begun(turns, ANA, 100) == 24
    assert begun(turns, BEN, 100) == 24
    assert begun(turns, EVE, 1) == 0
    assert begun(turns, OWNER, 100) == 100


def test_who_waits_is_served_in_order_when_others_are_done() -> None:
    turns: Turns[int] = Turns(8, OWNER)
    assert begun(turns, ANA, 5) == 3
    assert [list(turns.ended(ANA)) for _ in range(5)] == [[3], [4], [], [], []]
    assert begun(turns, ANA, 3) == 3


def test_users_who_wait_take_turns() -> None:
    turns: Turns[int] = Turns(8, OWNER)  # three of one user, six of all
    begun(turns, ANA, 4)
    begun(turns, BEN, 3)
    assert begun(turns, EVE, 2) == 0
    served = [turns.ended(BEN), turns.ended(BEN), turns.ended(ANA)]
    assert [list(each) for each in served] == [[0], [1], [3]]


def test_the_owners_ends_give_others_no_room() -> None:
    turns: Turns[int] = Turns(8, OWNER)
    begun(turns, ANA, 4)
    begun(turns, OWNER, 1)
    assert list(turns.ended(OWNER)) == []


def test_followers_are_counted_by_user() -> None:
    followers = Followers(OWNER)
    assert sum(followers.enter(ANA) for _ in range(MOST_FOLLOWERS + 5)) == MOST_FOLLOWERS
    assert followers.enter(BEN)
    assert sum(followers.enter(OWNER) for _ in range(MOST_FOLLOWERS + 5)) == MOST_FOLLOWERS + 5
    followers.leave(ANA)
    assert followers.enter(ANA)
    assert not followers.enter(ANA)
