"""What the hook of a bare repository takes for an answer of the service itself."""

from __future__ import annotations

import pytest

from pipelines.bare.post_receive import is_final


@pytest.mark.parametrize("status", [400, 401, 403, 411, 413])
def test_refusal_by_the_service_is_final(status: int) -> None:
    assert is_final(status, '{"error": {"code": "denied"}}')
    assert not is_final(status, "<html>a proxy's page</html>")
    assert not is_final(status, '["error"]')
    assert not is_final(status, '{"outcome": "built"}')


@pytest.mark.parametrize("status", [404, 408, 412, 429, 500, 502, 503])
def test_what_may_pass_is_told_again(status: int) -> None:
    assert not is_final(status, '{"error": {"code": "unavailable"}}')


def test_only_a_page_of_the_service_s_own_takes_a_push() -> None:
    assert is_final(202, '{"outcome": "built"}')
    assert not is_final(200, "{}")
    assert not is_final(200, "welcome")
