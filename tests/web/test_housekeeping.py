"""What the web process tidies up by itself."""

from __future__ import annotations

from unittest import mock

import pytest
from sqlalchemy import update

from core.errors import StorageFullError
from images.store import Store
from pipelines.keeping.retention import CONTEXTS_KEPT_S
from pipelines.schema import contexts
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.toolkit.service import eventually, upload
from web.housekeeping import Housekeeper


def test_contexts_out_of_use_go_and_the_registry_is_collected_again_and_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused = upload(service.contexts, {"f": "unused"})
    with service.database.write() as connection:
        connection.execute(update(contexts).values(used_at=contexts.c.used_at - CONTEXTS_KEPT_S - 1))
    report = mock.Mock(freed_bytes=0)
    collect = mock.Mock(side_effect=[StorageFullError("no space left"), report, report, *[report] * 1000])
    monkeypatch.setattr("web.housekeeping.collect", collect)
    monkeypatch.setattr("web.housekeeping.measured", mock.Mock(side_effect=OSError("the disk has gone")))
    with Store.open(service.settings.root) as store:
        registry = Registry(store, ServerSettings(access="users"))
        housekeeper = Housekeeper(service, registry, every_s=0.01)
        housekeeper.start()
        eventually(lambda: collect.call_count > 2, why="a failure does not end it")
        housekeeper.stop()
        housekeeper.join()
        assert collect.call_args == mock.call(registry)
        registry.close()
    assert not service.contexts.has(unused.context)
