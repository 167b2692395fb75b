"""Databases that do not hold all of Unicode: refused by migrate, with the way out; and those that do."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.errors import SchemaError
from pipelines.model import Project
from pipelines.schema import HEAD
from pipelines.service import Service
from tests.toolkit.service import PostgresServer


def settings_of(server: PostgresServer, name: str, root: Path, encoding: str) -> ServiceSettings:
    """Of a service on a new database of this encoding."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    return ServiceSettings(root, server.url.replace("/postgres?", f"/{name}?"), f"unix://{root}/none.sock")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_database_of_another_encoding_is_refused_with_the_way_out(
    shared_postgres: PostgresServer, tmp_path: Path, encoding: str
) -> None:
    settings = settings_of(shared_postgres, f"of_{encoding.lower()}", tmp_path, encoding)
    with pytest.raises(SchemaError, match=f"has the encoding {encoding}, and Shiplap needs UTF8") as caught:
        migrate(settings)
    assert re.search("createdb -E UTF8 -T template0 -O USER NAME", str(caught.value.hint))
    with pytest.raises(SchemaError, match="no tables yet"):
        Service.open(settings)
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall() == [(0,)]


def test_database_of_the_way_out_holds_every_letter(shared_postgres: PostgresServer, tmp_path: Path) -> None:
    settings = settings_of(shared_postgres, "of_utf8", tmp_path, "UTF8")
    assert migrate(settings)[-1] == HEAD
    with Service.open(settings) as service:
        service.projects.put(Project("web", tag_template="{registry}/web:{number}"))
        service.audit.add("änne", "do", "日本 \N{ROCKET}")
        assert service.audit.list(limit=1)[0].subject == "日本 \N{ROCKET}"
