"""Shiplap's own image, built by Shiplap: its processes run, as the users that compose.yaml says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.toolkit.shiplap import Shiplap

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_IMAGE: Final = "shiplap-itself"

_SERVE: Final = """
set -e
cd /tmp
shiplap migrate
shiplap web --listen 127.0.0.1:8080 >web.log 2>&1 &
web=$!
for attempt in $(seq 300); do
    if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)" 2>/dev/null; then
        grep -o 'http://127.0.0.1:8080/welcome?link=' web.log
        kill $web
        wait $web || true
        exit 0
    fi
    sleep 0.1
done
cat web.log
exit 1
"""


@pytest.fixture(scope="module")
def image(base_store: Shiplap, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Built from what git would hand to a newcomer, so that what lies about in a checkout is of no use to it."""
    context = tmp_path_factory.mktemp("checkout")
    command: list[str | Path] = ["git", "-C", _CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    for name in filter(None, listed):
        if not name.startswith(("tests/", "docs/")) and (_CHECKOUT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_CHECKOUT / name, context / name)
    base_store.build(context, "-f", context / "compose" / "Dockerfile", "-t", _IMAGE)
    return _IMAGE


def test_image_has_the_command_and_what_it_needs(base_store: Shiplap, image: str) -> None:
    assert base_store("run", "--rm", image, "shiplap", "--version").stdout.startswith("shiplap ")
    found = base_store("run", "--rm", "-u", "root", image, "shiplap", "doctor", check=False).stdout
    for program in ("mkfs.erofs", "pasta", "nft"):
        assert f"/{program} (" in found
    asked = ("sh", "-c", "id -u; git --version; ssh -V 2>&1; python3 -m worker --help | head -1")
    said = base_store("run", "--rm", image, *asked).stdout
    assert said.startswith("10001\ngit version")
    assert "OpenSSH" in said
    assert "usage: worker" in said


def test_web_process_serves_from_the_image_without_being_root(base_store: Shiplap, image: str) -> None:
    assert "/welcome?link=" in base_store("run", "--rm", image, "sh", "-c", _SERVE).stdout


def test_image_keeps_no_tools(base_store: Shiplap, image: str) -> None:
    asked = "ls /opt/shiplap/bin /opt/shiplap/lib/python3*/site-packages; ls -d /src /root/.cache 2>/dev/null || true"
    names = base_store("run", "--rm", "-u", "root", image, "sh", "-c", asked).stdout.split()
    assert "shiplap" in names
    assert not {"pip", "setuptools", "pytest", "mypy", "tests", "/src", "/root/.cache"} & set(names)
