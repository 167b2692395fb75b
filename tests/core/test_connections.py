"""What is said of a connection that failed."""

from __future__ import annotations

import pytest

from core.connections import reason


def wrapped(inner: Exception, *, by_name: bool) -> Exception:
    """``inner`` as a library passes it on: as the named cause of its own error, or raising that while handling it."""
    try:
        try:
            raise inner
        except type(inner) as error:
            if by_name:
                raise RuntimeError("HTTPPool(host='x'): gave up") from error
            raise RuntimeError("HTTPPool(host='x'): gave up")  # noqa: B904 - that is how some do it
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("by_name", [True, False], ids=["cause", "context"])
def test_what_the_system_said_is_found_however_deep_it_is(by_name: bool) -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    assert reason(wrapped(wrapped(refused, by_name=by_name), by_name=by_name)) == "Connection refused"
    assert reason(wrapped(wrapped(refused, by_name=True), by_name=by_name)) == "Connection refused"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("<pool at 0x7f>: a header: no colon"), "no colon"),
        (ValueError("no colon"), "no colon"),
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_without_the_system_s_word_the_end_of_the_message_tells(error: Exception, said: str) -> None:
    assert reason(error) == said
