"""A service with Redis of its own, the image ``base`` in its store, and workers to start."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.platforms import Platform
from core.references import Reference
from core.settings import ServiceSettings
from images.archive import import_rootfs
from images.oci import ImageConfig
from images.store import Store
from pipelines.database import migrate
from pipelines.service import Service
from tests.toolkit.service import RedisServer, Workforce, redis_server, workforce


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-redis-"))
    with redis_server(directory) as server:
        yield server
    shutil.rmtree(directory)


def import_base(root: Path, rootfs: Path) -> None:
    """The image ``base`` in the store below ``root``."""
    with Store.open(root) as store, rootfs.open("rb") as stream:
        import_rootfs(store, stream, ImageConfig.for_platform(Platform.host()), [Reference.parse("base:latest")])


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service's directory with all tables and nothing in them: copying it is quicker than migrating."""
    settings = ServiceSettings.from_environ({}, root=str(tmp_path_factory.mktemp("migrated")))
    migrate(settings)
    return settings.root / "serve"


@pytest.fixture
def settings(
    privileged: None, tmp_path: Path, broker: RedisServer, busybox_tar: Path, migrated: Path
) -> ServiceSettings:
    root = tmp_path / "root"
    import_base(root, busybox_tar)
    shutil.copytree(migrated, root / "serve")
    return ServiceSettings(root, f"sqlite:///{root}/serve/service.db", broker.url)


@pytest.fixture
def service(settings: ServiceSettings) -> Iterator[Service]:
    with Service.open(settings) as opened:
        yield opened


@pytest.fixture
def workers(settings: ServiceSettings, tmp_path: Path) -> Iterator[Workforce]:
    with workforce(settings, tmp_path) as force:
        yield force
