"""What the web process tidies up by itself."""

from __future__ import annotations

from unittest import mock

import pytest
from sqlalchemy import update

from core.errors import StorageFullError
from images.store import Store
from pipelines.keeping.retention import CONTEXTS_KEPT_S
from pipelines.model import Project
from pipelines.schema import contexts
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import Policy, Retention, ServerSettings
from tests.toolkit.service import eventually, upload
from tests.web.browser.stock import BASE, Stock, layer_tar
from web.housekeeping import Housekeeper, collect_images


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
        assert collect.call_args == mock.call(registry, stays=mock.ANY)
        registry.close()
    assert not service.contexts.has(unused.context)


def test_images_of_archived_projects_stay_whatever_the_rules_say_of_their_age(service: Service) -> None:
    rules = Policy("*", retention=Retention(keep_tags=("v*",)), untagged_days=0.0)
    for name in ("default", "old", "new"):
        service.projects.put(Project(name))
    with Store.open(service.settings.root) as store:
        registry = Registry(store, ServerSettings(access="users", grace_s=0.0, policies=(rules,)))
        for name in ("old/app", "new/app", "cache/old", "app"):
            Stock(registry, name).image([layer_tar(BASE)], "main")
        for name in ("default", "old"):
            service.projects.archive(name)
        first = [line for line in collect_images(service, registry).lines if line.startswith("untagged")]
        assert first == ["untagged: cache/old:main", "untagged: new/app:main"]
        service.projects.unarchive("old")
        assert collect_images(service, registry).lines[0] == "untagged: old/app:main"
        registry.close()
