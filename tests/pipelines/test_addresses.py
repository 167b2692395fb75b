"""Which registry the service takes for its own, and which it speaks to without TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.addresses import own_registries, plain_registries


@pytest.mark.parametrize(
    ("registry", "public_url", "web_url", "listening", "is_plain"),
    [
        ("", "https://ci.example.org", "", "", False),
        ("", "", "", "http://127.0.0.1:8080", False),
        ("ci.example.org", "https://ci.example.org", "", "", False),
        ("CI.example.org:8443", "https://ci.example.org:8443/", "", "", False),
        ("ci.example.org", "https://ci.example.org", "http://ci.example.org", "", False),
        ("ci.example.org:8080", "https://ci.example.org", "", "", False),
        ("registry.example.org", "https://ci.example.org", "http://10.0.0.5:8080", "http://10.0.0.5:8080", False),
        ("registry.example.org", "", "", "", False),
        ("ci.example.org", "http://ci.example.org", "", "", True),
        ("CI:8080", "https://ci.example.org", "http://ci:8080", "", True),
        ("10.0.0.5:8080", "https://ci.example.org", "", "http://10.0.0.5:8080", True),
    ],
)
def test_only_where_the_service_itself_is_a_registry_may_do_without_tls(
    tmp_path: Path, registry: str, public_url: str, web_url: str, listening: str, is_plain: bool
) -> None:
    """SHIPLAP_REGISTRY may name one outside: whoever answers in its place is to learn no password."""
    if listening:
        (tmp_path / "serve").mkdir()
        (tmp_path / "serve" / "url").write_text(f"{listening}\n")
    settings = ServiceSettings(tmp_path, "", "", registry, public_url=public_url, web_url=web_url)
    assert plain_registries(settings) == ((registry,) if is_plain else ())


def test_own_registry_goes_by_setting_public_name_and_address(tmp_path: Path) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "url").write_text("http://127.0.0.1:8080\n")
    settings = ServiceSettings(tmp_path, "", "", "ci:8080", public_url="https://CI.example.org")
    assert own_registries(settings) == {"ci:8080", "ci.example.org", "127.0.0.1:8080"}
