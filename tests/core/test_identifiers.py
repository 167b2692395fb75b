"""Digests, references and platforms: parsed once, normalised as docker and containerd do it."""

import hashlib

import pytest

from core.digests import ChainID, DiffID, Digest, chain_id
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference

A, B, C = (DiffID.of(text) for text in (b"a", b"b", b"c"))


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04", "ubuntu:22.04"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("index.docker.io/user/app:1", "docker.io/user/app:1", "user/app:1"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("host.test/a/b/c", "host.test/a/b/c", "host.test/a/b/c"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("UPPER/x", "UPPER/x", "UPPER/x"),
        (f"r.test/a@sha256:{'a' * 64}", f"r.test/a@sha256:{'a' * 64}", f"r.test/a@sha256:{'a' * 64}"),
        (f"a:1@sha256:{'b' * 64}", f"docker.io/library/a:1@sha256:{'b' * 64}", f"a:1@sha256:{'b' * 64}"),
        ("a__b/c-d.e--f", "docker.io/a__b/c-d.e--f", "a__b/c-d.e--f"),
    ],
)
def test_reference_is_normalised_as_docker_does(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert Reference.parse(full) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a//b",
        "/a",
        "a/",
        "a:.x",
        "a b",
        "Upper",
        "user/Upper",
        "a@sha256:short",
        "a@md5:" + "a" * 32,
        "-a",
        "a..b",
        "a___b",
        "f" * 64,
        "x/" + "a" * 300,
        "a:" + "t" * 129,
        "../a",
        "ho_st:5000/a",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Reference.parse(text)


def test_upper_case_name_gets_the_lower_case_one_as_hint() -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse("user/App")
    assert caught.value.hint == "image names are lower case: 'user/app'"
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse("User/App")  # docker, too, takes "User" for a registry
    assert caught.value.hint == "image names are lower case: 'user/app'"


def test_default_tag_is_added_only_where_nothing_says_which() -> None:
    assert Reference.parse("a").with_default_tag().tag == "latest"
    assert Reference.parse("a:1").with_default_tag().tag == "1"
    assert Reference.parse(f"a@sha256:{'a' * 64}").with_default_tag().tag is None


def test_digest_is_checked_at_the_edge() -> None:
    text = "sha256:" + hashlib.sha256(b"x").hexdigest()
    assert Digest.parse(text) == Digest.of(b"x") == text
    assert Digest.of(b"x").hex == text[7:]
    assert Digest.of(b"x").short == text[7:19]
    assert Digest.parse("sha512:" + "0" * 128).algorithm == "sha512"
    for bad in ("", "sha256", "sha256:", text.upper(), text + "0", "sha512:" + "0" * 64, " " + text):
        with pytest.raises(InvalidReferenceError):
            Digest.parse(bad)


def test_chain_id_follows_the_specification() -> None:
    assert str(chain_id([A])) == str(A)
    first = ChainID.of(f"{A} {B}".encode())
    assert chain_id([A, B]) == first
    assert chain_id([A, B, C]) == ChainID.of(f"{first} {C}".encode())
    with pytest.raises(ValueError, match="at least one"):
        chain_id([])


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/arm", Platform("linux", "arm", "v7")),
        ("linux/arm/v6", Platform("linux", "arm", "v6")),
        ("armhf", Platform("linux", "arm", "v7")),
        ("Linux/AMD64", Platform("linux", "amd64")),
        ("linux", Platform("linux", Platform.host().architecture, Platform.host().variant)),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_platform_is_normalised(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux//v8", "lin ux/amd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Platform.parse(text)


_TAG_HINT = "a tag has letters, digits, '_', '.' and '-', at most 128, and starts with no '.' or '-'"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("app:-1", "invalid tag '-1' in image name 'app:-1'", _TAG_HINT),
        ("app:" + "t" * 129, "invalid tag ", _TAG_HINT),
        ("-h.test/app", "invalid registry '-h.test' in image name '-h.test/app'", None),
        ("user/App", "invalid image name 'user/App'", "image names are lower case: 'user/app'"),
        ("user/App!", "invalid image name 'user/App!'", None),
        ("a_-b", "invalid image name 'a_-b'", None),
        ("a" * 64, f"invalid image name '{'a' * 64}': 64 hexadecimal digits mean an image", f"write sha256:{'a' * 64}"),
        ("h.test/" + "a" * 249, "image name of over 255 characters: 'h.test/aaa", None),
        ("app@sha256:x", "not a digest: 'sha256:x'", "expected sha256: followed by 64 lower-case hexadecimal digits"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_told_with_the_usual_slip(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidReferenceError) as refused:
        Reference.parse(text)
    assert refused.value.message.startswith(message)
    assert refused.value.hint == hint


def test_names_are_as_long_as_they_may_be() -> None:
    assert len(Reference.parse("h.test/" + "a" * 248).name) == 255
    assert Reference.parse("app:" + "t" * 128).tag == "t" * 128


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("index.docker.io/app", "app"), ("docker.io/us/app:1", "us/app:1"), ("docker.io/library/a/b", "library/a/b"),
        ("ghcr.io/us/app", "ghcr.io/us/app"), ("localhost/x", "localhost/x"), ("Up/x", "Up/x"),
        (f"app:1@sha256:{'a' * 64}", f"app:1@sha256:{'a' * 64}"),
    ],
)  # fmt: skip
def test_name_is_shown_as_docker_shows_it(text: str, shown: str) -> None:
    assert Reference.parse(text).familiar == shown
    assert Reference.parse(str(Reference.parse(text))) == Reference.parse(text)
