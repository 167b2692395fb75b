"""What is shown of settings that may hold a password."""

from __future__ import annotations

import pytest

from core.effective import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ci:hunter2@db.example:5432/ci?password=hunter2", "postgresql://db.example:5432/ci"),
        ("HTTP://ci:hunter2@proxy.example:3128", "http://proxy.example:3128"),
        ("redis://:hunter2@[::1]/0", "redis://[::1]/0"),
        ("unix:///run/redis.sock?password=hunter2", "unix:///run/redis.sock"),
        ("ci:hunter2@proxy.example:3128", "set"),
        ("postgresql://ci:12/hunter2@db.example/ci", "set"),
        ("postgresql://ci:hunter/2@db.example/ci", "set"),
    ],
)
def test_of_an_address_no_password_is_shown_wherever_it_stands(url: str, shown: str) -> None:
    assert without_password(url) == shown
