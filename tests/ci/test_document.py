"""Bytes to nodes: whatever they are, within bounds, and what is no YAML is told in words."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.document import MAX_BYTES, MappingNode, Node, Scalar, SequenceNode, read_document
from ci.errors import PipelineFileError
from ci.problems import Problems
from tests.toolkit.bounds import stretched


def plain(node: Node | None) -> object:
    """Nodes as Python has them."""
    if node is None or isinstance(node, Scalar):
        return node and node.text
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.entries}


def read(text: str) -> object:
    node, problems = read_document(text.encode(), "f.yml")
    assert not len(problems), problems.render()
    return plain(node)


def problems_of(data: str | bytes) -> Problems:
    try:
        _, problems = read_document(data if isinstance(data, bytes) else data.encode(), "f.yml")
    except PipelineFileError as error:
        return error.problems
    return problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 3.10\nb: no\nc: 22:30\nd: 0755\ne: ~", {"a": "3.10", "b": "no", "c": "22:30", "d": "0755", "e": "~"}),
        ("\ufeffa: b\r\nc: |\r\n  one\r\n  two\r\n", {"a": "b", "c": "one\ntwo\n"}),
        ("- [a, {b: c}]\n- 'it''s'\n", [["a", {"b": "c"}], "it's"]),
        ("x-a: &a {p: 1, q: 2}\nb:\n  <<: *a\n  q: 3\n", {"x-a": {"p": "1", "q": "2"}, "b": {"q": "3", "p": "1"}}),
        ("a: &a {p: 1}\nb: &b {p: 2}\nc: {<<: [*a, *b]}", {"a": {"p": "1"}, "b": {"p": "2"}, "c": {"p": "1"}}),
        ("a: &x [1]\nb: *x\n", {"a": ["1"], "b": ["1"]}),
        ("a: ${X}\nb: $${X}", {"a": "${X}", "b": "$${X}"}),
        ("", None), ("# nothing\n", None), ("~", None),
    ],
)  # fmt: skip
def test_values_are_what_is_written(text: str, expected: object) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: *.py", "1:4", "* begins an alias in YAML (a text that begins with * is written in quotes)"),
        ("a: *py", "1:4", "there is no &py before it (a text that begins with * is written in quotes)"),
        ("a: !docs/**", "1:4", "!docs/** is a tag in YAML, and pipelines have none (a text that begins with !"),
        ("a: !!str b", "1:4", "!!str is a tag"),
        ("a: !{a,b}/x", "1:4", "(a text that begins with ! is written in quotes)"),
        ("a: {b: ${X}}", "1:9", "${…} between braces or brackets is taken for a map (write the whole value in quotes)"),
        ("a: [${X}]", "1:6", "${…} between braces or brackets is taken for a map"),
        ("a: {{x}}", "1:5", "a key is a text"),
        ("run: echo a: b", "1:12", "a colon and a space begin the value of a key, and here none can"),
        ("a:\n\t- b", "2:1", "lines are indented by spaces, and here is a tab"),
        ("a: @x", "1:4", "no value begins with '@' (write the whole value in quotes)"),
        ("a: `x`", "1:4", "no value begins with '`'"),
        ("a: && b", "1:4", "& begins an anchor in YAML"),
        ("a: 'x\nb: 1", "1:4", "a text in quotes does not end"),
        ("a\nb: 1", "2:1", "this line goes on with the one above, which is no key with its value"),
        ("a:\n  b: 1\n c: 2", "3:2", "this line does not fit what is above it"),
        ("a: [1, 2\nb: 3", "2:2", "goes on without a comma, or does not end"),
        ("a: 1\nb: 2\na: 3", "3:1", "'a' is there twice (first in line 1)"),
        ("---\na: 1\n---\nb: 1", "3:1", "a second document begins here"),
        ("a: &x [*x]", "1:8", "*x stands within what it is to stand for"),
        ("? [a]\n: b", "1:3", "a key is a text, and no list or map"),
        ("a: {<<: b}", "1:9", "<< takes a map, or a list of maps"),
        ("a: \x01", "1:4", "character U+0001 cannot stand in a YAML file"),
        ("a: b\n\ufeffc: d", "2:1", "character U+FEFF cannot stand in a YAML file"),
    ],
)
def test_what_beginners_meet_is_told_in_words_with_its_place(text: str, place: str, words: str) -> None:
    problems = problems_of(text)
    assert problems.has_errors
    shown = problems.render()
    assert f"f.yml:{place}: error: " in shown
    assert words in shown


def test_bytes_that_are_no_utf8_are_refused_with_their_place() -> None:
    assert "f.yml:2:4: error: byte 0xff is no UTF-8 (save the file as UTF-8)" in problems_of(b"a: b\nc: \xff").render()
    assert "the file is in UTF-16" in problems_of("a: b".encode("utf-16")).render()


def test_bounds_hold_for_any_bytes() -> None:
    assert not problems_of(b"#" * MAX_BYTES).has_errors
    assert f"the file has more than {MAX_BYTES} bytes" in problems_of(b"#" * (MAX_BYTES + 1)).render()
    assert not problems_of("a: " + "[" * 49 + "]" * 49).has_errors
    assert "nested more than 50 deep" in problems_of("a: " + "[" * 50 + "]" * 50).render()
    laughs = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'ha'] * 9)}]" for i in range(9))
    assert "more than 100000 values, those of aliases counted wherever they stand" in problems_of(laughs).render()
    deep = "\n".join([f"a{i}: &a{i} " + "[" * 30 + (f"*a{i - 1}" if i else "x") + "]" * 30 for i in range(2)])
    assert "nested more than 50 deep" in problems_of(deep).render()


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 250_000, "{a: " * 100_000, "- " * 250_000, "&a [" * 100_000, "? " * 200_000]
)
def test_what_kills_a_composer_is_refused_and_the_process_lives(text: str) -> None:
    code = (
        "import sys; from ci.document import read_document; from ci.errors import PipelineFileError\n"
        "try: read_document(sys.stdin.buffer.read(), 'f')\nexcept PipelineFileError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=text.encode(), capture_output=True, timeout=stretched(30), check=True
    )
    assert done.stdout.startswith((b"f:1:53: ", b"f:1:201: ", b"f:1:101: ", b"f:1:3: ")), done.stdout


SOUP = st.lists(
    st.one_of(
        st.sampled_from([*"[]{}:,-?&*!|>'\"%@` \n\t#~", "- ", ": ", "<<: ", "*a", "&a ", "---\n", "\n  ", "${X}"]),
        st.text(max_size=3),
    ),
    max_size=40,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SOUP)
def test_any_text_gives_nodes_or_problems_with_places_inside_it(text: str) -> None:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    problems = problems_of(data)
    lines = problems.source.lines
    for problem in problems:
        if problem.span is not None:
            assert 1 <= problem.span.start.line <= max(len(lines), 1)
    problems.render()


def test_a_map_keeps_where_its_keys_stand() -> None:
    node, _ = read_document(b"a:\n  b: [c]\n", "f.yml")
    assert isinstance(node, MappingNode)
    inner = node.get("a")
    assert isinstance(inner, MappingNode)
    assert str(inner.entries[0][0].span) == "2:3"
