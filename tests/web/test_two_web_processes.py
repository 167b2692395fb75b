"""Two web processes on one database: neither takes anything from the other."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import urllib3

from core.settings import ServiceSettings
from pipelines.service import Service
from tests.web.processes import WebProcess


def status(http: urllib3.PoolManager, url: str, token: str) -> int:
    return http.request("GET", url, headers={"Authorization": f"Bearer {token}"}).status


def administrators_token(root: Path) -> str:
    return (root / "serve" / "admin.token").read_text().strip()


def test_second_web_process_leaves_the_first_its_tokens_and_its_clients(
    settings: ServiceSettings, service: Service, tmp_path: Path
) -> None:
    elsewhere = ServiceSettings(tmp_path / "second", settings.database_url, settings.redis_url)
    elsewhere.key_file.parent.mkdir(parents=True)
    shutil.copy(settings.key_file, elsewhere.key_file)
    with WebProcess(settings) as first, urllib3.PoolManager(retries=False) as http:
        token, build = administrators_token(settings.root), service.tokens.create("ci", ["build"])[1]
        answer = http.request("GET", f"{first.url}/v2/token?scope=repository:app:pull",
                              headers=urllib3.make_headers(basic_auth=f"x:{build}"))  # fmt: skip
        signed = answer.json()["token"]
        for other in (elsewhere, settings):  # with a root of its own, and with the first one's
            with WebProcess(other) as second:
                assert status(http, f"{second.url}/api/v1/runs", administrators_token(other.root)) == 200
                assert status(http, f"{first.url}/api/v1/runs", token) == 200
                assert administrators_token(settings.root) == token
                assert status(http, f"{first.url}/v2/", build) == 200
                assert status(http, f"{first.url}/v2/app/tags/list", signed) == 404  # let in, and nothing there
        assert status(http, f"{first.url}/api/v1/runs", token) == 200


def test_note_of_where_a_web_process_listens_is_taken_away_by_its_own_only(
    settings: ServiceSettings, service: Service
) -> None:
    note = settings.root / "serve" / "url"
    with WebProcess(settings) as first:
        with WebProcess(settings) as second:
            assert note.read_text() == f"{second.url}\n"
            first.signal(signal.SIGTERM)
            first.wait()
            assert note.read_text() == f"{second.url}\n"
            second.signal(signal.SIGTERM)
            second.wait()
        assert not note.exists()
