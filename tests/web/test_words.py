"""Numbers and times as the pages write them."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from web.pages import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (-1, "0.00 s"), (0.999, "1.00 s"), (1, "1.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"),
        (61.6, "1 min 02 s"), (3599.4, "59 min 59 s"), (3600, "1 h 00 min"), (7500, "2 h 05 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (20, "20 s"), (59, "59 s"), (60, "1:00"), (90, "1:30"), (3599, "59:59"), (3600, "1:00:00"),
     (7325, "2:02:05")],
)  # fmt: skip
def test_moments_of_an_axis(seconds: float, text: str) -> None:
    assert words.axis(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1340, "1.3 kB"), (99_900, "99.9 kB"), (99_960, "100 kB"),
     (999_400, "999 kB"), (999_500, "1.0 MB"), (10**15, "1.0 PB"), (10**18, "1000 PB")],
)  # fmt: skip
def test_sizes(size: float, text: str) -> None:
    assert words.size(size) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (-5, "just now"), (9.9, "just now"), (10, "10 s ago"), (59, "59 s ago"), (60, "1 min ago"),
        (3599, "59 min ago"), (3600, "1 h ago"), (86399, "23 h ago"),
        (86400, "yesterday"), (2 * 86400 - 1, "yesterday"),
        (2 * 86400, "2 days ago"), (32 * 86400 - 1, "31 days ago"),
    ],
)  # fmt: skip
def test_how_long_ago(passed: float, text: str) -> None:
    assert words.ago(1_000_000_000 - passed, 1_000_000_000) == text


def test_moments_dates_and_digests() -> None:
    assert words.ago(0, 32 * 86400) == "1 Jan 1970"
    assert words.iso(1) == "1970-01-01T00:00:01Z"
    assert words.short("sha256:" + "0123456789abcdef") == "0123456789ab"
    assert words.short("0123456789abcdef") == "0123456789ab"
    assert words.epoch("1970-01-01T00:00:01Z") == 1
    assert words.epoch("never") is None


def test_numbers_with_their_nouns() -> None:
    assert [words.plural(number, "run") for number in (0, 1, 2, 1234)] == ["0 runs", "1 run", "2 runs", "1,234 runs"]
    assert words.plural(2, "child", "children") == "2 children"


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140 on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/121.0",
            "Edge 121 on Windows",
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Version/17.1 Safari/605.1", "Safari 17 on macOS"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/120.0 Mobile Safari", "Chrome 120 on Android"),
        ("Firefox/140.0", "Firefox 140"),
        ("curl/8.0", "curl/8.0"),
        ("x" * 101, "x" * 100),
        ("", "unknown"),
    ],
)
def test_browsers(agent: str, text: str) -> None:
    assert words.browser(agent) == text


def test_only_addresses_of_the_web_are_links() -> None:
    for url in ("https://a/", "http://a/"):
        assert words.weblink(url) == url
    for url in ("javascript:alert(1)", "file:///etc/passwd", "//a/", "ftp://a"):
        assert words.weblink(url) == ""


def test_errors_are_split_into_sentences_and_excerpts() -> None:
    assert words.passages("one\ntwo\n 7 | RUN x\n   | ^\nthree\n") == [
        words.Passage(False, "one\ntwo"), words.Passage(True, " 7 | RUN x\n   | ^"), words.Passage(False, "three"),
    ]  # fmt: skip
    assert words.as_json({"ä": [1]}) == '{"ä": [1]}'


def test_title_of_a_stranger_turns_no_words_beside_it_and_stays_escaped() -> None:
    title = words.unturned(Markup.escape("\u2067<b>\u202e&amp;\u2069 שלום"))
    assert f"{Markup()}{title} · shop" == "&lt;b&gt;&amp;amp; שלום · shop"
    assert isinstance(title, Markup)
