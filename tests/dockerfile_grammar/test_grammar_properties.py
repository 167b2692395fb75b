"""What holds for every input: only DockerfileError, spans inside the source, no lost text, linear work."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dockerfile_grammar import DockerfileError, IgnorePatterns, Span, ast, expand, expand_words, match, parse
from dockerfile_grammar.errors import ExpansionError, PatternError
from dockerfile_grammar.lines import LineReader
from dockerfile_grammar.memo import decode, encode
from dockerfile_grammar.parsing import parse_parts

ATOMS = st.one_of(
    st.sampled_from("\\`\"'$ \t\n\r#=<{}[],:-/*?!@&|;\ufeff\0\u00a0é\ud800\x85"),
    st.sampled_from(["\n", "\\\n", "`\n", "<<", "<<E", "\nE\n", "${", ":-", "--", "--from=", '["', '"]', "--mount="]),
    st.sampled_from(["FROM", "RUN", "COPY", "ENV", "ARG", "LABEL", "CMD", "ONBUILD", "HEALTHCHECK", "SHELL", "ADD"]),
    st.sampled_from(["VOLUME", "AS", "a", "type=cache", "# escape=`\n", "# ", "EXPOSE", "NONE"]),
)
SOUP = st.lists(ATOMS, max_size=40).map("".join)
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["FROM a", "RUN x \\", "", "  ", "# c", "COPY <<E /x", "E", "ENV a=b \\", "  c=d", 'CMD ["a"]']
        ),
        SOUP,
    ),
    max_size=12,
).map("\n".join)


def spans(value: object) -> Iterator[Span]:
    """All spans in a tree."""
    if isinstance(value, Span):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from spans(item)
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from spans(getattr(value, name))


@settings(max_examples=400, deadline=None)
@given(LINES)
def test_parse_raises_nothing_but_its_error(text: str) -> None:
    try:
        dockerfile = parse("FROM a\n" + text)
    except DockerfileError as error:
        assert_printable(error)
        return
    for span in spans(dockerfile):
        assert_inside(dockerfile, span)
    encoded = encode(dockerfile)
    if encoded is None:
        assert any("\ud800" <= letter <= "\udfff" for line in dockerfile.source.lines for letter in line)
    else:
        assert decode(encoded, dockerfile.filename) == dockerfile


def assert_printable(error: DockerfileError) -> None:
    """An error can be shown: it has text that can be encoded."""
    assert error.render().encode()


def assert_inside(dockerfile: ast.Dockerfile, span: Span) -> None:
    assert span.start <= span.end
    for position in (span.start, span.end):
        assert position.column >= 1
        # The body of an empty here-document may start right after the last line.
        line = dockerfile.source.line(position.line)
        assert position.column <= len(line or "") + 1
        assert position.line <= len(dockerfile.source.lines) + 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    for text in (data, b"FROM a\nRUN " + data):
        try:
            parse(text)
        except DockerfileError as error:
            assert_printable(error)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_lines_hold_what_the_file_holds(text: str) -> None:
    """Each character of a logical line stands in the file where the line says."""
    reader = LineReader(text, "Dockerfile")
    try:
        for line in reader:
            for offset, character in enumerate(line.text):
                position = line.position(offset)
                source = reader.source.line(position.line)
                assert source is not None
                assert source[position.column - 1] == character
    except DockerfileError:
        pass


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_parts_are_given_for_all_that_parses(text: str) -> None:
    try:
        dockerfile = parse(text)
    except DockerfileError:
        return
    assert [context.name for context in parse_parts(text)] == [item.NAME for item in dockerfile.instructions]


@settings(max_examples=400, deadline=None)
@given(SOUP, st.sampled_from("\\`"), st.dictionaries(st.sampled_from(["a", "x", "from"]), SOUP, max_size=3))
def test_expansion_raises_nothing_but_its_error(word: str, escape: str, env: dict[str, str]) -> None:
    try:
        expand(word, env, escape=escape)
        expand_words(word, env, escape=escape)
    except ExpansionError as error:
        assert_printable(error)


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?[]^-\\/!.", max_size=12), st.text("ab/.]^-", min_size=1, max_size=12))
def test_patterns_raise_nothing_but_their_error(pattern: str, name: str) -> None:
    try:
        match(pattern, name)
        patterns = IgnorePatterns.of([pattern, "b*", "!" + pattern])
        patterns.matches(name)
        patterns.can_skip(name)
    except PatternError as error:
        assert_printable(error)


@settings(max_examples=200, deadline=None)
@given(st.text("ab*?/", min_size=1, max_size=10), st.text("ab/", min_size=1, max_size=10))
def test_parallel_matcher_agrees_with_regular_expressions(pattern: str, path: str) -> None:
    import re

    from dockerfile_grammar.ignore import _Parallel, _tokens

    tokens = _tokens(pattern)
    regexp = "".join(token if isinstance(token, str) else token.regexp for token in tokens)
    assert _Parallel(tokens).matches(path) == (re.fullmatch(regexp, path) is not None)


def calls(text: str) -> int:
    """How many Python functions a parse calls: work without a clock."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    parse('FROM a\nRUN "x" <<E\nE\n')  # the parsers are made once
    sys.setprofile(trace)
    try:
        parse(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "RUN --mount=type=cache,target=/x apt-get update && \\\n  # comment\n  apt-get install -y a b c\n",
        'ENV a="b c" d=e\nCOPY --from=b x y z /d/\nCMD ["a", "b"]\n',
        "RUN <<E\necho\nE\n",
        "FROM debian AS x\n",
    ],
)
def test_work_grows_linearly_with_the_file(unit: str) -> None:
    small, large = (calls("FROM debian\n" + unit * count) for count in (20, 200))
    assert large <= small * 11


@pytest.mark.parametrize("unit", [" \\\n  word", " \\\n# comment", " \\\n"])
def test_work_grows_linearly_with_continuations(unit: str) -> None:
    small, large = (calls("FROM debian\nRUN a" + unit * count) for count in (20, 200))
    assert large <= small * 11
