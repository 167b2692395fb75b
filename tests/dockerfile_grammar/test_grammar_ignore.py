"""Ignore patterns against tables of moby/patternmatcher's behaviour."""

from __future__ import annotations

import pytest

from core.cancellation import asking
from dockerfile_grammar import IgnorePatterns
from dockerfile_grammar.errors import PatternError


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "file", True),
        ("**/", "file", True),
        ("**", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("dir/**", "dir", False),
        ("**/dir", "dir", True),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/file/x", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True),
        ("**file", "file", True),
        ("**file", "dir/file", True),
        ("**file", "dir/myfile", True),
        ("**/file", "dir/myfile", False),
        ("**/file", "dir/dir/file", True),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/file*txt", "dir/dir/file.txt", True),
        ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("**/*.txt", "file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt**", "a/file.txt", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a[b-d]e", "ae", False),
        ("a[b-d]e", "ace", True),
        ("a[^b-d]e", "aze", True),
        ("a[^b-d]e", "ace", False),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abcZdef", True),
        ("abc?def", "abc/def", False),
        ("**/foo/bar", "dir/dir2/foo/bar", True),
        ("abc/**", "abc/def/ghi", True),
        ("**/.foo", ".foo", True),
        ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("docs", "docs/a/b", True),
        ("docs", "docsx", False),
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("temp?", "tempa", True),
        ("*.md", "a/README.md", False),
        ("/foo/", "foo/x", True),
        ("./a/../foo", "foo", True),
        ("a*b*c*d*e", "axbxcxdxe", True),
        ("a*b*c*d*e", "axbx/xdxe", False),
        ("**/a*/**/b*/*.c", "x/a1/y/z/b2/f.c", True),
        ("**/a*/**/b*/*.c", "a1/b2/f.c", True),
        ("**/a*/**/b*/*.c", "a1/c/f.c", False),
    ],
)
def test_single_pattern(pattern: str, path: str, expected: bool) -> None:
    assert IgnorePatterns.parse(pattern).matches(path) is expected


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("*\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("!fileutils.go\n*.go", "fileutils.go", True),
        ("*.go\n!fileutils.go", "fileutils.go", False),
        ("docs\n!docs/README.md", "docs/README.md", False),
        ("docs\n!docs/README.md", "docs/other", True),
        ("docs/*\n!docs/README.md", "docs/README.md", False),
        ("**\n!util/docker/web", "util/docker/web/foo", False),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", True),
        ("**\n!dist/*.whl", "dist/a+b.whl", False),
        ("# comment\n\n  docs  \n", "docs", True),
        ("#docs", "#docs", False),
        (" #docs", "#docs", True),
        ("\ufeffdocs", "docs", True),
        ("docs\r\nb\r\n", "b", True),
        ("! docs\n", "docs", False),
        ("docs\n!  docs/a", "docs/a", False),
        ("", "a", False),
        # A directory that no pattern before the "!" left out keeps nothing of it for what is below.
        ("docs/x\n!docs", "docs/x", True),
        ("a\n!a/b\na/b/c", "a/b/c", True),
        ("a\n!a/b\na/b/c", "a/b/d", False),
        ("node_modules\n!node_modules/keep", "node_modules/keep/x/y", False),
    ],
)
def test_last_match_wins(text: str, path: str, expected: bool) -> None:
    assert IgnorePatterns.parse(text).matches(path) is expected


@pytest.mark.parametrize(
    ("text", "directory", "expected"),
    [
        ("node_modules", "node_modules", True),
        ("node_modules", "src", False),
        ("*", "src", True),
        ("*\n!src/a", "src", False),
        ("*\n!src/a", "lib", True),
        ("*\n!src/a/b", "src/a", False),
        ("*\n!src/a/b", "src/c", True),
        ("*\n!s*/a", "src", False),
        ("*\n!s*/a", "lib", True),
        ("*\n!**/*.py", "lib", False),
        ("*\n!a", "a", False),
        ("*\n!README.md", "src", True),
        ("a/**", "a", False),
        ("a/**", "a/b", True),
        ("*\n![ab]/c", "z", False),
    ],
)
def test_directory_can_be_skipped_only_if_nothing_below_comes_back(text: str, directory: str, expected: bool) -> None:
    assert IgnorePatterns.parse(text).can_skip(directory) is expected


@pytest.mark.parametrize(
    ("text", "directory", "expected"),
    [
        ("src", "lib", False),
        ("src", "src", False),
        ("src/a", "src", True),
        ("src/a", "lib", False),
        ("src/a", "src/a", False),
        ("*/a", "lib", True),
        ("*/a", "lib/b", False),
        ("**/*.py", "lib/b", True),
        ("lib\n!src/a", "src", False),
    ],
)
def test_a_directory_has_something_to_leave_out_only_if_a_pattern_goes_on(
    text: str, directory: str, expected: bool
) -> None:
    assert IgnorePatterns.parse(text).reaches_below(directory) is expected


def test_what_is_remembered_of_directories_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockerfile_grammar.ignore._REMEMBERED", 10)
    patterns = IgnorePatterns.parse("a\n!a/b/c\n*/*/d")
    forgetful = [patterns.matches(f"{top}/{number}/{name}") for number in range(100) for top in "abc" for name in "cd"]
    assert len(patterns._directories) <= 10 + 3
    monkeypatch.undo()
    patterns = IgnorePatterns.parse("a\n!a/b/c\n*/*/d")
    assert forgetful == [patterns.matches(f"{t}/{n}/{name}") for n in range(100) for t in "abc" for name in "cd"]


def test_slash_alone_leaves_out_nothing_and_brings_nothing_back() -> None:
    """As moby's ``ignorefile.ReadAll`` has it: of "/" alone the slash stays."""
    patterns = IgnorePatterns.parse("/\na\n!/")
    assert patterns.texts == ("/", "a", "!/")
    assert not patterns.matches("b")
    assert patterns.can_skip("a")


@pytest.mark.parametrize(("text", "line"), [("!", 1), ("a\n\n  !  \n", 3), ("ok\n[\n", 2), ("a[", 1), ("!b\\", 1)])
def test_malformed_line_is_an_error_with_its_number(text: str, line: int) -> None:
    with pytest.raises(PatternError) as caught:
        IgnorePatterns.parse(text)
    assert caught.value.message.startswith(f".dockerignore:{line}:")
    assert caught.value.hint


def test_exclude_patterns_of_copy() -> None:
    patterns = IgnorePatterns.of(["*.md", "!README.md", " "])
    assert patterns.matches("a.md")
    assert not patterns.matches("README.md")
    assert bool(patterns)
    assert not IgnorePatterns.of([])
    with pytest.raises(PatternError):
        IgnorePatterns.of(["!"])


def test_results_do_not_depend_on_the_order_of_questions() -> None:
    text = "*\n!a/b\na/b/c\n!a/b/c/d"
    paths = ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/e", "a/x", "z"]
    forward, backward = IgnorePatterns.parse(text), IgnorePatterns.parse(text)
    expected = [forward.matches(path) for path in paths]
    assert expected == [True, False, True, False, True, True, True]
    assert [backward.matches(path) for path in reversed(paths)] == expected[::-1]


def test_hostile_pattern_takes_no_exponential_time() -> None:
    assert not IgnorePatterns.parse("*a" * 30 + "b").matches("a" * 250)
    assert not IgnorePatterns.parse("**/a" * 20 + "/b").matches("/".join("a" * 60))


def test_patterns_across_many_directories_are_followed_in_parallel() -> None:
    """With three, the time goes with the third power of a path's directories: a path may have two thousand."""
    path = "a/" * 2000
    assert not IgnorePatterns.of(["**/a/**/a/**/b"]).matches(path + "c")
    assert IgnorePatterns.of(["**/a/**/a/**/c"]).matches(path + "c")


def test_many_patterns_are_tried_in_turns() -> None:
    many = IgnorePatterns.of([*(f"*.{number}" for number in range(500)), "d/*.x"])
    assert [many.matches(path) for path in ("f.0", "f.499", "f.500", "d/f.x")] == [True, True, False, True]
    asked = 0

    def question() -> None:
        nonlocal asked
        asked += 1

    with asking(question):
        assert not many.matches("f.y")
    assert asked >= 10
