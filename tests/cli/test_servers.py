"""Which build service a command means, how its address is written, and what may be sent to it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from cli.remote.errors import NoServerError, RemoteError
from cli.remote.http import segment
from cli.remote.servers import (
    Contexts,
    Server,
    chosen_url,
    is_here,
    parse_url,
    require_private,
    required_server,
    server,
    trusted_places,
)
from core.settings import RemoteSettings

_CI = "https://ci.example"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without settings, in an empty root."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("SHIPLAP_ROOT", str(tmp_path / "root"))
    for name in ("SHIPLAP_HOST", "SHIPLAP_TOKEN", "SHIPLAP_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def contexts() -> Contexts:
    return Contexts.load(RemoteSettings.from_environ())


def service_here(root: Path, url: str) -> None:
    """As if a service listened there."""
    (root / "serve").mkdir(parents=True, exist_ok=True)
    (root / "serve" / "url").write_text(f"{url}\n")
    (root / "serve" / "admin.token").write_text("the-administrator-s\n")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ci:8080", "http://ci:8080"),
        ("ci", "http://ci"),
        ("https://ci/", "https://ci"),
        ("https://CI.example:8443", "https://ci.example:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_address_of_a_server_is_scheme_host_and_port(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("ci:port", "'ci:port' is no server: Port could not be cast", None),
        ("ftp://ci", "'ftp://ci' is no server", "write http://HOST:PORT or https://HOST"),
        ("http://", "'http://' is no server", "write http://HOST:PORT or https://HOST"),
        ("https://ci/path", "'https://ci/path' is no server", "write http://HOST:PORT or https://HOST"),
        ("https://ci?a=b", r"'https://ci\?a=b' is no server", "write http://HOST:PORT or https://HOST"),
        ("https://me@ci", "a server's URL has no user", "use SHIPLAP_TOKEN, or shiplap login --host URL"),
    ],
)
def test_what_is_no_address_of_a_server_is_told(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(RemoteError, match=message) as refused:
        parse_url(text)
    assert refused.value.hint == hint


def test_servers_are_kept_in_a_file_that_nobody_else_may_read() -> None:
    mine = contexts()
    mine.urls |= {"z": "http://z:1", "ci": _CI}
    mine.tokens[_CI] = "t0ken"
    mine.current = "ci"
    mine.save()
    assert contexts() == mine
    assert stat.S_IMODE(mine.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(mine.path.parent.stat().st_mode) == 0o700
    assert list(json.loads(mine.path.read_text())["contexts"]) == ["ci", "z"]


@pytest.mark.parametrize("text", ["{", "[]", '{"contexts": {"ci": {}}}', '{"contexts": ["ci"]}', '{"tokens": 1}'])
def test_damaged_file_of_servers_is_told_with_its_place(text: str) -> None:
    path = contexts().path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(RemoteError, match=r"contexts\.json is damaged: ") as told:
        contexts()
    assert told.value.hint == "repair or remove it"


def test_server_is_the_one_that_was_chosen_last_on_the_way() -> None:
    assert chosen_url(None) is None, "nobody chose one"
    mine = contexts()
    mine.urls["ci"] = _CI
    mine.current = "ci"
    mine.save()
    assert chosen_url(None) == _CI
    assert chosen_url("ci") == _CI
    assert chosen_url("other:8080") == "http://other:8080"
    assert chosen_url("local") is None
    os.environ["SHIPLAP_HOST"] = "variable:1"
    try:
        assert chosen_url(None) == "http://variable:1"
        assert chosen_url("ci") == _CI
    finally:
        del os.environ["SHIPLAP_HOST"]


def test_context_may_be_called_after_no_server() -> None:
    mine = contexts()
    mine.urls["local"] = _CI
    mine.save()
    assert chosen_url("local") == _CI, "what somebody named so themselves"


def test_token_is_the_variable_s_or_the_one_that_was_stored_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = contexts()
    mine.tokens[_CI] = "stored"
    mine.save()
    assert server(_CI, None).token == "stored"
    assert server("https://elsewhere.example", None).token == ""
    monkeypatch.setenv("SHIPLAP_TOKEN", "variable")
    assert server(_CI, None).token == "variable"


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://127.0.0.1:8080", "the-administrator-s"),
        ("http://localhost:8080", "the-administrator-s"),
        ("http://[::1]:8080", "the-administrator-s"),
        ("http://127.0.0.1:8081", ""),
        ("https://127.0.0.1:8080", ""),
        ("http://192.0.2.1:8080", ""),
        ("http://ci.example:8080", ""),
    ],
)
def test_administrator_s_token_goes_to_the_service_of_this_root_alone(tmp_path: Path, url: str, token: str) -> None:
    service_here(tmp_path / "root", "http://127.0.0.1:8080")
    found = server(url, None)
    assert (found.url, found.token) == (url, token)
    assert is_here(found, None) == bool(token)


def test_without_a_service_here_nothing_is_here(tmp_path: Path) -> None:
    assert server("http://127.0.0.1:8080", None).token == ""
    assert not is_here(Server("http://127.0.0.1:8080", ""), None)
    assert not is_here(Server("", ""), None)
    service_here(tmp_path / "other", "http://127.0.0.1:8080")
    assert server("http://127.0.0.1:8080", None).token == ""
    assert server("http://127.0.0.1:8080", str(tmp_path / "other")).token == "the-administrator-s"


def test_service_here_is_meant_where_nobody_chose_one(tmp_path: Path) -> None:
    with pytest.raises(NoServerError, match="no build service is chosen, and none runs here") as told:
        required_server(None, None)
    assert "shiplap serve" in str(told.value.hint)
    service_here(tmp_path / "root", "http://127.0.0.1:8080")
    assert required_server(None, None) == Server("http://127.0.0.1:8080", "the-administrator-s")
    assert required_server("ci:8080", None).url == "http://ci:8080"


def test_certificates_are_for_servers_with_tls(tmp_path: Path) -> None:
    assert trusted_places("http://ci.example", None) == ()
    assert tmp_path / "root" / "certs.d" in trusted_places(_CI, None)
    assert tmp_path / "docker" / "certs.d" in server(_CI, None).certificates


@pytest.mark.parametrize("url", [_CI, "http://127.0.0.1:80", "http://localhost", "http://[::1]"])
def test_secret_goes_where_nobody_reads_along(url: str) -> None:
    require_private(Server(url, ""), "a secret")


def test_secret_does_not_go_over_plain_http_to_another_machine() -> None:
    with pytest.raises(RemoteError, match="a secret is not sent to http://ci:8080: everybody on the way") as refused:
        require_private(Server("http://ci:8080", ""), "a secret")
    assert "https://" in str(refused.value.hint)


def test_name_that_leads_to_another_address_is_refused() -> None:
    assert segment("a b%c") == "a%20b%25c"
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(RemoteError, match="is no name"):
            segment(name)
