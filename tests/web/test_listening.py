"""Where the web process listens, and what it says of it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.web.processes import WebProcess
from web.settings import WebSettings


@pytest.mark.parametrize(
    ("listen", "is_public"),
    [
        ("127.0.0.1:80", False), ("127.3.2.1:80", False), ("localhost:80", False), ("[::1]:80", False),
        (":80", True), ("0.0.0.0:80", True), ("[::]:80", True), ("10.0.0.7:80", True), ("ci.example:80", True),
    ],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(listen: str, is_public: bool) -> None:
    assert WebSettings.parse(listen).is_public is is_public


@pytest.mark.parametrize("registry", ["", "images.internal:5000"])
def test_registry_s_realm_is_the_public_address_but_for_who_comes_by_the_registry_s_name(
    settings: ServiceSettings, service: Service, registry: str
) -> None:
    del service  # it has made the database
    process = WebProcess(settings, SHIPLAP_PUBLIC_URL="https://ci.example", SHIPLAP_REGISTRY=registry)
    own = registry or f"127.0.0.1:{process.port}"

    def realm(host: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=stretched(20))
        with contextlib.closing(connection):
            connection.request("GET", "/v2/", headers={"Host": host})
            return str(connection.getresponse().headers["WWW-Authenticate"]).split('"')[1]

    with process:
        hosts = ("ci.example", "evil.example", f"localhost:{process.port}", own)
        assert [realm(host) for host in hosts] == [*["https://ci.example/v2/token"] * 3, f"http://{own}/v2/token"]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("public_url", "warns"), [("", True), ("http://ci.example", True), ("https://ci.example", False)]
)
def test_plain_http_for_others_is_warned_of(
    settings: ServiceSettings, service: Service, public_url: str, warns: bool, terminal: bool
) -> None:
    del service  # it has made the database
    process = WebProcess(settings)
    command = [sys.executable, "-m", "web", "--listen", f"0.0.0.0:{process.port}"]
    environment = {**process.environment(), "SHIPLAP_PUBLIC_URL": public_url}
    reader, writer = pty.openpty() if terminal else os.pipe()
    with open(reader, "rb", buffering=0) as said:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=writer) as web:
            os.close(writer)
            assert web.stdout is not None
            assert web.stdout.readline()  # it serves, and has warned
            web.terminate()
            web.communicate()
        lines = list(told(said))
    if terminal:
        warnings = [line.partition(" warning: ")[2] for line in lines if " warning: " in line]
    else:
        warnings = [line["message"] for line in map(json.loads, lines) if line["level"] == "warning"]
    about = f"0.0.0.0:{process.port} is plain HTTP"
    assert [warning.startswith(about) for warning in warnings] == [True] * warns


def told(said: io.RawIOBase) -> Iterator[str]:
    """The lines until nobody writes any more, which a terminal reports as an error."""
    with contextlib.suppress(OSError):
        while line := said.readline():
            yield line.decode().rstrip()
