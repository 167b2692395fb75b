"""Go's filepath.Match: its own table of cases, and what a malformed pattern says."""

from __future__ import annotations

import pytest

from dockerfile_grammar import match
from dockerfile_grammar.errors import PatternError
from dockerfile_grammar.globs import has_wildcards


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("ab[d-b]", "abc", False),
        ("ab[^d-b]", "abc", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("a[^x]b", "a/b", True),
        (r"[\]a]", "]", True),
        (r"[\-]", "-", True),
        (r"[x\-]", "x", True),
        (r"[x\-]", "-", True),
        (r"[x\-]", "z", False),
        (r"[\-x]", "a", False),
        ("[a&&b]", "&", True),
        ("[[]", "[", True),
        ("[^^]", "^", False),
        ("*x", "xxx", True),
        ("**", "ab", True),
        ("**", "a/b", False),
        ("a**b", "axxb", True),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("a.c", "abc", False),
        ("*\n?", "a\nb", True),
    ],
)
def test_match(pattern: str, name: str, expected: bool) -> None:
    assert match(pattern, name) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "[]a]",
        "[-]",
        "[x-]",
        "[-x]",
        "\\",
        "[a-b-c]",
        "[",
        "[^",
        "[^bc",
        "a[",
        "a[b",
        "*[",
        "[a\\",
        "[a-",
        "[]*]",
        "x*y[",
    ],
)
def test_malformed_pattern_is_an_error_whatever_the_name(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        match(pattern, "a")
    assert "malformed pattern" in caught.value.message
    assert caught.value.hint


def test_many_stars_take_no_exponential_time() -> None:
    assert not match("*a" * 30 + "b", "a" * 250)


def test_wildcards_are_recognised() -> None:
    assert has_wildcards("a*")
    assert has_wildcards("a\\b")
    assert not has_wildcards("a/b-c.d")
