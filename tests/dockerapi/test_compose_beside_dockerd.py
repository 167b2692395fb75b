"""docker compose against our API and against Debian's dockerd: each feature's example, with the same output and codes.

An example is a compose file whose ``x-story`` says what is asked of compose, line by line.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.tools import BuildKit
from bench.workloads import BASE
from tests.cli.test_beside_docker import alike
from tests.toolkit.bounds import stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_FILES = Path(__file__).parent / "composefiles"
_OWN = ("ID", "CreatedAt", "RunningFor", "Size", "Labels", "Mounts")
"""Of a line of ``ps`` what differs by nature: Labels have hashes and places, Mounts names of volumes, shortened."""


class Both:
    """One client, two daemons with a bridge each, the same image in both."""

    def __init__(self, api: Api, directory: Path) -> None:
        self.log = api.log
        self._environments = {
            "dockerd": {**api.environment, "DOCKER_HOST": f"unix://{directory}/docker/docker.sock"},
            "shiplap": api.environment,
        }

    def told(self, line: str, folder: Path) -> dict[str, tuple[int, str, str]]:
        """What a line came to with each: exit code, output, errors. folder: has a project's directory for each."""
        with ThreadPoolExecutor(2) as pool:
            return dict(
                zip(
                    self._environments,
                    pool.map(lambda who: self._ran(who, line, folder), self._environments),
                    strict=True,
                )
            )

    def _ran(self, who: str, line: str, folder: Path) -> tuple[int, str, str]:
        words = shlex.split(line)
        command = words if words[0] == "docker" else ["docker", "compose", "--progress", "quiet", *words]
        (place,) = (folder / who).iterdir()
        ran = subprocess.run(
            command,
            cwd=place,
            env={**self._environments[who], "WORD": "of the environment\n"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=stretched(120),
        )
        return ran.returncode, _alike(ran.stdout, line), ran.stderr


def _alike(text: str, line: str) -> str:
    if "--format json" in line:
        found = [{key: value for key, value in json.loads(row).items() if key not in _OWN} for row in text.splitlines()]
        text = "\n".join(json.dumps(row, sort_keys=True) for row in sorted(found, key=lambda row: row["Name"]))
    if line.startswith("up "):  # how a service ends that compose ends is told, or not, as its time is
        text = "".join(row for row in text.splitlines(keepends=True) if not row.startswith("server"))
    return alike(text)


@pytest.fixture(scope="module")
def both(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-compose-", dir="/tmp"))  # short: sockets are below
    shiplap = Shiplap(tmp_path_factory.mktemp("compose") / "root")
    docker, api = BuildKit(directory), Api(shiplap, directory)
    try:
        docker.start(busybox_tar)
        shiplap("image", "import", busybox_tar, BASE)
        api.start()
        yield Both(api, directory)
        api.stop()
    finally:
        docker.stop()
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", sorted(path.stem for path in _FILES.glob("*.yaml")))
def test_an_example_goes_as_with_dockerd(name: str, both: Both, tmp_path: Path) -> None:
    for who in ("dockerd", "shiplap"):
        place = tmp_path / who / name
        place.mkdir(parents=True)
        shutil.copy(_FILES / f"{name}.yaml", place / "compose.yaml")
        (place / "settings").write_text("settings of a file\n")
        (place / "token").write_text("token of a file\n")
    example: dict[str, Any] = yaml.safe_load((_FILES / f"{name}.yaml").read_text())
    for line in example["x-story"]:
        told = both.told(line, tmp_path)
        (code, out, err), (theirs, their_out, their_err) = told["shiplap"], told["dockerd"]
        assert (code, out) == (theirs, their_out), f"{line}\n{err}\n{their_err}\n{both.log()[-3000:]}"
