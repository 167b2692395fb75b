"""Git URLs: what is one, what it means, and what is refused."""

from __future__ import annotations

import contextlib

import pytest

from builder.errors import InvalidUrlError
from builder.remotes.giturls import GitRemote, check_url, parse_git, parse_remote, redacted

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "url", "rest"),
    [
        ("https://h.test/a.git", "https://h.test/a.git", ("", "", "")),
        ("http://h.test:8080/a.git#main", "http://h.test:8080/a.git", ("main", "", "")),
        ("https://h.test/a.git#main:sub/dir", "https://h.test/a.git", ("main", "sub/dir", "")),
        ("https://h.test/a.git#:sub", "https://h.test/a.git", ("", "sub", "")),
        ("https://h.test/a.git#refs/pull/1/head", "https://h.test/a.git", ("refs/pull/1/head", "", "")),
        ("https://h.test/a.git##ref=v1,subdir=/d", "https://h.test/a.git", ("v1", "/d", "")),
        (f"https://h.test/a.git##commit={HASH}", "https://h.test/a.git", (HASH, "", HASH)),
        ("https://h.test/a.git?branch=main&subdir=d", "https://h.test/a.git", ("refs/heads/main", "d", "")),
        ("https://h.test/a.git?tag=v1", "https://h.test/a.git", ("refs/tags/v1", "", "")),
        ("https://h.test/a.git?tag=refs/tags/v1", "https://h.test/a.git", ("refs/tags/v1", "", "")),
        (f"https://h.test/a.git?ref=v1&checksum={HASH[:8]}", "https://h.test/a.git", ("v1", "", HASH[:8])),
        (f"https://h.test/a.git?commit={HASH}", "https://h.test/a.git", (HASH, "", HASH)),
        ("https://h.test/a.git?ref=v1#v1", "https://h.test/a.git", ("v1", "", "")),
        ("ssh://git@h.test:22/a", "ssh://git@h.test:22/a", ("", "", "")),
        ("ssh://h.test/~/a.git#main", "ssh://h.test/~/a.git", ("main", "", "")),
        ("git://h.test/a", "git://h.test/a", ("", "", "")),
        ("git@h.test:a/b.git#main:d", "git@h.test:a/b.git", ("main", "d", "")),
        ("me@h.test:/abs/b?branch=x", "me@h.test:/abs/b", ("refs/heads/x", "", "")),
        ("https://[::1]:8080/a.git", "https://[::1]:8080/a.git", ("", "", "")),
    ],
)
def test_meaning(text: str, url: str, rest: tuple[str, str, str]) -> None:
    found = parse_git(text)
    assert found is not None
    assert (found.remote.url, (found.ref, found.subdirectory, found.checksum)) == (url, rest)


def test_flags_are_three_valued() -> None:
    values = [parse_git(f"https://h.test/a.git{query}") for query in ("", "?keep-git-dir", "?submodules=0")]
    assert [(one.keep_git_dir, one.submodules) for one in values if one] == [(None, None), (True, None), (None, False)]


def test_credentials_are_taken_out() -> None:
    found = parse_git("https://me:s%40cret@h.test/a.git")
    assert found is not None
    assert (found.remote.url, found.remote.credentials) == ("https://h.test/a.git", "me:s@cret")
    assert redacted("https://me:s@h.test/a https://token@h.test/b ssh://git@h.test/c") == (
        "https://xxxxx@h.test/a https://xxxxx@h.test/b ssh://git@h.test/c"
    )


@pytest.mark.parametrize(
    "text",
    ["https://h.test/a.tgz", "https://h.test/a", "github.com/a/b", "./a.git", "../a.git", "a.git", "file:///a.git",
     "C:/a", "ftp://h.test/a.git"],
)  # fmt: skip
def test_what_is_no_git_url(text: str) -> None:
    assert parse_git(text) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.test/a", GitRemote("https://h.test/a", "https", "h.test", 443)),
        ("http://me@h.test:8080/a", GitRemote("http://h.test:8080/a", "http", "h.test", 8080, "me:")),
        ("ssh://git@h.test/a", GitRemote("ssh://git@h.test/a", "ssh", "h.test", 22)),
        ("git://[::1]/a", GitRemote("git://[::1]/a", "git", "::1", 9418)),
        ("git@h.test:a/b", GitRemote("git@h.test:a/b", "ssh", "h.test", 22)),
    ],
)
def test_remote_alone_is_an_address(url: str, expected: GitRemote) -> None:
    assert parse_remote(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///a", "git URLs of kind 'file' are not fetched"),
        ("a/b", "git URLs of kind 'path' are not fetched"),
        ("https://h.test", "invalid git URL 'https://h.test'"),
        ("https://[::1/a", "invalid git URL"),
        ("https://h.test:99999/a", "invalid git URL"),
        ("https://me:s@-h.test/a", "invalid git URL 'https://xxxxx@-h.test/a'"),
    ],
)
def test_what_is_no_address_of_a_repository_is_told_without_its_password(url: str, message: str) -> None:
    with pytest.raises(InvalidUrlError, match=message):
        parse_remote(url)


@pytest.mark.parametrize(
    ("url", "valid"),
    [
        ("https://h.test/a%20b", True), ("http://h.test:80", True), ("ftp://h.test/a", False), ("https://", False),
        ("https://h.test:0/", False), ("https://h.test:port/", False), ("https://h.test/a%0Ab", False),
        ("https://h.test/a%7F", False),
    ],
)  # fmt: skip
def test_url_of_a_file_is_of_the_web_and_without_control_characters(url: str, valid: bool) -> None:
    with contextlib.nullcontext() if valid else pytest.raises(InvalidUrlError, match="invalid URL"):
        check_url(url)


def test_short_form_is_for_contexts() -> None:
    found = parse_git("github.com/a/b#main", context=True)
    assert found is not None
    assert (found.remote.url, found.ref) == ("https://github.com/a/b", "main")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://h.test/a.git?ref=a&branch=b", "ref is given twice"),
        ("https://h.test/a.git?tag=a&branch=b", "both tag and branch"),
        ("https://h.test/a.git?subdir=a#b:c", "subdir is given twice"),
        ("https://h.test/a.git?ref=a&ref=b", "has several values"),
        ("https://h.test/a.git?depth=1", "unexpected query 'depth'"),
        ("https://h.test/a.git?ref=", "has no value"),
        ("https://h.test/a.git?submodules=maybe", "invalid value for submodules"),
        ("https://h.test/a.git##depth=1", "unexpected 'depth=1'"),
        ("https://h.test/a.git#--upload-pack=x", "invalid git ref"),
        ("https://h.test/a.git#a..b", "invalid git ref"),
        ("https://h.test/a.git?checksum=xyz", "invalid checksum"),
        ("https://h.test:port/a.git", "invalid git URL"),
        ("https:///a.git", "invalid git URL"),
        ("ssh://-oProxyCommand=x/a", "invalid git URL"),
        ("ssh://git:secret@h.test/a", "invalid user"),
        ("ssh://-l@h.test/a", "invalid user"),
        ("git@h.test:", "invalid git URL"),
        ("git@h.test:a b", "invalid git URL"),
        ("ssh://h.test/", "invalid git URL"),
        ("https://h.test/a b.git", "no spaces and no control characters"),
        ("https://[::1/a.git", "invalid URL"),
        ("https://h.test/a.git?tag=", "query 'tag' has no value"),
        ("https://h.test/a.git?checksum=012345", "invalid checksum"),
        ("https://h.test/a.git##commit", "unexpected 'commit'"),
        ("https://h.test/a.git?tag=a#b", "ref is given twice: 'b' and 'refs/tags/a'"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidUrlError, match=message):
        parse_git(text)
