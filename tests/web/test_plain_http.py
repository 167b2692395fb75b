"""Whoever opens the service to a network without TLS is told."""

from __future__ import annotations

import logging

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from web import __main__ as web


@pytest.mark.parametrize(
    ("listen", "public_url", "is_told"),
    [
        ("0.0.0.0:0", "", True),
        ("0.0.0.0:0", "http://ci.example", True),
        ("0.0.0.0:0", "https://ci.example", False),
        ("127.0.0.1:0", "", False),
    ],
)
def test_plain_http_for_others_is_told(
    settings: ServiceSettings,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    listen: str,
    public_url: str,
    is_told: bool,
) -> None:
    served: list[ServiceSettings] = []

    class Nobody:
        """Serves nobody: nothing here is to be reached from a network."""

        def __init__(self, settings: ServiceSettings, *_: object) -> None:
            served.append(settings)

        def run(self) -> None:
            pass

    environment = {"ROOT": str(settings.root), "REDIS_URL": settings.redis_url, "PUBLIC_URL": public_url}
    for name, value in environment.items():
        monkeypatch.setenv(f"SHIPLAP_{name}", value)
    monkeypatch.setattr("web.server.Server", Nobody)
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)
    monkeypatch.setattr("sys.argv", ["web", "--listen", listen, "--no-welcome"])
    with caplog.at_level(logging.WARNING):
        assert web.main() == 0
    assert len(served) == 1
    assert bool(caplog.messages) is is_told, caplog.messages
