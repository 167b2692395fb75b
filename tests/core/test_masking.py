"""The finder of secrets' forms, held against the regular expression that it stands for."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from core.masking import MASK, MIN_LENGTH, FormFinder, Masker

_few = st.sampled_from([97, 98, 99])
_forms = st.lists(st.lists(_few, min_size=4, max_size=40).map(bytes), min_size=1, max_size=12)


@given(_forms, st.lists(_few, max_size=300).map(bytes), st.data())
def test_forms_are_replaced_as_by_a_regular_expression(forms: list[bytes], noise: bytes, data: st.DataObject) -> None:
    text = noise
    for form in data.draw(st.lists(st.sampled_from(forms), max_size=3)):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + form + text[at:]
    longest_first = sorted(set(forms), key=len, reverse=True)
    expected = re.sub(b"|".join(map(re.escape, longest_first)), b"*", text)
    assert FormFinder(forms).replace(text, b"*") == expected


@given(_forms, st.lists(_few, min_size=1, max_size=40).map(bytes))
def test_beginning_of_a_form_is_known(forms: list[bytes], end: bytes) -> None:
    expected = any(len(form) > len(end) and form.startswith(end) for form in forms)
    assert FormFinder(forms).begins_form(end) is expected


def test_shortest_secret_that_may_be_kept_is_masked() -> None:
    secret = b"q7Zx"
    assert len(secret) == MIN_LENGTH
    assert Masker([secret]).mask("-q7Zx-") == f"-{MASK}-"
    assert Masker([b"first\nq7Zx\n"]).mask("-q7Zx-") == f"-{MASK}-"
    assert Masker([secret[:-1]]).mask("-q7Z-") == "-q7Z-"  # it would hide half of every log


def test_text_without_a_secret_is_the_same_object() -> None:
    text = "nothing to see, äöü" * 100
    assert Masker([b"hunter22"]).mask(text) is text


@given(st.text(max_size=80), st.text(max_size=80))
def test_secret_is_masked_between_any_characters(before: str, after: str) -> None:
    masked = Masker([b"correct-horse-battery"]).mask(f"{before}correct-horse-battery{after}")
    assert "correct-horse" not in masked
    assert MASK in masked
