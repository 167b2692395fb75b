"""Creating containers: docker's body in, docker's documents out; what is not done is refused; a kill leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containers.keeper import eventlog
from core.errors import StorageFullError
from engine import locking, making, removing, spec
from engine.engine import Engine
from engine.errors import (
    ConflictError,
    ContainerNotFoundError,
    InvalidRequestError,
    NameInUseError,
    NoSuchImageError,
    NotDoneError,
)
from engine.hostconfig import DEFAULTS
from engine.places import Places
from images.store import Store
from images.trees import remove_tree
from tests.toolkit.bounds import stretched


def asked(**host: Any) -> dict[str, Any]:
    return {"Image": "app", "HostConfig": host}


def test_a_container_is_made_of_the_body_over_the_image(engine: Engine) -> None:
    body = {"Image": "app", "Env": ["LANG=de", "A=b"], "Labels": {"my": "own"}, "User": "7:8", "Tty": True}
    made = engine.create("one", body)
    assert made.warnings == []
    document = engine.inspect("one")
    assert (document["Id"], document["Name"], document["Path"], document["Args"]) == (
        made.id, "/one", "serve", ["--now"],
    )  # fmt: skip
    config = document["Config"]
    assert config["Env"] == ["LANG=de", "A=b", "PATH=/bin"]  # as docker: what is asked for, then the image's others
    assert config["Labels"] == {"of": "image", "my": "own"}
    assert (config["Hostname"], config["StopSignal"], config["Image"]) == (made.id[:12], "SIGINT", "app")
    assert document["State"]["Status"] == "created"
    assert document["HostConfig"] == dict(DEFAULTS)
    kept = spec.read(engine.directory("one"))
    assert kept["stop"] == {"signal": 2, "timeout_s": 10}
    assert kept["process"]["env"] == [
        ["HOSTNAME", made.id[:12]], ["TERM", "xterm"], ["LANG", "de"], ["A", "b"], ["PATH", "/bin"],
    ]  # fmt: skip
    assert [event["action"] for event in eventlog.read(str(engine.places.run))] == ["create"]


@pytest.mark.parametrize(
    ("body", "args"),
    [
        ({"Cmd": ["x"]}, ["x"]),
        ({"Entrypoint": ["e"]}, ["e"]),  # the image's command is not for another entrypoint
        ({"Entrypoint": ["e"], "Cmd": ["x"]}, ["e", "x"]),
        ({"Entrypoint": [""], "Cmd": ["x"]}, ["x"]),
        ({"Entrypoint": [], "Cmd": None}, ["serve", "--now"]),
        ({"Cmd": "x y"}, ["x y"]),
    ],
)
def test_entrypoint_and_command_as_docker_merges_them(engine: Engine, body: dict[str, Any], args: list[str]) -> None:
    engine.create("one", {"Image": "app", **body})
    document = engine.inspect("one")
    assert [document["Path"], *document["Args"]] == args


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 8 << 20, "MemorySwap": 7 << 20}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"MemorySwap": 8 << 20}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"NanoCpus": 1, "CpuQuota": 2000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 10**15}, "Range of CPUs is from 0.01 to"),
        ({"RestartPolicy": {"Name": "often"}}, "invalid restart policy: unknown policy 'often'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}, "can only be used with 'on-failure'"),
        ({"AutoRemove": True, "RestartPolicy": {"Name": "always"}}, "can't create 'AutoRemove' container with restart"),
        ({"CapAdd": ["NOTHING"]}, 'invalid CapAdd: unknown capability: "CAP_NOTHING"'),
        ({"LogConfig": {"Type": "syslog"}}, "no log driver named 'syslog' is registered"),
        ({"LogConfig": {"Config": {"max-pumpkin": "1"}}}, "unknown log opt 'max-pumpkin' for json-file"),
        ({"SecurityOpt": ["pumpkin=1"]}, 'invalid --security-opt 2: "pumpkin=1"'),
        ({"Ulimits": [{"Name": "pumpkins"}]}, "invalid ulimit type: pumpkins"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "must be less than or equal to hard limit: 2 > 1"),
        ({"ExtraHosts": ["nothing"]}, 'bad format for add-host: "nothing"'),
        ({"Binds": ["/a"]}, "invalid volume specification: '/a'"),
        ({"Binds": ["/tmp:/a:pumpkin"]}, "invalid mode: pumpkin"),
        ({"Binds": ["v:/a"]}, "volume name is too short"),
        ({"Binds": ["/tmp:a"]}, "mount path must be absolute"),
        ({"Binds": ["/tmp:/"]}, "destination can't be '/'"),
        ({"Binds": ["vv:/a", "ww:/a/"]}, "Duplicate mount point: /a"),
        ({"Mounts": [{"Type": "bind", "Source": "/no/where", "Target": "/a"}]}, "bind source path does not exist"),
        ({"CpusetCpus": "0-4000"}, "Requested CPUs are not available - requested 0-4000"),
        ({"CpusetMems": "x"}, "Invalid value x for cpuset mems"),
        ({"MemoryReservation": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 8 << 20, "MemoryReservation": 9 << 20}, "can not be less than memory reservation limit"),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"BlkioWeight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]}, "no block device: /dev/null"),
        ({"OomScoreAdj": 1001}, "range for oom score adj is [-1000, 1000]"),
        ({"Sysctls": {"kernel.panic": "1"}}, "it is the host's"),
        ({"Sysctls": {"net/../kernel/panic": "1"}}, "invalid sysctl"),
        ({"Devices": [{"PathOnHost": "/no/where"}]}, "error gathering device information"),
        ({"Devices": [{"PathOnHost": "/etc/passwd"}]}, "not a device node"),
        ({"SecurityOpt": ["seccomp={}"]}, "seccomp profile: action ''"),
        ({"SecurityOpt": ["seccomp=/etc/passwd"]}, "the profile itself is wanted"),
        ({"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":7}']}, "expected a list"),
        ({"Memory": "much"}, "body.HostConfig.Memory is a text, expected a whole number"),
        ({"CapAdd": "ALL", "Ulimits": "many"}, "body.HostConfig.Ulimits is a text, expected a list"),
    ],
)
def test_what_makes_no_sense_is_refused_in_dockers_words(engine: Engine, host: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        engine.create("one", asked(**host))
    assert message in refused.value.message
    assert engine.containers(every=True) == []
    assert engine.volumes.listed()["Volumes"] == []


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "r"}]}, "for reading and writing"),
        ({"DeviceCgroupRules": ["c 1:3 rwm"]}, "nobody makes device nodes"),
        ({"DeviceRequests": [{"Count": -1}]}, "GPUs are not looked for"),
        ({"OomKillDisable": True}, "would hang for ever"),
        ({"PidMode": "host"}, "sees no process of the host's"),
        ({"IpcMode": "host"}, "reaches no memory of the host's processes"),
        ({"UsernsMode": "host"}, "docs/volumes.md has who is"),
        ({"SecurityOpt": ["apparmor=mine"]}, "profiles of AppArmor are not applied"),
        ({"MaskedPaths": ["/etc"]}, "paths of one's own are not done"),
        ({"Binds": ["/tmp:/a:shared"]}, "'shared' is refused"),
        ({"PortBindings": {"80/sctp": [{"HostPort": "80"}]}}, "ports of the protocol sctp"),
    ],
)
def test_what_docker_has_and_this_engine_does_not_do_is_refused_with_a_reason(
    engine: Engine, host: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NotDoneError) as refused:
        engine.create("one", asked(**host))
    assert reason in refused.value.message


def test_what_dockers_command_line_sends_with_every_create_is_accepted(engine: Engine) -> None:
    """As docker 26's CLI sends it for ``docker create app``: most of it says nothing."""
    host = {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
        "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False,
        "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [24, 80], "CapAdd": None, "CapDrop": None,
        "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": None, "GroupAdd": None,
        "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
        "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
        "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0,
        "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
        "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0,
        "MemorySwappiness": -1, "OomKillDisable": False, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0,
        "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": None, "ReadonlyPaths": None,
    }  # fmt: skip
    networks = {"EndpointsConfig": {"default": {"IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": ""}}}
    made = engine.create("one", {"Image": "app", "Volumes": {}, "HostConfig": host, "NetworkingConfig": networks})
    assert made.warnings == []


def test_a_field_that_nobody_knows_is_named_in_a_warning(engine: Engine) -> None:
    made = engine.create("one", {"Image": "app", "Pumpkin": 1, "HostConfig": {"Squash": True}})
    assert made.warnings == [
        "Pumpkin is not known to this engine, and is passed over",
        "HostConfig.Squash is not known to this engine, and is passed over",
    ]


def test_every_field_of_dockers_host_config_is_done_noted_or_refused() -> None:
    from engine import hostconfig

    tables = (hostconfig._DONE, hostconfig._NOTED, frozenset(hostconfig._REFUSED))
    assert set(DEFAULTS) <= set().union(*tables)
    assert sum(map(len, tables)) == len(set().union(*tables))  # none stands in two


def test_names_are_unique_and_made_up_where_none_is_given(engine: Engine) -> None:
    first = engine.create("one", asked())
    with pytest.raises(NameInUseError) as refused:
        engine.create("/one", asked())
    assert refused.value.message == (
        f'Conflict. The container name "/one" is already in use by container "{first.id}". You have to remove (or'
        " rename) that container to be able to reuse that name."
    )
    assert [path.name for path in engine.places.containers.iterdir()] == [first.id]  # nothing stays of the second
    with Store.open(engine.places.root) as store:
        assert store.pinned.holders() == [first.id]
    with pytest.raises(InvalidRequestError, match=r"Invalid container name \(o!e\), only"):
        engine.create("o!e", asked())
    other = engine.create(None, asked())
    (name,) = (found["Names"][0] for found in engine.containers(every=True) if found["Id"] == other.id)
    assert name.count("_") == 1
    assert engine.inspect(name)["Id"] == engine.inspect(other.id[:10])["Id"] == other.id


def test_ids_are_found_by_their_beginning_unless_several_begin_so(engine: Engine) -> None:
    ids = [engine.create(None, asked()).id for _ in range(17)]  # two of them begin with the same digit
    twice = next(digit for digit in "0123456789abcdef" if sum(each.startswith(digit) for each in ids) > 1)
    with pytest.raises(ConflictError, match=f"multiple IDs found with provided prefix: {twice}"):
        engine.inspect(twice)
    for wrong in ("", "nobody", "0" * 64, "%", "../x"):
        with pytest.raises(ContainerNotFoundError):
            engine.inspect(wrong)


def test_an_image_that_is_not_here_is_none(engine: Engine) -> None:
    with pytest.raises(NoSuchImageError, match="No such image: nix:latest"):
        engine.create("one", {"Image": "nix"})
    with pytest.raises(InvalidRequestError, match="no image specified"):
        engine.create("one", {})


def test_what_a_container_is_made_of_stays_until_it_is_removed(engine: Engine) -> None:
    made = engine.create("one", asked())
    with Store.open(engine.places.root) as store:
        assert store.images.remove("app", force=True) == ["Untagged: app:latest"]
    with Store.open(engine.places.root) as store:
        store.images.prune(all_unused=True, cache=True)
        image = store.images.get(store.images.list()[0].id)
        assert store.pinned.holders_of(image.id) == [made.id]
    engine.remove("one")
    assert not engine.places.container(made.id).exists()
    with Store.open(engine.places.root) as store:
        assert store.pinned.holders() == []
        store.images.prune(all_unused=True)
        assert store.images.list() == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from engine.engine import Engine
from engine.places import Places

left = int(sys.argv[3])

def counting(name, arguments):
    global left
    if name in ("os.rename", "os.mkdir", "open", "sqlite3.connect", "os.remove", "os.rmdir", "os.chmod") and (
        "root" in str(arguments[:2])
    ):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Engine(Places(Path(sys.argv[1]), Path(sys.argv[2]))) as engine:
    sys.addaudithook(counting)
    if sys.argv[4] == "create":
        engine.create("victim", {"Image": "app", "Volumes": {"/x": {}}, "HostConfig": {"Binds": ["data:/data"]}})
    else:
        engine.remove("victim", volumes=True)
"""


@pytest.mark.parametrize("what", ["create", "remove"])
def test_a_kill_at_any_instant_is_finished_or_undone_by_the_next(engine: Engine, what: str) -> None:
    places, ended = engine.places, False
    for moment in range(1, 400, 3):
        if what == "remove" and not engine.containers(every=True):
            engine.create("victim", {"Image": "app", "Volumes": {"/x": {}}, "HostConfig": {"Binds": ["data:/data"]}})
        arguments = [str(places.root), str(places.run), str(moment), what]
        killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], timeout=stretched(60))
        known = {row["Id"] for row in engine.containers(every=True)}
        assert len(known) <= 1
        for identity in known:  # what exists is whole
            assert engine.inspect(identity)["Name"] == "/victim"
            if what == "create":
                engine.remove(identity, volumes=True)
        other = engine.create("other", asked())  # which clears away what was left
        left = {path.name for path in places.containers.iterdir()} - {other.id}
        assert left == ({row["Id"] for row in engine.containers(every=True)} - {other.id})
        with Store.open(places.root) as store:
            assert set(store.pinned.holders()) == left | {other.id}
        engine.remove("other")
        volumes = {volume["Name"] for volume in engine.volumes.listed()["Volumes"]} - {"data"}
        assert len(volumes) == len(engine.containers(every=True))  # anonymous ones go with what never was, or is gone
        if killed.returncode == 0:
            ended = True
            break
        assert killed.returncode == -signal.SIGKILL
    assert ended


def test_a_container_whose_lock_is_held_is_not_cleared_away(engine: Engine, places: Places) -> None:
    places.make()
    being_made = places.containers / f".new-{'ab' * 32}"
    being_made.mkdir()
    lock = locking.take(being_made, make=True)
    assert lock is not None
    engine.create("one", asked())
    assert being_made.exists()
    os.close(lock)
    engine.create("two", asked())
    assert not being_made.exists()


@pytest.mark.parametrize("moment", ["before the lock's file", "after it is open"])
def test_a_creator_whose_new_directory_another_clears_away_makes_it_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    taken, left = locking.take, 1

    def take(directory: Path, *, make: bool = False) -> int | None:
        nonlocal left
        if not directory.name.startswith(".new-") or not left:
            return taken(directory, make=make)
        left -= 1
        lock = taken(directory, make=make) if moment.startswith("after") else None
        subprocess.run(["rm", "-r", directory], check=True)
        return lock if lock is not None else taken(directory, make=make)

    monkeypatch.setattr(locking, "take", take)
    made = engine.create("one", asked())
    assert not left
    assert locking.is_held(engine.places.container(made.id)) is False
    assert engine.inspect("one")["Id"] == made.id


def test_a_creator_that_comes_while_its_directory_is_emptied_keeps_its_own(
    engine: Engine, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.make()
    being_made = places.containers / f".new-{'ab' * 32}"
    being_made.mkdir()
    locks: list[int] = []

    def remove(path: str) -> int:
        if not locks:
            (Path(path) / "lock").unlink()
            locks.append(making._locked(being_made))
        return remove_tree(path)

    monkeypatch.setattr(removing, "remove_tree", remove)
    engine.create("one", asked())
    assert locking.is_of(locks[0], being_made)
    os.close(locks[0])


def test_a_lock_that_somebody_makes_in_a_directory_that_goes_keeps_it_from_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.create("one", asked())
    before: list[str] = []

    def remove(path: str) -> int:
        if not before:
            before.append(path)
            shutil.rmtree(path)
            Path(path).mkdir()
            (Path(path) / "lock").touch()
            Path(path).rmdir()  # as the end of remove_tree does
        return remove_tree(path)

    monkeypatch.setattr(removing, "remove_tree", remove)
    engine.remove("one")
    assert before
    assert not Path(before[0]).exists()


def test_a_container_that_lost_its_files_can_be_removed(engine: Engine) -> None:
    engine.create("one", asked())
    subprocess.run(["rm", "-r", engine.directory("one")], check=True)
    assert [row["Names"] for row in engine.containers(every=True)] == [["/one"]]
    with pytest.raises(ConflictError, match="has lost its files"):
        engine.inspect("one")
    engine.remove("one")
    assert engine.containers(every=True) == []


def test_a_full_disk_does_not_keep_a_container_from_being_removed_with_its_volumes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.create("one", asked(Mounts=[{"Type": "volume", "Target": "/v", "VolumeOptions": {"NoCopy": True}}]))
    assert len(engine.volumes.listed()["Volumes"]) == 1

    def full(path: Path, *_: object, **__: object) -> None:
        raise StorageFullError(f"no space left on the disk while writing {path}")

    monkeypatch.setattr(removing, "write_atomically", full)
    engine.remove("one", volumes=True)
    assert engine.containers(every=True) == []
    assert engine.volumes.listed()["Volumes"] == []


def test_what_is_wrong_is_refused_before_there_is_a_container(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="invalid port specification"):
        engine.create("one", asked(NetworkMode="host", PortBindings={"80/tcp": [{"HostPort": "x"}]}))
    with pytest.raises(InvalidRequestError, match="Decoding seccomp profile failed"):
        engine.create("one", asked(SecurityOpt=["seccomp=" + '{"a":' * 100_000]))
    assert engine.containers(every=True) == []


def test_texts_that_are_no_utf_8_survive(engine: Engine) -> None:
    engine.create("one", {"Image": "app", "Cmd": ["printf", "caf\udce9"], "Labels": {"l": "\udcff"}})
    assert engine.inspect("one")["Args"] == ["caf\udce9"]
    assert engine.containers(every=True)[0]["Labels"]["l"] == "\udcff"


def test_documents_are_json(engine: Engine, tmp_path: Path) -> None:
    engine.create("one", {"Image": "app", "HostConfig": {"Binds": [f"{tmp_path}:/here:ro", "data:/data"]}})
    json.dumps([engine.inspect("one", size=True), engine.containers(every=True, sizes=True), engine.info()])
    usage = engine.disk_usage()
    json.dumps(usage)
    assert [volume["UsageData"]["RefCount"] for volume in usage["Volumes"]] == [1]
    assert [image["Containers"] for image in usage["Images"]] == [1]
