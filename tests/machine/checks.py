"""Shiplap on a machine of Debian's packages: control groups of version 2, systemd, a power loss, an orderly reboot.

``.venv/bin/pytest tests/machine/checks.py``, or ``scripts/test-all machine``: half an hour without KVM. In this order:
each finds what the ones before left running.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.machine import Machine, booted
from tests.machine.making import make

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shiplap-tests"
_FOREVER = "trap 'echo told; exit 0' TERM; while :; do sleep 0.2; done"

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def machine(
    privileged: None, busybox_tar: Path, debian_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    work = Path(os.environ.get("SHIPLAP_TEST_CACHE") or _CACHE) / "machine"
    disk = make(work, debian_tar, busybox_tar)
    place = Path("/tmp") / f"shiplap-machine-{os.getpid()}"
    place.mkdir(mode=0o700)
    try:
        with booted(disk, place) as machine:
            machine("shiplap image import /opt/machine/busybox.tar busybox")
            yield machine
    finally:
        (tmp_path_factory.getbasetemp() / "console.log").write_bytes((place / "console.log").read_bytes())
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


def pid_of(machine: Machine, name: str) -> str:
    return machine(f"shiplap inspect -f '{{{{.State.Pid}}}}' {name}").said


def group_of(machine: Machine, name: str) -> str:
    """The directory of a container's control group."""
    (line,) = machine(f"cat /proc/{pid_of(machine, name)}/cgroup").said.splitlines()
    assert line.startswith("0::"), "version 2 alone"
    return f"/sys/fs/cgroup{line[3:]}"


def test_doctor_misses_nothing(machine: Machine) -> None:
    said = machine("shiplap doctor", code=None)
    assert said.code == 0, said.said
    assert machine("stat -f -c %T /sys/fs/cgroup").said == "cgroup2fs"


def test_keepers_are_in_a_scope_that_systemd_gave(machine: Machine) -> None:
    machine(f'shiplap run -d --name first busybox sh -c "{_FOREVER}"')
    group = group_of(machine, "first")
    assert "/shiplap.slice/" in group
    assert ".scope/" in group
    scope = next(part for part in group.split("/") if part.endswith(".scope"))
    shown = machine(f"systemctl show -p ActiveState -p Delegate -p Slice {scope}").said.splitlines()
    assert set(shown) == {"ActiveState=active", "Delegate=yes", "Slice=shiplap.slice"}
    machine.later("systemctl restart machine-agent.service")  # in whose control group the command was
    machine("systemctl daemon-reload")
    assert machine("shiplap ps -q --filter name=first | wc -l").said == "1"
    assert machine("shiplap exec first cat /proc/self/cgroup").said == "0::/"


def test_limits_hold_and_can_be_changed(machine: Machine) -> None:
    machine(f'shiplap run -d --name limited -m 64m --cpus 0.5 --pids-limit 20 busybox sh -c "{_FOREVER}"')
    group = group_of(machine, "limited")
    values = machine(f"cd {group} && cat memory.max cpu.max pids.max").said.split("\n")
    assert values == [str(64 << 20), "50000 100000", "20"]
    machine("shiplap update -m 128m --memory-swap 128m --cpus 0.25 --pids-limit 30 limited")
    values = machine(f"cd {group} && cat memory.max cpu.max pids.max").said.split("\n")
    assert values == [str(128 << 20), "25000 100000", "30"]
    forked = machine("shiplap exec limited sh -c 'for i in $(seq 60); do sleep 100 & done; wait'", code=None)
    assert forked.code != 0
    assert int(machine(f"cat {group}/pids.current").said) <= 30
    machine("shiplap rm -f limited")
    eaten = machine("shiplap run --name eater -m 32m --memory-swap 32m busybox sh -c 'tail /dev/zero'", code=None)
    assert eaten.code == 137, eaten.said
    assert machine("shiplap inspect -f '{{.State.OOMKilled}}' eater").said == "true"
    machine("shiplap rm eater")
    assert machine(f"test -e {group}", code=1).said == ""


def test_what_is_paused_stands_still(machine: Machine) -> None:
    machine("shiplap run -d --name counter busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i > /n; sleep 0.1; done'")
    machine.eventually("shiplap exec counter test -s /n")
    group = group_of(machine, "counter")
    machine("shiplap pause counter")
    machine.eventually(f"grep -q 'frozen 1' {group}/cgroup.events")
    root = f"/proc/{pid_of(machine, 'counter')}/root/n"
    first = machine(f"cat {root}").said
    assert machine(f"sleep 3; cat {root}").said == first
    machine("shiplap unpause counter")
    machine.eventually(f'test "$(cat {root})" != "{first}"')
    machine("shiplap rm -f counter")


def test_a_health_check_and_a_published_port_work(machine: Machine) -> None:
    machine(
        "shiplap run -d --name web -p 127.0.0.1:8080:80 --health-cmd 'true' --health-interval 2s busybox"
        " sh -c 'mkdir -p /w; echo here > /w/index.html; exec httpd -f -p 80 -h /w'"
    )
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/').read().decode())"
    assert machine.eventually(f'python3 -c "{ask}"').strip() == "here"
    machine.eventually("test $(shiplap inspect -f '{{.State.Health.Status}}' web) = healthy")
    machine("shiplap rm -f web")


_POLICIES = ("always", "unless-stopped", "on-failure", "no")


def test_a_reset_amid_twenty_containers_brings_them_back_by_their_policies(machine: Machine) -> None:
    made = [(f"{policy}-{number}", policy) for policy in _POLICIES for number in range(5)]
    script = " && ".join(
        f'shiplap run -d --name {name} --restart {policy} -v data:/data busybox sh -c "{_FOREVER}"'
        for name, policy in made
    )
    machine(script, timeout_s=1800)
    machine("shiplap stop -t 0 always-0 unless-stopped-0", code=0)
    machine("shiplap exec always-1 sh -c 'echo kept > /data/kept; sync'")
    machine("shiplap run -d --rm --name passing busybox sleep 100000")
    before = int(machine("wc -l < /proc/self/mountinfo").said)
    machine.reset()
    machine.eventually("systemctl is-active shiplap-restore.service", timeout_s=900)
    shown = machine("shiplap ps -a --format '{{.Names}} {{.State}}'").said
    states = dict(line.split() for line in shown.splitlines())
    assert "passing" not in states  # it was to be removed at its end
    up = {name for name, policy in made if policy != "no"} - {"unless-stopped-0"}
    assert {name for name in states if states[name] == "running"} == up
    lost = json.loads(machine("shiplap inspect no-1").said)[0]["State"]
    assert (lost["Status"], lost["ExitCode"]) == ("exited", 255)
    assert machine("shiplap exec always-1 cat /data/kept").said == "kept"
    check = "import sqlite3; print(sqlite3.connect('%s').execute('PRAGMA integrity_check').fetchone()[0])"
    assert machine(f'python3 -c "{check % "/var/lib/shiplap/engine.db"}"').said == "ok"
    assert int(machine("wc -l < /proc/self/mountinfo").said) <= before + 5


def test_an_orderly_reboot_stops_each_by_its_signal_and_starts_it_again(machine: Machine) -> None:
    """What systemd sends to all of a scope is SIGTERM: these know another one only, and take their time for it."""
    machine("shiplap ps -aq | xargs -r shiplap rm -f", timeout_s=1800)
    script = "trap 'sleep 2; echo told >> /data/told; exit 0' USR1; while :; do sleep 0.2; done"
    run = "shiplap run -d --stop-signal USR1 --stop-timeout 60"
    machine(f'{run} --name kept --restart unless-stopped -v told:/data busybox sh -c "{script}"')
    machine(f'{run} --name gone -v told2:/data busybox sh -c "{script}"')
    machine.reboot()
    machine.eventually("systemctl is-active shiplap-restore.service", timeout_s=900)
    assert machine("cd /var/lib/shiplap/volumes && cat told/_data/told told2/_data/told").said == "told\ntold"
    assert machine("shiplap ps --format '{{.Names}}'").said == "kept"
    assert machine("shiplap inspect -f '{{.State.ExitCode}}' gone").said == "0"
    machine("shiplap rm -f kept gone")


def test_an_ordinary_user_has_limits_of_the_users_manager(machine: Machine) -> None:
    machine("loginctl enable-linger tester")
    machine.eventually("test -S /run/user/$(id -u tester)/bus")
    places = "XDG_RUNTIME_DIR=/run/user/$(id -u) PATH=~/.local/bin:$PATH"
    as_tester = f"runuser -l tester -c 'unset SHIPLAP_ROOT; export {places}; %s'"
    machine(as_tester % "shiplap image import /opt/machine/busybox.tar busybox")
    machine(as_tester % "shiplap run -d --name mine -m 48m busybox sleep 100000")
    pid = machine(as_tester % 'shiplap inspect -f "{{.State.Pid}}" mine').said
    (line,) = machine(f"cat /proc/{pid}/cgroup").said.splitlines()
    assert f"user@{machine('id -u tester').said}.service" in line
    assert machine(f"cat /sys/fs/cgroup{line[3:]}/memory.max").said == str(48 << 20)
    machine(as_tester % "shiplap pause mine")
    machine.eventually(f"grep -q 'frozen 1' /sys/fs/cgroup{line[3:]}/cgroup.events")
    machine(as_tester % "shiplap unpause mine && shiplap rm -f mine")
