"""docker's config.json and credential helpers."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from registry.client import registry_domain
from registry.credentials import Credentials, CredentialStore
from registry.errors import CredentialsError, RegistryConfigError

_HELPER = """#!/bin/sh
# docker-credential-test: keeps one file for each server.
dir=$(dirname "$0")/kept
mkdir -p "$dir"
case $1 in
    get) read -r server; file="$dir/$(echo "$server" | tr '/:' '__')"
        [ -e "$file" ] || { echo "credentials not found in native keychain"; exit 1; }
        cat "$file" ;;
    store) data=$(cat); server=$(echo "$data" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
        echo "$data" > "$dir/$(echo "$server" | tr '/:' '__')" ;;
    erase) read -r server; rm -f "$dir/$(echo "$server" | tr '/:' '__')" ;;
esac
"""


def write(directory: Path, document: dict[str, Any]) -> CredentialStore:
    (directory / "config.json").write_text(json.dumps(document))
    return CredentialStore(directory)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "docker-credential-test"
    program.write_text(_HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory / "kept"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": encoded("user:pass:word")}, Credentials("user", "pass:word")),
        ({"auth": encoded("user:pass\0\0")}, Credentials("user", "pass")),
        ({"username": "user", "password": "word"}, Credentials("user", "word")),
        ({"auth": encoded("user:"), "identitytoken": "token"}, Credentials("user", "", "token")),
        ({"registrytoken": "bearer"}, Credentials(registry_token="bearer")),
    ],
)
def test_entries_of_docker_are_understood(entry: dict[str, str], expected: Credentials, docker_config: Path) -> None:
    assert write(docker_config, {"auths": {"ci:5000": entry}}).get("ci:5000") == expected


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://ci:5000/v1/", "ci:5000"),
        ("http://ci:5000", "ci:5000"),
    ],
)
def test_keys_of_every_age_are_found(key: str, domain: str, docker_config: Path) -> None:
    store = write(docker_config, {"auths": {key: {"auth": encoded("a:b")}}})
    assert store.get(domain) == Credentials("a", "b")
    assert store.get("other:5000") is None
    assert store.erase(domain)
    assert store.get(domain) is None


def test_put_keeps_what_it_does_not_know_and_is_private(docker_config: Path) -> None:
    store = write(docker_config, {"detachKeys": "ctrl-e", "auths": {"other": {"auth": encoded("a:b")}}})
    assert store.put("docker.io", Credentials("me", "secret")) == str(docker_config / "config.json")
    document = json.loads(store.path.read_text())
    assert document == {
        "detachKeys": "ctrl-e",
        "auths": {"other": {"auth": encoded("a:b")}, "https://index.docker.io/v1/": {"auth": encoded("me:secret")}},
    }
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.path.read_text().startswith('{\n\t"detachKeys"')


def test_file_behind_a_link_stays_there(docker_config: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "config.json"
    real.parent.mkdir()
    real.write_text("{}")
    (docker_config / "config.json").symlink_to(real)
    CredentialStore(docker_config).put("ci", Credentials("a", "b"))
    assert (docker_config / "config.json").is_symlink()
    assert "auths" in real.read_text()


@pytest.mark.parametrize("where", ["credsStore", "credHelpers"])
def test_helper_stores_gets_and_erases(where: str, helper: Path, docker_config: Path) -> None:
    store = write(docker_config, {where: "test" if where == "credsStore" else {"ci:5000": "test"}})
    assert store.get("ci:5000") is None
    assert not store.is_plain_text("ci:5000")
    assert store.put("ci:5000", Credentials("me", "secret")) == "docker-credential-test"
    assert "secret" not in store.path.read_text()
    assert store.get("ci:5000") == Credentials("me", "secret")
    store.put("ci:5000", Credentials("me", "", "identity"))
    assert store.get("ci:5000") == Credentials(identity_token="identity")
    assert store.erase("ci:5000")
    assert store.get("ci:5000") is None
    assert list(helper.iterdir()) == []


def test_helper_that_is_missing_or_fails_is_named(helper: Path, docker_config: Path) -> None:
    with pytest.raises(CredentialsError, match="docker-credential-nope is not installed") as caught:
        write(docker_config, {"credsStore": "nope"}).get("ci")
    assert caught.value.hint
    (helper.parent / "docker-credential-bad").write_text("#!/bin/sh\necho the keyring is locked >&2; exit 1\n")
    (helper.parent / "docker-credential-bad").chmod(0o755)
    with pytest.raises(CredentialsError, match="the keyring is locked"):
        write(docker_config, {"credsStore": "bad"}).get("ci")
    with pytest.raises(CredentialsError, match="no name"):
        write(docker_config, {"credsStore": "../../evil"}).get("ci")


@pytest.mark.parametrize(
    "text", ["no json", "[]", '{"auths": []}', '{"auths": {"ci": "x"}}', '{"auths": {"ci": {"auth": "%"}}}']
)
def test_damaged_file_is_told_and_not_overwritten(text: str, docker_config: Path) -> None:
    (docker_config / "config.json").write_text(text)
    with pytest.raises(CredentialsError) as caught:
        CredentialStore(docker_config).get("ci")
    assert caught.value.hint
    assert (docker_config / "config.json").read_text() == text


def test_secrets_are_not_in_representations() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "secret", "secret"))


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("ci", "ci"),
        ("ci:5000", "ci:5000"),
        ("https://ci.example/v2/", "ci.example"),
        ("localhost", "localhost"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_registries_as_users_write_them(text: str, domain: str) -> None:
    assert registry_domain(text) == domain


@pytest.mark.parametrize("text", ["a b", "user@host", "ci:port", "-x"])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(RegistryConfigError):
        registry_domain(text)
