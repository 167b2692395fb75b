"""docker compose against our API: a small file comes up, is looked at, and goes down, as with dockerd."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

_FILE = f"""
name: small
services:
  db:
    image: {BUSYBOX_NAME}
    command: sh -c 'echo db ready; touch /tmp/ok; exec sleep 1000'
    healthcheck: {{test: ["CMD", "test", "-e", "/tmp/ok"], interval: 1s, timeout: 20s, retries: 50}}
    volumes: ["data:/data"]
    networks: [back]
  web:
    image: {BUSYBOX_NAME}
    command: sh -c 'ping -c1 -W9 db >/dev/null && echo web up; exec sleep 1000'
    depends_on: {{db: {{condition: service_healthy}}}}
    environment: {{A: b}}
    networks: [back, front]
    init: true
    configs: [{{source: settings, target: /settings}}]
  once:
    image: {BUSYBOX_NAME}
    command: sh -c 'echo once; exit 0'
    network_mode: "service:web"
    depends_on: {{web: {{condition: service_started}}}}
networks:
  back: {{internal: true}}
  front: {{}}
volumes:
  data: {{}}
configs:
  settings: {{file: ./settings}}
"""


class Compose:
    def __init__(self, api: Api, folder: Path) -> None:
        self._api, self._folder = api, folder

    def __call__(self, *words: str) -> str:
        ran = subprocess.run(
            ["docker", "compose", "--ansi", "never", "--progress", "plain", *words],
            cwd=self._folder,
            env=self._api.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=stretched(240),
        )
        assert ran.returncode == 0, f"{words}: {ran.stdout}\n{ran.stderr}\n{self._api.log()}"
        return ran.stdout


def test_a_small_file_comes_up_and_goes_down(api: Api, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(_FILE)
    (tmp_path / "settings").write_text("of a file")
    compose = Compose(api, tmp_path)
    compose("up", "-d")
    eventually(lambda: '"exited"' in compose("ps", "-a", "--format", "json", "once"))
    found = [json.loads(line) for line in compose("ps", "-a", "--format", "json").splitlines()]
    assert sorted((each["Service"], each["State"], each["Health"], each["ExitCode"]) for each in found) == [
        ("db", "running", "healthy", 0),
        ("once", "exited", "", 0),
        ("web", "running", "", 0),
    ]
    logs = compose("logs", "--no-color")
    assert all(line in logs for line in ("db ready", "web up", "once"))
    assert compose("exec", "-T", "web", "sh", "-c", "echo $A; cat /settings") == "b\nof a file"
    before = api.docker("ps", "-q", check=True).stdout
    compose("up", "-d", "web", "db")
    assert api.docker("ps", "-q", check=True).stdout == before  # nothing changed, so nothing was made anew
    api.kill()
    api.start()
    compose("up", "-d", "--force-recreate", "web")
    compose("restart", "-t", "0", "db")
    compose("stop", "-t", "0")
    compose("down", "-v", "-t", "0")
    assert api.docker("ps", "-aq").stdout == ""
    assert "small" not in api.docker("network", "ls").stdout + api.docker("volume", "ls").stdout
