"""Every option of ``docker run``, one after the other: it changes what is made, or it is refused with its reason."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from cli.containers.options import CREATE_OPTIONS
from cli.errors import CommandError
from engine import spec
from engine.engine import Engine
from engine.errors import InvalidRequestError, NotDoneError
from tests.toolkit.bounds import stretched
from tests.toolkit.createbody import read

# An option's value that says something. None: it is a flag.
VALUES: Final[dict[str, str | None]] = {
    "add-host": "db:10.0.0.1", "annotation": "a=b", "blkio-weight": "100", "blkio-weight-device": "BLOCK:100",
    "cap-add": "SYS_PTRACE", "cap-drop": "ALL", "cgroup-parent": "/x", "cgroupns": "host", "cpu-count": "1",
    "cpu-percent": "10", "cpu-quota": "50000", "cpu-rt-period": "1000", "cpu-rt-runtime": "1000", "cpu-shares": "100",
    "cpus": "0.5", "cpuset-cpus": "0", "cpuset-mems": "0", "device": "/dev/full:/dev/other",
    "device-cgroup-rule": "c 1:3 rwm", "device-read-bps": "BLOCK:1mb", "device-read-iops": "BLOCK:100",
    "device-write-bps": "BLOCK:1mb", "device-write-iops": "BLOCK:100", "dns": "10.0.0.1", "dns-option": "ndots:1",
    "dns-search": "example.org", "domainname": "example.org", "entrypoint": "/bin/x", "env": "A=B", "gpus": "all",
    "group-add": "7", "health-cmd": "true", "hostname": "box", "init": None, "interactive": None,
    "io-maxbandwidth": "1m", "io-maxiops": "10", "ip": "10.99.0.9", "ip6": "fd00::9", "ipc": "host",
    "isolation": "hyperv", "kernel-memory": "64m", "label": "a=b", "link": "other:db", "link-local-ip": "169.254.7.7",
    "log-driver": "none", "log-opt": "max-size=1m", "mac-address": "02:42:ac:11:00:09", "memory": "64m",
    "memory-reservation": "32m", "memory-swappiness": "10", "mount": "type=tmpfs,dst=/t", "network": "none",
    "network-alias": "db", "oom-kill-disable": None, "oom-score-adj": "500", "pid": "host", "pids-limit": "10",
    "privileged": None, "publish": "8080:80", "read-only": None, "restart": "always", "rm": None, "runtime": "kata",
    "security-opt": "no-new-privileges", "shm-size": "1m", "stop-signal": "SIGHUP", "stop-timeout": "3",
    "storage-opt": "size=1g", "sysctl": "net.ipv4.ip_forward=1", "tmpfs": "/t", "tty": None, "ulimit": "nofile=10:20",
    "user": "7", "userns": "host", "uts": "host", "volume": "data:/data", "volume-driver": "nfs",
    "volumes-from": "other", "workdir": "/srv", "memory-swap": "-1", "cpu-period": "50000", "expose": "80",
    "publish-all": None, "no-healthcheck": None, "health-interval": "3s", "health-retries": "2",
    "health-start-interval": "1s", "health-start-period": "3s", "health-timeout": "4s",
}  # fmt: skip
# What an option says only together with another one.
WITH: Final = {
    "memory-swap": "--memory 64m", "cpu-period": "--cpu-quota 50000", "publish-all": "--expose 80",
    "health-interval": "--health-cmd true", "health-retries": "--health-cmd true", "link-local-ip": "--network mine",
    "health-start-interval": "--health-cmd true", "health-start-period": "--health-cmd true",
    "health-timeout": "--health-cmd true", "network-alias": "--network mine", "ip": "--network mine",
    "ip6": "--network mine",
}  # fmt: skip
# What is of the command, not of the container: tests/cli has these.
COMMANDS_OWN: Final = frozenset({
    "attach", "cidfile", "detach", "detach-keys", "disable-content-trust", "env-file", "help", "label-file", "name",
    "platform", "pull", "quiet", "sig-proxy",
})  # fmt: skip
# Shown by inspect, and of no other consequence, in docker too; `expose` serves -P, `no-healthcheck` an image's.
SHOWN_ONLY: Final = frozenset({"annotation", "expose", "no-healthcheck"})


def dockers() -> list[str]:
    """The options in docker's help."""
    text = subprocess.run(
        ["docker", "run", "--help"], capture_output=True, text=True, check=True, timeout=stretched(60)
    ).stdout
    return re.findall(r"^ {2,6}(?:-\w, )?--([a-z0-9-]+)", text, re.MULTILINE)


def essence(engine: Engine, line: str) -> tuple[dict[str, Any], Any]:
    """What ``spec.json`` has of a container that this line makes, and what ``inspect`` shows."""
    made = engine.create(None, read(shlex.split(line)))
    kept = spec.read(engine.directory(made.id))
    shown = {name: kept["asked"][name] for name in ("HostConfig", "Labels")}
    shown["asked"] = {name: value for name, value in kept["asked"].items() if name not in ("Hostname", "HostConfig")}
    networks = [each[2:] for each in engine.records.endpoints_of(made.id)]
    engine.remove(made.id, volumes=True)
    assert made.warnings == []
    for name in ("asked", "id", "name", "created", "upper"):
        del kept[name]
    if kept["hostname"] == made.id[:12]:
        kept["hostname"] = ""
        kept["process"]["env"] = [pair for pair in kept["process"]["env"] if pair[0] != "HOSTNAME"]
    return {**kept, "networks": networks}, shown


def a_block_device() -> str:
    found = [path for path in sorted(Path("/dev").iterdir()) if path.is_block_device()]
    assert found, "this host has no block device"
    return str(found[0])


def test_every_option_of_docker_run_works_or_is_refused_with_its_reason(engine: Engine) -> None:
    options = dockers()
    assert len(options) > 90
    ours = {name.lstrip("-") for option in CREATE_OPTIONS for name in option.names}
    assert set(options) - ours - COMMANDS_OWN == set(), "not known to our command line at all"
    assert set(options) - COMMANDS_OWN == VALUES.keys()
    engine.networks.create({"Name": "mine", "IPAM": {"Config": [{"Subnet": "10.99.0.0/24"}]}})
    engine.create("other", {"Image": "app", "HostConfig": {"Binds": ["theirs:/theirs"]}})
    refused: dict[str, str] = {}
    plain = {with_it: essence(engine, f"{with_it} app") for with_it in {"", *WITH.values()}}
    for name, value in VALUES.items():
        with_it = WITH.get(name, "")
        if value is not None:
            value = value.replace("BLOCK", a_block_device())
        line = f"{with_it} --{name}" + ("" if value is None else f"={shlex.quote(value)}") + " app"
        try:
            changed = essence(engine, line)
        except (NotDoneError, CommandError, InvalidRequestError) as error:
            refused[name] = error.message
            continue
        assert changed[name in SHOWN_ONLY] != plain[with_it][name in SHOWN_ONLY], f"--{name} is ignored without a word"
    for name, reason in refused.items():
        assert len(reason) > 20, (name, reason)
    assert refused.keys() >= {
        "cgroup-parent", "cgroupns", "cpu-count", "cpu-percent", "cpu-rt-period", "cpu-rt-runtime",
        "device-cgroup-rule", "gpus", "io-maxbandwidth", "io-maxiops", "isolation", "kernel-memory",
        "oom-kill-disable", "pid", "runtime", "storage-opt", "userns", "uts", "volume-driver",
    }  # fmt: skip
    assert not refused.keys() & {
        "blkio-weight", "cap-add", "cpuset-cpus", "cpuset-mems", "device", "device-read-bps", "device-write-iops",
        "domainname", "group-add", "memory-reservation", "memory-swappiness", "oom-score-adj", "privileged",
        "security-opt", "sysctl", "ulimit",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "seccomp=unconfined", "systempaths=unconfined", "no-new-privileges=true", "no-new-privileges",
    ],
)  # fmt: skip
def test_security_options_change_what_is_made(engine: Engine, text: str) -> None:
    assert essence(engine, f"--security-opt {text} app")[0] != essence(engine, "app")[0]


def test_what_is_roots_alone_is_refused_to_others(engine: Engine) -> None:
    from engine.callers import Caller
    from engine.fields import Fields
    from engine.privileges import check_caller

    root, member = Caller(0, 0, ()), Caller(1000, 1000, ())
    for host, what in (
        ({"OomScoreAdj": -1}, "--oom-score-adj below 0"),
        ({"Devices": [{"PathOnHost": "/dev/full"}]}, "--device /dev/full"),
        ({"Devices": [{"PathOnHost": "/root/is/it/there"}]}, "--device /root/is/it/there"),
        ({"BlkioWeightDevice": [{"Path": "/root/is/it/there", "Weight": 10}]}, "limits of one device"),
    ):
        check_caller(Fields(host, "HostConfig"), root)
        with pytest.raises(NotDoneError) as refused:
            check_caller(Fields(host, "HostConfig"), member)
        assert what in refused.value.message
    check_caller(Fields({"Privileged": True}, "HostConfig"), member)
