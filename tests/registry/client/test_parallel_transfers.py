"""Several transfers at a time: whose failure is told."""

from __future__ import annotations

import threading

import pytest

from registry.client.workers import in_parallel
from registry.errors import UnreachableError
from tests.toolkit.bounds import stretched


class StoppedError(Exception):
    """What others than the client raise once they see that they are to stop."""


@pytest.mark.parametrize("failing", [0, 1])
def test_first_failure_is_told_and_not_what_it_stopped(failing: int) -> None:
    stop, working = threading.Event(), threading.Event()

    def act(item: int) -> None:
        if item == failing:
            assert working.wait(stretched(10))
            raise UnreachableError("nobody there")
        working.set()
        assert stop.wait(stretched(10))
        raise StoppedError

    with pytest.raises(UnreachableError, match="nobody there"):
        in_parallel(act, [0, 1], workers=2, stop=stop, name="test")
    assert not stop.is_set()
