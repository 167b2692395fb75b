"""``shiplap backup`` and ``restore`` as commands: streams, terminals, readers that go away, and what is said."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from core.release import VERSION
from core.settings import ServiceSettings
from pipelines.errors import SecretError
from pipelines.keys.keyring import KeyRing
from pipelines.service import Service

_CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a service with a secret; its Redis is away, which neither command needs."""
    root = tmp_path / "root"
    assert shiplap(root, "migrate").returncode == 0
    with Service.open(settings_of(root)) as service:
        service.secrets.put("mine", b"correct horse")
    return root


def settings_of(root: Path) -> ServiceSettings:
    return ServiceSettings.from_environ({"SHIPLAP_REDIS_URL": "unix:///nowhere.sock"}, root=str(root))


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "cli", "--root", str(root), *words]


def shiplap(root: Path, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(root, *words), cwd=_CHECKOUT, capture_output=True, check=False, input=data or b"")


def test_root_makes_nothing_where_web_is_another_user(root: Path, tmp_path: Path, privileged: None) -> None:
    """The contexts would be root's, and web could not read them. A rehearsal makes nothing."""
    saved = tmp_path / "saved.tar"
    saved.write_bytes(shiplap(root, "backup", "-").stdout)
    os.chown(root, 12345, 12345)
    before = sorted(root.rglob("*"))
    refused = shiplap(root, "restore", str(saved))
    assert refused.returncode == 1
    assert f"error: {root} belongs to 12345".encode() in refused.stderr
    assert f"runuser -u 12345 -- shiplap --root {root} restore - < {saved}\n".encode() in refused.stderr
    assert shiplap(root, "restore", "--dry-run", str(saved)).stdout.endswith(b"nothing was changed\n")
    assert sorted(root.rglob("*")) == before


def test_what_migrate_makes_as_root_is_web_users_own(tmp_path: Path, privileged: None) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert shiplap(tmp_path, "migrate").returncode == 0
    made = [tmp_path / "serve", *(tmp_path / "serve" / name for name in ("secret.key", "migrate.lock", "service.db"))]
    assert {path.stat().st_uid for path in made} == {12345}


def test_backup_and_restore_go_through_pipes_and_say_what_is_left_out(root: Path, tmp_path: Path) -> None:
    before = {path.name for path in (root / "serve").iterdir()}
    saved = shiplap(root, "backup", "-")
    assert saved.stderr.startswith(b"standard output: ")
    assert {path.name for path in (root / "serve").iterdir()} == before
    rehearsed = shiplap(tmp_path / "other", "restore", "--dry-run", "-", data=saved.stdout)
    assert f"standard input: made by Shiplap {VERSION}" in rehearsed.stdout.decode()
    assert b"secrets: 1 (none yet)" in rehearsed.stdout
    assert rehearsed.stdout.endswith(b"nothing was changed\n")
    assert not (tmp_path / "other").exists()
    restored = shiplap(tmp_path / "other", "restore", "-", data=saved.stdout)
    for said in (b"registry user", b"who is signed in", b"the build cache", b"--images", b"restored\n"):
        assert said in restored.stdout
    with Service.open(settings_of(tmp_path / "other")) as service:
        assert service.secrets.reveal(["mine"]) == {"mine": b"correct horse"}
    cut = shiplap(tmp_path / "other", "restore", "-", data=saved.stdout[: len(saved.stdout) // 2])
    assert cut.returncode == 1
    assert b"Traceback" not in cut.stderr


def test_backup_whose_reader_goes_away_is_told_as_not_whole(root: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(root, "backup", "-"), cwd=_CHECKOUT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: who took the backup from standard output went away: it is not whole\n")


def test_backup_is_not_written_to_a_terminal(root: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run(
        command(root, "backup", "-"), cwd=_CHECKOUT, stdout=follower, stderr=subprocess.PIPE, check=False
    )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 1
    assert b"not written to a terminal" in done.stderr


def test_own_backup_is_restored_where_the_key_cannot_be_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with compose, whose key is a file that is mounted read-only."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    ring = KeyRing(root / "serve" / "secret.key")
    kept = ring.kept()
    monkeypatch.setattr("pipelines.keys.keyring.write_atomically", refuse)
    with ring.replaced(kept):
        pass
    with pytest.raises(SecretError, match="cannot give way to the backup's") as caught, ring.replaced([b"k" * 32]):
        raise AssertionError("the block is not entered")
    assert "compose/secrets/secret_key" in str(caught.value.hint)
    assert ring.kept() == kept
