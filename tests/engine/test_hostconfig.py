"""HostConfig: edges of what is allowed, and what becomes of each field; docker's words where it is refused."""

from __future__ import annotations

import os
from typing import Any

import pytest

from containers.capabilities import DEFAULT_CAPABILITIES, NAMES
from containers.limits import DEFAULT_SHM_BYTES, MIN_MEMORY_BYTES
from containers.resources import Limits
from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields
from engine.hostconfig import HostConfig, read
from engine.privileges import _REFUSED_OPTIONS

EVERY = frozenset(f"CAP_{name}" for name in NAMES)
CPUS = os.cpu_count() or 1


def of(**host: Any) -> HostConfig:
    return read(Fields(host, "body.HostConfig"))


def refusal(**host: Any) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        of(**host)
    return refused.value.message


def test_nothing_asked_for_is_a_container_with_dockers_bounds() -> None:
    found = of()
    assert found.privileges.capabilities == DEFAULT_CAPABILITIES
    assert (found.privileges.devices, found.privileges.extras) == ((), {})
    assert (found.privileges.filtered, found.privileges.no_new_privileges) == (True, False)
    assert (found.init, found.read_only, found.auto_remove) == (False, False, False)
    assert found.limits == Limits(0, 0, 0.0, 0, 0)._asdict()
    assert (found.shm_bytes, found.ulimits, found.network.mode, found.network.extra_hosts) == (
        DEFAULT_SHM_BYTES,
        (),
        "bridge",
        (),
    )
    assert found.restart == {"policy": "no", "maximum": 0}
    assert found.log == {"driver": "json-file", "max_size": 20 << 20, "max_file": 5}
    assert found.warnings == ()


def test_flags_are_taken_as_they_are() -> None:
    assert of(Init=True).init
    assert of(ReadonlyRootfs=True).read_only
    assert of(AutoRemove=True).auto_remove
    assert of(ShmSize=4096).shm_bytes == 4096
    assert of(ShmSize=4096).document["ShmSize"] == 4096
    assert of(ShmSize=0).document["ShmSize"] == DEFAULT_SHM_BYTES
    assert refusal(ShmSize=-1) == "SHM size can not be less than 0"


@pytest.mark.parametrize(
    ("host", "limits"),
    [
        ({"Memory": MIN_MEMORY_BYTES}, Limits(MIN_MEMORY_BYTES, 0, 0.0, 0, 0)),
        ({"Memory": 8 << 20, "MemorySwap": 8 << 20}, Limits(8 << 20, 8 << 20, 0.0, 0, 0)),
        ({"Memory": 8 << 20, "MemorySwap": -1}, Limits(8 << 20, -1, 0.0, 0, 0)),
        ({"MemorySwap": -1}, Limits(0, 0, 0.0, 0, 0)),
        ({"PidsLimit": 7}, Limits(0, 0, 0.0, 0, 7)),
        ({"PidsLimit": -1}, Limits(0, 0, 0.0, 0, 0)),
        ({"CpuShares": 2}, Limits(0, 0, 0.0, 2, 0)),
        ({"NanoCpus": 500_000_000}, Limits(0, 0, 0.5, 0, 0)),
        ({"NanoCpus": CPUS * 10**9}, Limits(0, 0, float(CPUS), 0, 0)),
        ({"CpuQuota": 50_000}, Limits(0, 0, 0.5, 0, 0)),
        ({"CpuQuota": 1_000}, Limits(0, 0, 0.01, 0, 0)),
        ({"CpuQuota": -1}, Limits(0, 0, 0.0, 0, 0)),
        ({"CpuPeriod": 1_000, "CpuQuota": 1_000}, Limits(0, 0, 1.0, 0, 0)),
        ({"CpuPeriod": 1_000_000, "CpuQuota": 250_000}, Limits(0, 0, 0.25, 0, 0)),
    ],
)
def test_limits(host: dict[str, Any], limits: Limits) -> None:
    assert of(**host).limits == limits._asdict()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Memory": MIN_MEMORY_BYTES - 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"MemorySwap": 1}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            {"Memory": 8 << 20, "MemorySwap": (8 << 20) - 1},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({"CpuShares": -1}, "CPU shares cannot be negative"),
        ({"NanoCpus": -1}, f"Range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available"),
        (
            {"NanoCpus": CPUS * 10**9 + 1},
            f"Range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        ({"NanoCpus": 1, "CpuPeriod": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (
            {"CpuPeriod": 999},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            {"CpuPeriod": 1_000_001},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpuQuota": 1}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ],
)
def test_limits_that_cannot_be(host: dict[str, Any], message: str) -> None:
    assert refusal(**host) == message


@pytest.mark.parametrize(
    ("add", "drop", "kept"),
    [
        ([], [], DEFAULT_CAPABILITIES),
        (["net_admin"], [], DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN"}),
        (["CAP_SYS_TIME"], [], DEFAULT_CAPABILITIES | {"CAP_SYS_TIME"}),
        ([], ["CHOWN"], DEFAULT_CAPABILITIES - {"CAP_CHOWN"}),
        (["CHOWN"], ["all"], frozenset({"CAP_CHOWN"})),
        ([], ["ALL"], frozenset()),
        (["ALL"], [], EVERY),
        (["all"], ["NET_RAW"], EVERY - {"CAP_NET_RAW"}),
        (["ALL"], ["ALL"], EVERY),
        (["NET_ADMIN"], ["NET_ADMIN"], DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN"}),
    ],
)
def test_capabilities_are_the_defaults_without_what_is_dropped_and_with_what_is_added(
    add: list[str], drop: list[str], kept: frozenset[str]
) -> None:
    assert of(CapAdd=add, CapDrop=drop).privileges.capabilities == kept


@pytest.mark.parametrize(
    ("options", "filtered", "no_new_privileges"),
    [
        (["no-new-privileges"], True, True),
        (["no-new-privileges=true"], True, True),
        (["no-new-privileges:true"], True, True),
        (["no-new-privileges=false"], True, False),
        (["seccomp=unconfined"], False, False),
        (["seccomp:unconfined"], False, False),
        (["seccomp=builtin"], True, False),
        (["apparmor=unconfined", "apparmor=docker-default", "label=disable"], True, False),
        (["label:disable", "seccomp=unconfined", "no-new-privileges"], False, True),
    ],
)
def test_security_options(options: list[str], filtered: bool, no_new_privileges: bool) -> None:
    found = of(SecurityOpt=options).privileges
    assert (found.filtered, found.no_new_privileges) == (filtered, no_new_privileges)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("apparmor=mine", f"--security-opt apparmor is refused: {_REFUSED_OPTIONS['apparmor']}"),
        ("label=user:me", "--security-opt label is refused: labels of SELinux are not applied"),
        ("systempaths=masked", "--security-opt systempaths is refused: systempaths=unconfined is all there is"),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ("pumpkin", "invalid --security-opt 1: 'pumpkin'"),
        ("pumpkin:pie", 'invalid --security-opt 2: "pumpkin:pie"'),
    ],
)
def test_security_options_that_are_none(option: str, message: str) -> None:
    assert refusal(SecurityOpt=[option]) == message


def test_what_is_not_done_says_so_and_what_is_no_option_is_another_fault() -> None:
    with pytest.raises(NotDoneError):
        of(SecurityOpt=["systempaths=masked"])
    with pytest.raises(InvalidRequestError) as refused:
        of(SecurityOpt=["pumpkin"])
    assert not isinstance(refused.value, NotDoneError)


@pytest.mark.parametrize(
    ("limit", "taken"),
    [
        ({"Name": "nofile", "Soft": 1, "Hard": 1}, ("nofile", 1, 1)),
        ({"Name": "nofile", "Soft": 1, "Hard": 2}, ("nofile", 1, 2)),
        ({"Name": "core", "Soft": 5, "Hard": -1}, ("core", 5, -1)),
        ({"Name": "core", "Soft": -1, "Hard": -1}, ("core", -1, -1)),
    ],
)
def test_ulimits(limit: dict[str, Any], taken: tuple[str, int, int]) -> None:
    assert of(Ulimits=[limit, {"Name": "cpu"}]).ulimits == (taken, ("cpu", 0, 0))


@pytest.mark.parametrize(("soft", "hard"), [(2, 1), (-1, 5)])
def test_soft_limit_is_never_above_the_hard_one(soft: int, hard: int) -> None:
    message = refusal(Ulimits=[{"Name": "nofile", "Soft": soft, "Hard": hard}])
    assert message == f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, {"policy": "no", "maximum": 0}),
        ({"Name": "always"}, {"policy": "always", "maximum": 0}),
        ({"Name": "unless-stopped"}, {"policy": "unless-stopped", "maximum": 0}),
        ({"Name": "on-failure", "MaximumRetryCount": 3}, {"policy": "on-failure", "maximum": 3}),
    ],
)
def test_policies(policy: dict[str, Any], kept: dict[str, Any]) -> None:
    found = of(RestartPolicy=policy)
    assert found.restart == kept
    assert found.document["RestartPolicy"] == {"Name": kept["policy"], "MaximumRetryCount": kept["maximum"]}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "maximum retry count cannot be negative"),
        ({"Name": "no", "MaximumRetryCount": 1}, "maximum retry count can only be used with 'on-failure'"),
        ({"Name": "NO"}, "unknown policy 'NO'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
    ],
)
def test_policies_that_are_none(policy: dict[str, Any], message: str) -> None:
    assert refusal(RestartPolicy=policy) == f"invalid restart policy: {message}"


@pytest.mark.parametrize(
    ("config", "log"),
    [
        ({"Type": "local"}, {"driver": "local", "max_size": 20 << 20, "max_file": 5}),
        ({"Type": "none"}, {"driver": "none", "max_size": 20 << 20, "max_file": 5}),
        ({"Config": {"max-size": "10k"}}, {"driver": "json-file", "max_size": 10 << 10, "max_file": 5}),
        ({"Config": {"max-size": "1", "max-file": "1"}}, {"driver": "json-file", "max_size": 1, "max_file": 1}),
        ({"Config": {"max-size": "-1"}}, {"driver": "json-file", "max_size": -1, "max_file": 5}),
    ],
)
def test_logs(config: dict[str, Any], log: dict[str, Any]) -> None:
    found = of(LogConfig=config)
    assert found.log == log
    assert found.document["LogConfig"] == {"Type": log["driver"], "Config": config.get("Config", {})}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Config": {"max-file": "0"}}, "max-file and max-size must be positive"),
        ({"Config": {"max-size": "0"}}, "max-file and max-size must be positive"),
        ({"Config": {"max-file": "-1"}}, "max-file and max-size must be positive"),
        ({"Config": {"max-file": "1k"}}, "invalid value for max-file: 1k"),
        ({"Config": {"max-size": "much"}}, "invalid value for max-size: much"),
        ({"Type": "none", "Config": {"max-file": "1"}}, "unknown log opt 'max-file' for none log driver"),
        ({"Config": {"compress": "true"}}, "log opt 'compress' is not done: max-size and max-file are"),
        ({"Type": "local", "Config": {"pumpkin": "1"}}, "unknown log opt 'pumpkin' for local log driver"),
    ],
)
def test_logs_that_cannot_be(config: dict[str, Any], message: str) -> None:
    assert refusal(LogConfig=config) == message


def test_networks_by_all_their_names() -> None:
    for mode in (None, "", "default", "bridge"):
        found = of(NetworkMode=mode)
        assert (found.network.mode, found.document["NetworkMode"]) == ("bridge", "bridge")
    for mode in ("none", "front", "containers"):
        found = of(NetworkMode=mode)
        assert (found.network.mode, found.document["NetworkMode"]) == (mode, mode)


def test_further_hosts() -> None:
    assert of(ExtraHosts=["a:1.2.3.4", "b:[::1]", "c:2001:db8::1"]).network.extra_hosts == (
        ("a", "1.2.3.4"), ("b", "::1"), ("c", "2001:db8::1"),
    )  # fmt: skip
    for entry in (":1.2.3.4", "a:", "a b:1.2.3.4", "a:1.2.3.4\n"):
        assert refusal(ExtraHosts=[entry]) == f'bad format for add-host: "{entry}"'
    found = of(ExtraHosts=["me:host-gateway"]).network
    assert (found.extra_hosts, found.host_gateway) == ((("me", "169.254.1.2"),), True)


@pytest.mark.parametrize(
    ("name", "harmless", "other"),
    [
        ("IpcMode", "shareable", "host"),
        ("PidMode", "private", "host"),
        ("CgroupnsMode", "private", "host"),
        ("Runtime", "runc", "kata"),
        ("VolumeDriver", "local", "nfs"),
        ("UsernsMode", "private", "keep-id"),
        ("Isolation", "default", "hyperv"),
        ("OomKillDisable", False, True),
        ("CgroupParent", "", "/mine"),
    ],
)
def test_value_that_changes_nothing_is_taken_and_any_other_is_refused(
    name: str, harmless: object, other: object
) -> None:
    assert of(**{name: harmless}).warnings == ()
    assert refusal(**{name: other}).startswith(f"HostConfig.{name} is refused: ")


def test_document_shows_what_was_asked_for_and_what_is_so_anyway() -> None:
    found = of(Runtime="runc", IpcMode="shareable", Annotations={"a": "b"}, Init=True, Squash=1, Binds=None).document
    assert (found["Runtime"], found["IpcMode"], found["CgroupnsMode"]) == ("shiplap", "shareable", "private")
    assert (found["Annotations"], found["Init"]) == ({"a": "b"}, True)
    assert "Squash" not in found
    assert (found["Binds"], of(IpcMode="").document["IpcMode"]) == (None, "private")


def test_container_that_removes_itself_is_not_restarted() -> None:
    wanted = "can't create 'AutoRemove' container with restart policy"
    assert refusal(AutoRemove=True, RestartPolicy={"Name": "on-failure"}) == wanted
    assert of(AutoRemove=True, RestartPolicy={"Name": "no"}).auto_remove
