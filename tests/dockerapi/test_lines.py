"""Lines of progress between the thread that works and the one that answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dockerapi import handover
from dockerapi.lines import _MOST_WAITING, ClientGoneError, Lines
from tests.toolkit.bounds import stretched


def test_output_that_a_slow_client_does_not_take_waits_with_its_writer() -> None:
    lines, count = Lines(), 2 * _MOST_WAITING
    put: list[int] = []

    def write() -> None:
        for number in range(count):
            lines.put({"stream": str(number)})
            put.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.5)
    assert len(put) <= _MOST_WAITING
    taken = [lines.get() for _ in range(count)]
    writer.join(stretched(20))
    assert taken == [{"stream": str(number)} for number in range(count)]


def test_progress_that_nobody_takes_is_dropped_and_the_end_is_not() -> None:
    lines = Lines()
    for number in range(_MOST_WAITING + 1):
        lines.put({"progressDetail": {"current": number}})
    end = threading.Thread(target=lambda: lines.put(None))
    end.start()
    found: list[Any] = [lines.get() for _ in range(_MOST_WAITING + 1)]
    end.join(stretched(20))
    assert found[-1] is None
    assert len(found) == _MOST_WAITING + 1


def test_whoever_writes_for_a_client_that_has_gone_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.setattr("dockerapi.lines._LOOK_EACH_S", 0.01)
    monkeypatch.setattr(handover, "has_gone", lambda: True)
    with pytest.raises(ClientGoneError):
        lines.get()
    lines.cancelled.set()
    for number in range(2 * _MOST_WAITING):
        lines.put({"stream": str(number)})
