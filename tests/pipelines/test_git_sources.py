"""Git sources: what may be fetched from where, and that a fetch gives the one commit without anything running."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import OutOfReachError
from pipelines.errors import InvalidRequestError, SourceError, SourceUnreachableError
from pipelines.model import GitSource
from pipelines.sources.git import Checkout, fetch_git, parse_url, reach
from tests.toolkit.git import git, make_certificate, serving_git


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x", "git://example.org/x", "file:///etc", "/etc", "ext::sh -c true", "--upload-pack=x",
        "https://user:pass@example.org/x", "https://token@example.org/x", "https://-oProxyCommand=x/y",
        "ssh://-oProxyCommand=x/y", "ssh://-l@example.org/x", "https://example.org", "https:///x",
        "https://example.org:port/x", "https://example.org/a b", "https://example.org/a\nb", "https://a/x?y#z",
    ],
)  # fmt: skip
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_url(url)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1", "fd00::1",
     "::ffff:127.0.0.1", "224.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_unless_allowed(address: str) -> None:
    remote = parse_url("https://git.example.org/x")
    with pytest.raises(OutOfReachError, match="not a public one"):
        reach((), lambda host, port: ["8.8.8.8", address]).pin(remote.host, remote.port)
    pinned = reach(("git.example.org",), lambda host, port: [address]).pin(remote.host, remote.port)
    assert pinned is not None
    assert ipaddress.ip_address(pinned) == ipaddress.ip_address(address)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repositories" / "app"
    (made / "sub").mkdir(parents=True)
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "sub" / "Dockerfile").write_text("FROM base\n")
    (made / "up").symlink_to("..")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "one")
    git(made, "tag", "v1")
    return made


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """git over https on this host: its address, and the certificate to trust."""
    certificate = make_certificate(tmp_path, "git.test")
    with serving_git(repository.parent, certificate) as serving:
        yield f"https://git.test:{serving.port}", certificate.read_text()


def fetched(
    server: tuple[str, str], directory: Path, path: str = "/app", ref: str = "", subdirectory: str = ""
) -> Checkout:
    ca_file = Path("/tmp") / f"shiplap-test-ca-{os.getpid()}.pem"  # where nobody may read it
    ca_file.write_text(server[1])
    try:
        return fetch_git(
            GitSource(server[0] + path, ref, subdirectory), directory,
            bounds=reach(("git.test",), lambda host, port: ["127.0.0.1"]), ca_file=str(ca_file),
        )  # fmt: skip
    finally:
        ca_file.unlink()


def test_fetch_gives_the_commit_of_branch_tag_or_head(
    privileged: None, server: tuple[str, str], repository: Path, tmp_path: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "later").write_text("x")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "two")
    second = git(repository, "rev-parse", "HEAD")
    found = [fetched(server, tmp_path / f"checkout-{ref or 'head'}", ref=ref) for ref in ("", "main", "v1", first)]
    assert [(one.commit, one.branch, one.tag) for one in found] == [
        (second, "main", ""), (second, "main", ""), (first, "", "v1"), (first, "", ""),
    ]  # fmt: skip
    inner = fetched(server, tmp_path / "inner", subdirectory="sub")
    assert (inner.context / "Dockerfile").read_text() == "FROM base\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ref": "nothing"}, "no branch, tag or commit"),
        ({"path": "/nowhere"}, "git ls-remote of .* failed"),
        ({"path": "/away"}, "git ls-remote of .* failed"),
        ({"subdirectory": "../.."}, "no directory"),
        ({"subdirectory": "up"}, "no directory"),
        ({"subdirectory": "sub/Dockerfile"}, "not a directory"),
    ],
)
def test_what_cannot_be_fetched_is_told(
    privileged: None, server: tuple[str, str], tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        fetched(server, tmp_path / "checkout", **options)


def test_server_that_is_away_is_told_from_one_that_refuses(
    privileged: None, server: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as refused:
        fetched(server, tmp_path / "refused", path="/nowhere")
    assert not isinstance(refused.value, SourceUnreachableError)
    with pytest.raises(SourceUnreachableError):
        fetched(("https://git.test:1", server[1]), tmp_path / "away")
