"""Fixtures that every room's tests may use, and two rules for the whole suite: root, and nothing skipped."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.differential.summary import pytest_terminal_summary as pytest_terminal_summary
from tests.toolkit import host, order
from tests.toolkit.containers import end_switches
from tests.toolkit.noskips import pytest_make_collect_report as pytest_make_collect_report
from tests.toolkit.noskips import pytest_runtest_makereport as pytest_runtest_makereport
from tests.toolkit.shiplap import BUSYBOX_NAME, DEBIAN_NAME, Shiplap

_CHECKOUT = Path(__file__).resolve().parents[1]

# How long Hypothesis takes to make an example says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(order, "order")


def pytest_report_header() -> str:
    if os.geteuid() == 0:
        return "privileges: root"
    return "privileges: none; tests that start containers or make base images will fail (run as root)"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run files, and the tests in them, in a random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffled: whoever leans on the test before finds out. Files stay together: some share what is dear to make."""
    seed = config.getoption("--shuffle")
    if seed is None:
        if hasattr(config, "workerinput"):  # several share the tests
            order.longest_first(items)
        return
    chance = random.Random(seed)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    shuffled = sorted(files)
    chance.shuffle(shuffled)
    for file in shuffled:
        chance.shuffle(files[file])
    items[:] = [item for file in shuffled for item in files[file]]


@pytest.fixture(scope="session", autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests find on the host is held against this run's own folders. What is of them in /run ends with it."""
    place = tmp_path_factory.getbasetemp()
    host.own_places.append(str(place))
    yield
    end_switches(place)


def _rootfs(kind: str) -> Path:
    made = subprocess.run([_CHECKOUT / "scripts" / "rootfs", kind], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def privileged() -> None:
    """For tests whose containers or mounts need root: without it they fail here and say so, they never pass unrun."""
    if os.geteuid() != 0:
        pytest.fail("this test starts containers or mounts file systems: run the suite as root (sudo make test)")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For sockets, and open to the user postgres."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-short-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def busybox_tar() -> Path:
    """A busybox root filesystem as a tar (2 MB): /bin/sh and an applet link for everything, owners 0:0."""
    return _rootfs("busybox")


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A Debian trixie root filesystem as a tar (84 MB), able to apt-get where this host is. Made once per machine."""
    return _rootfs("debian")


@pytest.fixture
def shiplap_root(tmp_path: Path) -> Path:
    """Where this test's Shiplap keeps its data; does not exist yet."""
    return tmp_path / "root"


@pytest.fixture
def shiplap(shiplap_root: Path) -> Shiplap:
    """The command, on an empty root of its own."""
    return Shiplap(shiplap_root)


@pytest.fixture(scope="session")
def base_store(
    privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, debian_tar: Path
) -> Shiplap:
    """The command on one root for the whole session, with the images ``busybox`` and ``debian:trixie-slim``.

    Tests that share it must give their images names of their own and may not prune.
    """
    shared = Shiplap(tmp_path_factory.mktemp("base-store") / "root")
    shared("image", "import", busybox_tar, BUSYBOX_NAME)
    shared("image", "import", debian_tar, DEBIAN_NAME)
    return shared
