"""RUN --security=insecure and --network=host, where the build is allowed them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.running.failures import StepFailedError
from tests.builder.test_build import Workshop
from tests.toolkit.files import serving_files

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


def test_insecure_step_has_all_capabilities_of_its_namespace(workshop: Workshop) -> None:
    mount = "mount -t tmpfs none /mnt && echo mounted"
    workshop.build(
        f"FROM base\nWORKDIR /mnt\nRUN --security=insecure {mount}; grep CapEff /proc/self/status\n"
        f"RUN {mount} || echo refused\nRUN --security=sandbox {mount} || echo refused\n",
        allow=frozenset({"security.insecure"}),
    )
    said = workshop.seen.output()
    assert "mounted\nCapEff:\t000001ffffffffff\n" in said
    assert said.count("refused\n") == 2


def test_insecure_step_is_no_root_of_the_host(workshop: Workshop) -> None:
    workshop.build(
        "FROM base\nRUN --security=insecure cat /proc/self/uid_map; mknod /disk b 8 0 2>/dev/null || echo no devices; "
        "echo 1 2>/dev/null >/proc/sys/kernel/panic || echo no settings\n",
        allow=frozenset({"security.insecure"}),
    )
    said = workshop.seen.output().split(maxsplit=2)
    assert said[0] == "0"
    assert said[1] != "0"
    assert said[2].endswith("no devices\nno settings\n")


def test_network_of_the_host_is_there_where_it_was_allowed(workshop: Workshop) -> None:
    with serving_files() as server:
        server.files["/f"] = b"the host's loopback\n"
        fetch = f"wget -q -O - {server.url}/f"
        workshop.build(f"FROM base\nRUN --network=host {fetch}\n", allow=frozenset({"network.host"}))
        assert workshop.seen.output() == "the host's loopback\n"
        with pytest.raises(StepFailedError):
            workshop.build(f"FROM base\nRUN {fetch}\n", allow=frozenset({"network.host"}))


def test_security_is_part_of_the_cache_key(workshop: Workshop) -> None:
    allow = frozenset({"security.insecure"})
    assert workshop.counts("FROM base\nRUN --security=insecure true\n", allow=allow) == (1, 0)
    assert workshop.counts("FROM base\nRUN true\n", allow=allow) == (1, 0)
    assert workshop.counts("FROM base\nRUN --security=insecure true\n", allow=allow) == (0, 1)
