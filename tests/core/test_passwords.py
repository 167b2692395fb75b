"""Hashes of passwords."""

from __future__ import annotations

from core.passwords import DECOY, hash_password, password_fits


def test_passwords_are_salted() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert password_fits("correct horse", first)
    assert not password_fits("wrong", second)


def test_password_of_any_characters_has_a_hash() -> None:
    hashed = hash_password("\udc80 Schlüssel")
    assert password_fits("\udc80 Schlüssel", hashed)


def test_decoy_is_checked_like_any_hash() -> None:
    assert DECOY.split("$")[:2] == hash_password("x").split("$")[:2]
    assert [len(part) for part in DECOY.split("$")] == [len(part) for part in hash_password("x").split("$")]
    assert not password_fits("", DECOY)
