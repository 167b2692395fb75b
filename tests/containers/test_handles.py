"""A container as its starter sees it, without one: what other threads may ask while one waits."""

from __future__ import annotations

import threading

from containers import wire
from containers.handles import Container
from tests.toolkit.bounds import stretched


def test_whether_it_has_ended_can_be_asked_at_any_moment_of_its_end() -> None:
    ours, theirs = wire.socket_pair()
    asked: list[bool] = []
    box = Container(ours, None, lambda: asked.append(box.ended()))  # between the answer's coming and its being known
    assert not box.ended()
    waiting = threading.Thread(target=box.wait)
    waiting.start()
    wire.send(theirs, ("exit", 0, "", ()))
    waiting.join(stretched(30))
    assert asked == [True]
    assert box.ended()
    assert box.wait().code == 0
    theirs.close()


def test_one_that_was_closed_has_ended() -> None:
    ours, theirs = wire.socket_pair()
    box = Container(ours, None, lambda: None)
    box.close()
    theirs.close()
    assert box.ended()
