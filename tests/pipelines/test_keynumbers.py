"""The key of secrets is there before the first secret, and hosts are told when theirs is another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.errors import SecretError
from pipelines.schema import key_numbers
from pipelines.service import Service
from tests.toolkit.bounds import stretched

_CHECKOUT = Path(__file__).resolve().parents[2]


def copied(settings: ServiceSettings, name: str) -> ServiceSettings:
    """Another host's settings. name: of its key."""
    return settings._replace(secret_key_file=settings.root / name)


def test_migrating_makes_the_key_and_once_only(settings: ServiceSettings) -> None:
    migrate(settings)
    key = settings.key_file.read_bytes()
    assert (len(key), settings.key_file.stat().st_mode & 0o777) == (32, 0o600)
    migrate(settings)
    assert settings.key_file.read_bytes() == key
    with Service.open(settings) as service:
        service.secrets.check_key()


def test_host_without_the_key_or_with_another_is_told(settings: ServiceSettings) -> None:
    migrate(settings)
    other = copied(settings, "other.key")
    with Service.open(other) as service:
        with pytest.raises(SecretError, match=r"there is no .*other\.key: .* has the number [0-9a-f]{16}"):
            service.secrets.check_key()
        other.key_file.write_bytes(os.urandom(32))
        with pytest.raises(SecretError, match="is another key"):
            service.secrets.check_key()
        migrate(other)  # on whatever host: the service's key stays what it is
        with pytest.raises(SecretError, match="is another key"):
            service.secrets.check_key()
        other.key_file.write_bytes(settings.key_file.read_bytes())
        service.secrets.check_key()


def test_key_of_a_service_that_has_secrets_is_not_made_where_it_is_missing(settings: ServiceSettings) -> None:
    """An upgrade that is run on a host without the key does not take a new one for the service's."""
    migrate(settings)
    with Service.open(settings) as service:
        service.secrets.put("key", b"correct horse")
        with service.database.write() as connection:
            connection.execute(delete(key_numbers))
        migrate(copied(settings, "missing.key"))
        assert not (settings.root / "missing.key").exists()
        migrate(settings)
        service.secrets.check_key()


def test_lost_key_is_replaced_when_told(settings: ServiceSettings) -> None:
    migrate(settings)
    settings.key_file.unlink()
    with Service.open(settings) as service:
        with pytest.raises(SecretError, match="there is no"):
            service.secrets.check_key()
        service.secrets.take_key()
        service.secrets.check_key()


@pytest.mark.parametrize("command", [("web", "--listen", "127.0.0.1:0"), ("worker",)], ids=["web", "worker"])
def test_process_with_another_key_does_not_start(settings: ServiceSettings, command: tuple[str, ...]) -> None:
    """It would fail each run that has a secret, one after the other."""
    migrate(settings)
    other = copied(settings, "other.key").key_file
    other.write_bytes(os.urandom(32))
    environment = {
        **os.environ,
        "SHIPLAP_ROOT": str(settings.root),
        "SHIPLAP_DATABASE_URL": settings.database_url,
        "SHIPLAP_REDIS_URL": settings.redis_url,
        "SHIPLAP_SECRET_KEY_FILE": str(other),
    }
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=_CHECKOUT, env=environment, capture_output=True, text=True,
        timeout=stretched(60),
    )  # fmt: skip
    assert result.returncode == 1
    assert "is another key" in result.stderr
