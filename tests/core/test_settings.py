"""What each variable means, what holds where none is set, and what is said of a value that cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import SettingsError
from core.settings import (
    CacheMax,
    FetchSettings,
    GitSettings,
    OidcSettings,
    RegistrySettings,
    RemoteSettings,
    ServiceSettings,
    Settings,
    StepSettings,
    user_directories,
)

_ROOT = {"SHIPLAP_ROOT": "/data"}
_GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CacheMax(None, 60)),
        ("none", CacheMax(None, 100)),
        ("40%", CacheMax(None, 40)),
        ("100%", CacheMax(None, 100)),
        ("1%", CacheMax(None, 1)),
        ("20g", CacheMax(20 * _GIB, 60)),
        ("0", CacheMax(0, 60)),
    ],
)
def test_cache_has_a_size_or_a_part_of_the_disk(text: str, expected: CacheMax) -> None:
    assert Settings.from_environ({**_ROOT, "SHIPLAP_CACHE_MAX": text}).cache_max == expected


@pytest.mark.parametrize("text", ["0%", "101%", "all", "-1", "1.5%", "٤٠%"])
def test_cache_of_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="SHIPLAP_CACHE_MAX is") as refused:
        CacheMax.parse(text)
    assert refused.value.hint == "it is a size (20g), a part of the disk (40%) or none"


def test_root_is_the_option_s_the_variable_s_or_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environ(_ROOT).root == Path("/data")
    assert Settings.from_environ(_ROOT, root="here").root == tmp_path / "here"
    assert Settings.from_environ({"SHIPLAP_ROOT": "~/data", "HOME": "/home/me"}).root == Path("/home/me/data")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Settings.from_environ({"HOME": "/home/me"}).root == Path("/home/me/.local/share/shiplap")
    assert Settings.from_environ({"XDG_DATA_HOME": "/xdg"}).root == Path("/xdg/shiplap")
    assert Settings.from_environ({"HOME": "/h", "XDG_DATA_HOME": "rel"}).root == Path("/h/.local/share/shiplap")


def test_root_that_would_be_another_in_each_directory_is_refused() -> None:
    with pytest.raises(SettingsError, match="SHIPLAP_ROOT is 'data', which would be another place") as refused:
        Settings.from_environ({"SHIPLAP_ROOT": "data"})
    assert str(refused.value.hint) == f"write the whole path: SHIPLAP_ROOT={Path('data').absolute()}"
    assert Settings.from_environ({"SHIPLAP_ROOT": "data"}, root="/given").root == Path("/given")


def test_root_has_a_length_that_its_database_bears() -> None:
    assert len(str(Settings.from_environ({}, root="/" + "r" * 479).root)) == 480
    with pytest.raises(SettingsError, match="the root's path is too long: 481 bytes, and 480 are the most") as refused:
        Settings.from_environ({}, root="/" + "r" * 480)
    assert "--root DIR" in str(refused.value.hint)


def test_epoch_is_a_number_of_seconds() -> None:
    assert Settings.from_environ(_ROOT).source_date_epoch is None
    assert Settings.from_environ({**_ROOT, "SOURCE_DATE_EPOCH": "0"}).source_date_epoch == 0
    for text in ("-1", "1.5", "soon", "١"):
        with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH is") as refused:
            Settings.from_environ({**_ROOT, "SOURCE_DATE_EPOCH": text})
        assert refused.value.hint == "it is a number of seconds since 1970-01-01 UTC"


def test_proxies_are_those_that_programs_know() -> None:
    lower = {"http_proxy": "http://a", "https_proxy": "http://b", "no_proxy": "c", "HOME": "/home/me"}
    upper = {"HTTP_PROXY": "http://x", "HTTPS_PROXY": "http://y", "NO_PROXY": "z"}
    found = RegistrySettings.from_environ(lower)
    assert found == RegistrySettings(Path("/home/me/.docker"), (), "http://a", "http://b", "c")
    assert RegistrySettings.from_environ({**lower, **upper}) == found
    only = RegistrySettings.from_environ({**upper, "HOME": "/home/me"})
    assert (only.http_proxy, only.https_proxy, only.no_proxy) == ("", "http://y", "z"), "HTTP_PROXY may be a request's"
    none = RegistrySettings.from_environ({"DOCKER_CONFIG": "/docker", "SHIPLAP_INSECURE_REGISTRIES": " a:1,, b "})
    assert none == RegistrySettings(Path("/docker"), ("a:1", "b"))


def test_places_of_a_user_are_below_home_unless_xdg_says_otherwise() -> None:
    found = RemoteSettings.from_environ({"HOME": "/home/me"})
    assert found == RemoteSettings("", "", Path("/home/me/.config/shiplap"), Path("/home/me/.cache/shiplap"))
    xdg = {"XDG_CONFIG_HOME": "/c", "XDG_CACHE_HOME": "/k", "SHIPLAP_HOST": "h", "SHIPLAP_TOKEN": "t"}
    assert RemoteSettings.from_environ(xdg) == RemoteSettings("h", "t", Path("/c/shiplap"), Path("/k/shiplap"))
    assert RemoteSettings.from_environ(xdg, host="other").host == "other"
    assert RemoteSettings.from_environ(xdg, host="").host == ""


def test_home_is_looked_for_where_it_is_needed() -> None:
    with pytest.raises(SettingsError):
        RegistrySettings.from_environ({"DOCKER_CONFIG": "~nobody-has-this-name/x"})


def test_directories_of_a_user_are_told_as_far_as_they_are_absolute() -> None:
    both = {"HOME": "/home/me", "XDG_CONFIG_HOME": "/c"}
    assert user_directories(both) == both
    assert user_directories({"HOME": "me", "XDG_CONFIG_HOME": "c"}) == {}
    assert user_directories({}) == {}


def test_service_keeps_all_below_its_root_unless_told_otherwise() -> None:
    found = ServiceSettings.from_environ(_ROOT)
    assert found == ServiceSettings(
        Path("/data"), "sqlite:////data/serve/service.db", "unix:///data/serve/redis/redis.sock"
    )
    assert found.key_file == Path("/data/serve/secret.key")
    assert found.trusted_proxies == ("127.0.0.0/8", "::1")
    assert (found.shared_cache, found.git_ca_file) == (True, None)


def test_service_is_set_by_variables_of_its_members_names() -> None:
    environ = {
        **_ROOT, "SHIPLAP_DATABASE_URL": "postgresql://db", "SHIPLAP_REDIS_URL": "redis://r", "SHIPLAP_REGISTRY": "r:5",
        "SHIPLAP_WORKER_LABELS": "a, b", "SHIPLAP_GIT_ALLOWED_HOSTS": "git.lan", "SHIPLAP_SECRET_KEY_FILE": "/key",
        "SHIPLAP_WEB_URL": "https://w/", "SHIPLAP_WEB_TOKEN": "t", "SHIPLAP_PUBLIC_URL": "https://p/",
        "SHIPLAP_TRUSTED_PROXIES": "10.0.0.1", "SHIPLAP_GIT_CA_FILE": "/ca", "SHIPLAP_SHARED_CACHE": "OFF",
        "SHIPLAP_SHARED_CACHE_MOUNTS": "m,", "SHIPLAP_METRICS_TOKEN": "mt",
    }  # fmt: skip
    found = ServiceSettings.from_environ(environ)
    assert found == ServiceSettings(
        Path("/data"), "postgresql://db", "redis://r", "r:5", ("a", "b"), ("git.lan",), Path("/key"), "https://w", "t",
        "https://p", ("10.0.0.1",), Path("/ca"), False, ("m",), "mt",
    )  # fmt: skip
    assert found.key_file == Path("/key")
    assert ServiceSettings.from_environ({**environ, "SHIPLAP_SHARED_CACHE": "on"}).shared_cache
    assert ServiceSettings.from_environ({**environ, "SHIPLAP_TRUSTED_PROXIES": ""}).trusted_proxies == ()


def test_value_beats_the_file_that_may_have_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" in-the-file\n")
    environ = {**_ROOT, "SHIPLAP_WEB_TOKEN_FILE": str(file)}
    assert ServiceSettings.from_environ(environ).web_token == "in-the-file"
    assert ServiceSettings.from_environ({**environ, "SHIPLAP_WEB_TOKEN": "own"}).web_token == "own"
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=f"SHIPLAP_WEB_TOKEN_FILE names {file}, which cannot be read"):
        ServiceSettings.from_environ(environ)


def test_fetching_has_bounds_that_are_above_nothing() -> None:
    assert FetchSettings.from_environ({}) == FetchSettings(600, 4 * _GIB)
    environ = {"SHIPLAP_FETCH_TIME": "5.9", "SHIPLAP_FETCH_FILE_MAX": "1m"}
    assert FetchSettings.from_environ(environ) == FetchSettings(5, 1 << 20)
    for name in environ:
        with pytest.raises(SettingsError, match=f"{name} is '0'") as refused:
            FetchSettings.from_environ({name: "0"})
        assert refused.value.hint == "a server must not hold a run for ever: it is above 0"


def test_git_is_served_within_bounds() -> None:
    assert GitSettings.from_environ({}) == GitSettings(2 * _GIB, 3600, 16)
    environ = {"SHIPLAP_GIT_PUSH_MAX": "0", "SHIPLAP_GIT_TIME": "0", "SHIPLAP_GIT_AT_ONCE": "0"}
    assert GitSettings.from_environ(environ) == GitSettings(0, 1, 1), "nothing is served for no time"
    environ = {"SHIPLAP_GIT_PUSH_MAX": "1k", "SHIPLAP_GIT_TIME": "7", "SHIPLAP_GIT_AT_ONCE": "2"}
    assert GitSettings.from_environ(environ) == GitSettings(1024, 7, 2)


def test_steps_have_three_quarters_of_the_memory() -> None:
    found = StepSettings.from_environ({}, memory_bytes=1000)
    assert found == StepSettings(750, 0.0, 4096, 20 * _GIB, 4 * _GIB, 0, frozenset(), "")


def test_provider_of_identities_has_its_defaults_and_its_own_words() -> None:
    least = {"SHIPLAP_OIDC_ISSUER": "https://id.example/realm", "SHIPLAP_OIDC_CLIENT_ID": "me"}
    assert OidcSettings.from_environ({**least, "SHIPLAP_OIDC_ROLES": ""}) == OidcSettings(
        "https://id.example/realm", "me", "", ("openid", "profile", "email"), "groups", (), "id.example"
    )
    more = {
        "SHIPLAP_OIDC_CLIENT_SECRET": "s", "SHIPLAP_OIDC_SCOPES": "openid,x y", "SHIPLAP_OIDC_ROLE_CLAIM": "roles",
        "SHIPLAP_OIDC_ROLES": "a=guest, b=c=viewer,*=member", "SHIPLAP_OIDC_NAME": "Our own",
    }  # fmt: skip
    assert OidcSettings.from_environ({**least, **more}) == OidcSettings(
        "https://id.example/realm", "me", "s", ("openid", "x", "y"), "roles",
        (("a", "guest"), ("b=c", "viewer"), ("*", "member")), "Our own",
    )  # fmt: skip
    for issuer in ("http://localhost:8080", "http://127.0.0.1:8080"):
        assert OidcSettings.from_environ({**least, "SHIPLAP_OIDC_ISSUER": issuer}).issuer == issuer


def _oidc(**members: str) -> Callable[[], object]:
    return lambda: OidcSettings.from_environ({f"SHIPLAP_OIDC_{name}": value for name, value in members.items()})


@pytest.mark.parametrize(
    ("read", "message", "hint"),
    [
        (_oidc(ISSUER="http://id.example"), "SHIPLAP_OIDC_ISSUER is 'http://id.example'", "it begins with https://"),
        (_oidc(ISSUER="https://i"), "SHIPLAP_OIDC_ISSUER is set, SHIPLAP_OIDC_CLIENT_ID is not", "the provider has it"),
        (_oidc(ISSUER="https://i", CLIENT_ID="c", ROLES="x=king"), "SHIPLAP_OIDC_ROLES has 'x=king'", "VALUE=ROLE"),
        (_oidc(ISSUER="https://i", CLIENT_ID="c", ROLES="=admin"), "SHIPLAP_OIDC_ROLES has '=admin'", "VALUE=ROLE"),
        (
            lambda: ServiceSettings.from_environ({**_ROOT, "SHIPLAP_SHARED_CACHE": "yes"}),
            "SHIPLAP_SHARED_CACHE is 'yes'",
            "it is on or off",
        ),
        (
            lambda: GitSettings.from_environ({"SHIPLAP_GIT_TIME": "1e3"}),
            "SHIPLAP_GIT_TIME is '1e3'",
            "it is a number; 0 is no limit",
        ),
        (
            lambda: GitSettings.from_environ({"SHIPLAP_GIT_PUSH_MAX": "much"}),
            "SHIPLAP_GIT_PUSH_MAX: ",
            "write 512m or 2g; 0 is no limit",
        ),
    ],
)
def test_value_that_cannot_be_is_refused_with_its_variable(read: Callable[[], Any], message: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read()
    assert message in refused.value.message
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize(
    "kind", [FetchSettings, GitSettings, OidcSettings, RegistrySettings, RemoteSettings, ServiceSettings, Settings]
)
def test_environment_of_the_process_is_read_where_none_is_given(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SHIPLAP_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHIPLAP_ROOT", "/data")
    assert kind.from_environ() == kind.from_environ(dict(os.environ))
    monkeypatch.setenv("SHIPLAP_FETCH_TIME", "7")
    monkeypatch.setenv("SHIPLAP_GIT_TIME", "7")
    if kind in (FetchSettings, GitSettings):
        assert kind.from_environ().time_s == 7
        assert kind.from_environ({}).time_s != 7


def test_home_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RemoteSettings.from_environ({"HOME": "/home/me/"}).config == Path("/home/me/.config/shiplap")
    assert Settings.from_environ({"HOME": "/home/me"}, root="~").root == Path("/home/me")
    with pytest.raises(SettingsError, match="HOME is 'me', which is no absolute path") as refused:
        RemoteSettings.from_environ({"HOME": "me"})
    assert refused.value.hint == "set HOME to a directory of yours"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    with pytest.raises(SettingsError, match="HOME is not set, and nobody knows a user 4000000001") as unknown:
        RemoteSettings.from_environ({})
    assert str(unknown.value.hint).startswith("set HOME to a directory of this user's")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert RemoteSettings.from_environ({}).config == Path("/root/.config/shiplap")
