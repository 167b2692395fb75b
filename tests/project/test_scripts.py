"""The scripts that prepare a machine: they do what they say, once, and only when there is something to do."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.toolkit.shiplap import DEBIAN_NAME, Shiplap

_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def fake_tools(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``apt-get`` and ``dpkg-query`` are stand-ins that must not be needed."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("apt-get", "sudo"):
        (directory / name).write_text("#!/bin/sh\necho called >&2\nexit 1\n")
        (directory / name).chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


def test_installer_calls_no_apt_when_all_is_there(fake_tools: dict[str, str]) -> None:
    result = subprocess.run(
        [_SCRIPTS / "install-debian", "run", "base", "test"], env=fake_tools, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_installer_refuses_an_unknown_group_and_lists_the_known() -> None:
    result = subprocess.run([_SCRIPTS / "install-debian", "everything"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "no such group: everything" in result.stderr
    assert "bench   the peers" in result.stderr


def test_installer_makes_a_bare_debian_ready_and_starts_nothing(base_store: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "install-debian").write_bytes((_SCRIPTS / "install-debian").read_bytes())
    (tmp_path / "Dockerfile").write_text(
        f"""FROM {DEBIAN_NAME}
COPY --chmod=755 install-debian /
RUN /install-debian run && pasta --version && mkfs.erofs --version && nft --version
RUN test ! -e /usr/sbin/policy-rc.d
RUN rm -r /usr/bin/apt-get && /install-debian run
"""
    )
    base_store.build(tmp_path, "-t", "installed")


def test_busybox_base_is_the_same_every_time_it_is_made(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        environment = {**os.environ, "SHIPLAP_TEST_CACHE": str(tmp_path / name)}
        result = subprocess.run([_SCRIPTS / "rootfs", "busybox"], env=environment, stdout=subprocess.PIPE, check=True)
        made.append(Path(result.stdout.decode().strip()).read_bytes())
    assert made[0] == made[1]


def test_debian_base_holds_no_trace_of_this_hosts_name_or_resolver(debian_tar: Path) -> None:
    with tarfile.open(debian_tar) as tar:
        names = set(tar.getnames())
    assert names & {"./etc/resolv.conf", "./etc/hostname", "./dev/null"} == set()
    assert "./etc/ssl/certs/ca-certificates.crt" in names


def test_what_the_lock_does_not_name_is_found(tmp_path: Path) -> None:
    """``scripts/venv`` removes it: a test must not pass by what somebody installed by hand."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    for name in ("shiplap", "Flask", "zope.stray", "Hand_Made"):
        (site / f"{name}-1.0.dist-info").mkdir()
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    found = subprocess.run([_SCRIPTS / "unlocked", venv / "bin" / "python"], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["hand-made", "zope-stray"]


def test_this_environment_is_the_locks() -> None:
    found = subprocess.run([_SCRIPTS / "unlocked", sys.executable], capture_output=True, text=True, check=True)
    assert found.stdout == ""
