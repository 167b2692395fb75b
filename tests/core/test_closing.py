from __future__ import annotations

import pytest

from core.closing import Closing


class _Held(Closing):
    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self) -> None:
        self.closed.append("closed")


def test_it_is_closed_once_at_the_end_and_gives_itself() -> None:
    held = _Held()
    with held as given:
        assert given is held
        assert held.closed == []
    assert held.closed == ["closed"]


def test_it_is_closed_when_something_goes_wrong_which_goes_on() -> None:
    held = _Held()
    with pytest.raises(KeyError), held:
        raise KeyError
    assert held.closed == ["closed"]


def test_what_cannot_be_closed_cannot_be_made() -> None:
    class Open(Closing):
        pass

    with pytest.raises(TypeError, match="close"):
        Open()  # type: ignore[abstract]
