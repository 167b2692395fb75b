"""Durable files, confined look-ups, locks, and the environment."""

import errno
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import SettingsError, StorageFullError
from core.files import storage_errors, try_lock, write_atomically
from core.kernel import RESOLVE_BENEATH, RESOLVE_IN_ROOT, openat2, start_writeback
from core.settings import OidcSettings, RegistrySettings, RemoteSettings, ServiceSettings, Settings


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "root/file").write_text("inside")
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield fd
    os.close(fd)


def read(root: int, path: str, resolve: int) -> str:
    with open(openat2(root, path, os.O_RDONLY, resolve=resolve)) as file:
        return file.read()


def test_in_root_clamps_dots_and_absolute_links(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/sub/link").symlink_to("/file")
    assert read(root, "../../file", RESOLVE_IN_ROOT) == "inside"
    assert read(root, "/sub/link", RESOLVE_IN_ROOT) == "inside"
    (tmp_path / "root/escape").symlink_to(tmp_path / "outside")
    with pytest.raises(FileNotFoundError):
        read(root, "escape", RESOLVE_IN_ROOT)


def test_beneath_refuses_an_escape(root: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what matters
        read(root, "../outside", RESOLVE_BENEATH)
    assert caught.value.errno == errno.EXDEV


def test_openat2_descriptor_is_not_inherited(root: int) -> None:
    fd = openat2(root, "file", os.O_RDONLY, resolve=RESOLVE_IN_ROOT)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_writeback_begins_on_files_alone(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(b"content")
        start_writeback(file.fileno(), 0, 7)
    reading, writing = os.pipe()
    with pytest.raises(OSError, match=os.strerror(errno.ESPIPE)):
        start_writeback(writing, 0, 7)
    os.close(reading)
    os.close(writing)


def test_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")
    write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_has_a_next_step(number: int) -> None:
    with pytest.raises(StorageFullError, match="while writing the layer") as caught, storage_errors("the layer"):
        raise OSError(number, "x")
    assert caught.value.hint
    with pytest.raises(PermissionError), storage_errors("the layer"):
        raise PermissionError


def test_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from core.files import try_lock\n"
        "print(try_lock(Path(sys.argv[1])) is not None, flush=True); sys.stdin.read()"
    )
    checkout = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), checkout], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert try_lock(path) is None
        holder.kill()
        holder.wait()
        fd = try_lock(path)
        assert fd is not None
        os.close(fd)


def test_root_by_option_then_environment_then_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environ({"SHIPLAP_ROOT": "/a"}, root="/b").root == Path("/b")
    assert Settings.from_environ({"SHIPLAP_ROOT": "/a"}).root == Path("/a")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environ({}, root="relative").root == tmp_path / "relative"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings.from_environ({}).root == Path("/var/lib/shiplap")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    home = {"HOME": "/home/me"}
    assert Settings.from_environ(home).root == Path("/home/me/.local/share/shiplap")
    assert Settings.from_environ({"XDG_DATA_HOME": "/data", **home}).root == Path("/data/shiplap")
    assert Settings.from_environ({"XDG_DATA_HOME": "data", **home}).root == Path("/home/me/.local/share/shiplap")


def test_home_is_the_password_databases_when_it_is_not_set() -> None:
    own = pwd.getpwuid(os.getuid()).pw_dir
    for environ in ({}, {"HOME": ""}):
        assert RegistrySettings.from_environ(environ).docker_config == Path(own, ".docker")
    assert RegistrySettings.from_environ({"HOME": "/"}).docker_config == Path("/.docker")


def test_home_that_nobody_knows_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    with pytest.raises(SettingsError, match="HOME is not set, and nobody knows a user 3999999999") as error:
        RemoteSettings.from_environ({})
    assert "set HOME to a directory" in str(error.value.hint)
    with pytest.raises(SettingsError, match="HOME is 'home', which is no absolute path"):
        RemoteSettings.from_environ({"HOME": "home"})
    with pytest.raises(SettingsError, match="no home directory is known for ~nobody-has-this-name"):
        Settings.from_environ({"SHIPLAP_ROOT": "~nobody-has-this-name/x"})


def test_root_that_depends_on_the_working_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="SHIPLAP_ROOT is 'store'") as error:
        Settings.from_environ({"SHIPLAP_ROOT": "store"})
    assert f"SHIPLAP_ROOT={tmp_path}/store" in str(error.value.hint)
    assert Settings.from_environ({"SHIPLAP_ROOT": "store"}, root="given").root == tmp_path / "given"


def test_root_of_a_path_that_is_too_long_is_refused_with_its_length() -> None:
    Settings.from_environ({}, root="/" + "x" * 479)
    with pytest.raises(SettingsError, match="1200 bytes, and 480 are the most") as error:
        Settings.from_environ({"SHIPLAP_ROOT": "/" + "ä" * 599 + "x"})
    assert "shorter" in str(error.value.hint)
    assert len(error.value.message) < 200


def test_source_date_epoch() -> None:
    assert Settings.from_environ({"SOURCE_DATE_EPOCH": "12"}).source_date_epoch == 12
    assert Settings.from_environ({"SOURCE_DATE_EPOCH": ""}).source_date_epoch is None
    for bad in ("x", "-1", "1.5", "²"):
        with pytest.raises(SettingsError):
            Settings.from_environ({"SOURCE_DATE_EPOCH": bad})


def test_secret_settings_may_be_in_files(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://shiplap:geheim@db/shiplap\n")
    environ = {"SHIPLAP_DATABASE_URL_FILE": str(file)}
    assert ServiceSettings.from_environ(environ).database_url == "postgresql://shiplap:geheim@db/shiplap"
    with pytest.raises(SettingsError, match="cannot be read"):
        ServiceSettings.from_environ({"SHIPLAP_REDIS_URL_FILE": str(tmp_path / "missing")})


def test_provider_of_identities_is_set_by_the_environment() -> None:
    assert OidcSettings.from_environ({}).issuer == ""
    environ = {
        "SHIPLAP_OIDC_ISSUER": "https://id.example/realm",
        "SHIPLAP_OIDC_CLIENT_ID": "shiplap",
        "SHIPLAP_OIDC_SCOPES": "profile groups",
        "SHIPLAP_OIDC_ROLES": "team=ops=admin, *=viewer",
    }
    settings = OidcSettings.from_environ(environ)
    assert settings.scopes == ("openid", "profile", "groups")
    assert settings.roles == (("team=ops", "admin"), ("*", "viewer"))
    assert settings.name == "id.example"


@pytest.mark.parametrize("environ", [{}, {"SHIPLAP_OIDC_CLIENT_ID": "x", "SHIPLAP_OIDC_ROLES": "ops=king"}])
def test_incomplete_provider_of_identities_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="SHIPLAP_OIDC"):
        OidcSettings.from_environ({"SHIPLAP_OIDC_ISSUER": "https://id.example", **environ})
