"""Cutting bytes into lines, and taking the sting out of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.progress.text import Line, LineSplitter, cell_width, cut, harmless, one_line, size_text


def lines(*pieces: bytes, final: bool = True) -> list[str]:
    splitter = LineSplitter()
    found = [line.text for piece in pieces for line in splitter.feed(piece)]
    return found + [line.text for line in splitter.feed(b"", final=final)]


def test_lines_end_only_where_they_end() -> None:
    assert lines(b"one\ntw", b"o\n", b"three") == ["one", "two", "three"]


def test_character_split_between_two_pieces_is_joined() -> None:
    snowman = "☃".encode()
    assert lines(b"a" + snowman[:1], snowman[1:2], snowman[2:] + b"b\n") == ["a☃b"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert lines(b"a\xffb\n") == ["a�b"]


def test_carriage_return_before_a_line_end_is_part_of_it_even_when_split() -> None:
    assert lines(b"dos\r", b"\nunix\n") == ["dos", "unix"]


def test_overwriting_line_shows_its_last_state() -> None:
    assert lines(b"10%\r20%\r30%\n") == ["30%"]


def test_unfinished_overwriting_line_gives_its_states_marked_as_such() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b"10%\r20%\r30%")) == [Line("20%", overwritten=True)]
    assert splitter.pending == "30%"


def test_empty_lines_are_kept() -> None:
    assert lines(b"\n\na\n") == ["", "", "a"]


def test_endless_line_comes_in_pieces() -> None:
    found = lines(*[b"x" * 10_000] * 10)
    assert "".join(found) == "x" * 100_000
    assert len(found) > 1


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_where_the_pieces_are_cut_changes_nothing(data: bytes, cuts: list[int]) -> None:
    clean = data.replace(b"\r", b"")  # states of overwritten lines do depend on it, by design
    edges = [0, *sorted(min(cut, len(clean)) for cut in cuts), len(clean)]
    pieces = [clean[a:b] for a, b in pairwise(edges)]
    assert lines(*pieces) == lines(clean)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext", "plain\ttext"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[31mleaks", "\x1b[31mleaks\x1b[0m"),
        ("up\x1b[2Aand\x1b[2Kaway", "upandaway"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;ZXZpbA==\x1b\\text", "text"),
        ("\x1bcreset", "reset"),
        ("bell\x07 back\x08 nul\x00 c1\x9b del\x7f", "bell back nul c1 del"),
        ("\x1b[?1049hscreen", "screen"),
        ("cut off \x1b[", "cut off "),
    ],
)
def test_control_sequences_other_than_colours_are_removed(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_harmless_text_has_no_escape_but_colours(text: str) -> None:
    left = harmless(text, colours=False)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in left)
    assert harmless(left) == left


def test_names_stay_on_one_line() -> None:
    assert one_line("RUN <<EOF\n\tmake\x1b[2J\nEOF") == "RUN <<EOF  make EOF"


def test_width_counts_cells() -> None:
    assert cell_width("abc") == 3
    assert cell_width("日本") == 4
    assert cell_width("e\u0301") == 1


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("日本語", 5, "日本…"), ("日本語", 4, "日…"), ("ab", 0, "")],
)
def test_cut_fits_cells(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (84_100_000, "84.1MB"),
        (999_600, "1MB"),
        (4e12, "4TB"),
    ],
)
def test_sizes_are_decimal_as_dockers(size: float, text: str) -> None:
    assert size_text(size) == text
