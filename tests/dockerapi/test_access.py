"""Who connects is whose engine it is; and nothing that a member of the group asks for makes root of the host.

The users and the group are in files that only the API's process sees: nobody is added to this host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from containers.keeper.nursery_client import nursery
from dockerapi.turns import MOST_FOLLOWERS, MOST_OPEN
from engine import hostconfig
from engine.places import Places
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

MEMBER, OTHER, STRANGER, GROUP = 54321, 54322, 54323, 54399
_FILES = {
    "passwd": "".join(f"u{uid}:x:{uid}:{uid}::/nowhere:/bin/sh\n" for uid in (MEMBER, OTHER, STRANGER)),
    "group": f"shiplap:x:{GROUP}:u{MEMBER},u{OTHER}\n" + "".join(f"u{n}:x:{n}:\n" for n in (MEMBER, OTHER, STRANGER)),
}


class House:
    """An engine's API that several people use."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def docker(
        self, uid: int, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """docker's command line as somebody, who is in the group as far as the kernel is asked."""
        who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={GROUP}", "--inh-caps=-all"] if uid else []
        ran = subprocess.run(
            [*who, "docker", *words],
            input=stdin,
            capture_output=True,
            env={**self.api.environment, "HOME": "/nowhere", "DOCKER_CONFIG": "/nowhere", **(env or {})},
            cwd="/",
            timeout=stretched(120),
        )
        return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def connect(self, uid: int) -> socket.socket:
        """A connection of somebody's: who connects counts."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(stretched(60))
        try:
            os.setegid(GROUP)
            os.seteuid(uid)
            client.connect(str(self.api.socket))
        finally:
            os.seteuid(0)
            os.setegid(0)
        return client

    def ask(self, uid: int, body: object, path: str = "/containers/create") -> tuple[int, dict[str, Any]]:
        """A POST as somebody; the status, and the document."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        with self.connect(uid) as client:
            client.sendall(head.encode() + data)
            with client.makefile("rb") as file:
                answer = file.read()
        first, _, rest = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), json.loads(rest)

    def run(self, *options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
        """A container of the member's, to its end."""
        return self.docker(MEMBER, "run", "--rm", *options, "bb", "sh", "-c", command)


@pytest.fixture(scope="module")
def house(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="shiplap-house-", dir="/tmp"))
    folder.chmod(0o755)
    # The directory is covered, not its files: whoever renames another /etc/passwd into place uncovers such a file.
    shutil.copytree("/etc", folder / "etc", symlinks=True)
    for name, more in _FILES.items():
        with open(folder / "etc" / name, "a") as file:
            file.write(more)
    for name in ("subuid", "subgid"):
        (folder / "etc" / name).write_text(f"u{MEMBER}:700000000:65536\nu{OTHER}:700065536:65536\n")
    shiplap = Shiplap(tmp_path_factory.mktemp("house") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    api = Api(shiplap, folder)
    api.start(prefix=("unshare", "--mount", "sh", "-ec", f'mount --bind {folder}/etc /etc; exec "$@"', "sh"))
    house = House(api)
    try:
        for uid in (MEMBER, OTHER):
            loaded = house.docker(uid, "import", "-", "bb", stdin=busybox_tar.read_bytes())
            assert loaded.returncode == 0, loaded.stderr + api.log()
        yield house
    finally:
        for uid in (MEMBER, OTHER):
            for identity in house.docker(uid, "ps", "-aq").stdout.split():
                house.docker(uid, "rm", "-f", "-v", identity)
        api.stop()
        for uid in (MEMBER, OTHER):
            places = Places.of(shiplap.root / "users" / str(uid))
            if (places.run / "nursery.sock").exists():
                with nursery(str(places.root), str(places.run), finish=[]) as conversation:
                    conversation.ask("end")
            shutil.rmtree(places.run, ignore_errors=True)
        shutil.rmtree(folder)


def test_each_caller_has_an_engine_of_their_own(house: House) -> None:
    made = house.docker(MEMBER, "create", "--name", "same", "bb", "true")
    assert made.returncode == 0, made.stderr
    assert house.docker(OTHER, "create", "--name", "same", "bb", "true").returncode == 0
    identity = made.stdout.strip()
    for uid in (OTHER, 0):
        for words in (("inspect", identity), ("rm", "-f", identity), ("logs", identity), ("cp", f"{identity}:/x", "-")):
            assert "No such" in house.docker(uid, *words).stderr
    assert house.docker(0, "ps", "-aq").stdout == ""
    assert house.docker(0, "images", "-q", "bb").stdout == ""
    assert house.docker(MEMBER, "images", "-q", BUSYBOX_NAME).stdout == ""
    house.docker(MEMBER, "rm", "same")
    house.docker(OTHER, "rm", "same")


def test_who_is_no_member_has_none(house: House) -> None:
    told = house.docker(STRANGER, "ps")
    assert told.returncode == 1
    assert "is not in the group shiplap" in told.stderr


def test_a_member_who_is_slow_holds_nobody_up(house: House) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(house.connect(MEMBER)) for _ in range(80)]
        for client in slow:
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost:")
        for uid in (OTHER, 0):
            with house.connect(uid) as client:
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                assert client.recv(12).endswith(b"200")
        served = 0
        for client in slow:  # each has its turn, but those that had a thread for too long
            with contextlib.suppress(ConnectionError):
                client.sendall(b" x\r\nConnection: close\r\n\r\n")
                served += client.recv(12).endswith(b"200")
            client.close()
        assert served > len(slow) // 2


def test_a_stranger_is_served_no_builds(house: House) -> None:
    with house.connect(STRANGER) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    for path in ("/grpc", "/session"):
        with house.connect(STRANGER) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 403"


def test_a_member_has_so_many_connections_and_no_more(house: House) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_OPEN):
            stack.enter_context(house.connect(MEMBER))
        assert stack.enter_context(house.connect(MEMBER)).recv(1) == b""
        assert house.docker(OTHER, "ps").returncode == 0
    eventually(lambda: house.docker(MEMBER, "ps").returncode == 0)


def test_a_member_follows_so_much_and_no_more(house: House) -> None:
    with contextlib.ExitStack() as stack:

        def follow() -> bytes:
            client = stack.enter_context(house.connect(MEMBER))
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            return client.recv(12)

        assert {follow() for _ in range(MOST_FOLLOWERS)} == {b"HTTP/1.1 200"}
        assert follow() == b"HTTP/1.1 503"
        told = house.docker(MEMBER, "events", "--since", "1s", "--until", "0s")
        assert "end some of them" in told.stderr
        assert house.docker(OTHER, "events", "--since", "1s", "--until", "0s").returncode == 0
    eventually(lambda: house.docker(MEMBER, "events", "--since", "1s", "--until", "0s").returncode == 0)


REFUSED = {
    "the host's network": ["--network", "host"],
    "a port below 1024": ["-p", "80:80"],
    "the host's processes": ["--pid", "host"],
    "the host's IPC": ["--ipc", "host"],
    "the host's name": ["--uts", "host"],
    "the host's users": ["--userns", "host"],
    "the host's control groups": ["--cgroupns", "host"],
    "a device": ["--device", "/dev/kmsg"],
    "rules for devices": ["--device-cgroup-rule", "c *:* rwm"],
    "another runtime": ["--runtime", "mine"],
    "a place for control groups": ["--cgroup-parent", "/"],
    "a weight of a disk": ["--blkio-weight-device", "/dev/sda:100"],
    "less of the OOM killer": ["--oom-score-adj", "-500"],
    "options of storage": ["--storage-opt", "size=1G"],
    "a driver of volumes": ["--volume-driver", "mine", "-v", "x:/x"],
    "no limit of memory that ends": ["--oom-kill-disable", "-m", "50m"],
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=list(REFUSED))
def test_what_is_the_hosts_is_refused(house: House, options: list[str]) -> None:
    ran = house.run(*options, command="id; cat /proc/self/uid_map")
    assert ran.returncode == 125, (ran.stdout, ran.stderr)
    assert ran.stdout == ""
    assert "Error response from daemon" in ran.stderr
    assert "No such image" not in ran.stderr


HOSTS: dict[str, object] = {
    "Binds": ["/:/h:shared"],
    "Cgroup": "container:x",
    "CgroupParent": "../..",
    "CgroupnsMode": "host",
    "CpuRealtimeRuntime": 950000,
    "DeviceCgroupRules": ["a *:* rwm"],
    "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
    "Devices": [{"PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem", "CgroupPermissions": "rwm"}],
    "IpcMode": "host",
    "Isolation": "hyperv",
    "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "unix:///dev/log"}},
    "Mounts": [{"Type": "bind", "Source": "/", "Target": "/h", "BindOptions": {"Propagation": "rshared"}}],
    "NetworkMode": "host",
    "OomKillDisable": True,
    "OomScoreAdj": -1000,
    "PidMode": "host",
    "PortBindings": {"22/tcp": [{"HostPort": "22"}]},
    "Runtime": "/bin/sh",
    "SecurityOpt": ["apparmor=mine"],
    "StorageOpt": {"size": "1"},
    "Sysctls": {"kernel.core_pattern": "|/bin/true"},
    "UTSMode": "host",
    "UsernsMode": "host",
    "VolumeDriver": "mine",
}


@pytest.mark.parametrize("field", HOSTS)
def test_a_field_that_would_be_the_hosts_is_refused_by_its_request(house: House, field: str) -> None:
    status, answer = house.ask(MEMBER, {"Image": "bb", "Cmd": ["true"], "HostConfig": {field: HOSTS[field]}})
    assert status == 400, answer
    assert list(answer) == ["message"]


def test_a_field_that_nobody_knows_is_told(house: House) -> None:
    status, answer = house.ask(MEMBER, {"Image": "bb", "Cmd": ["true"], "HostConfig": {"FutureField": {"a": 1}}})
    assert (status, len(answer["Warnings"])) == (201, 1)
    assert "HostConfig.FutureField" in answer["Warnings"][0]
    house.docker(MEMBER, "rm", answer["Id"])


WRONG: tuple[object, ...] = (None, 1, "x", [], [1], {"a": 1}, True, "\0", 1 << 70, -1, [None], [{}], {"": ""})


@pytest.mark.parametrize(
    "field", [*HOSTS, "Tmpfs", "Ulimits", "CapAdd", "Memory", "RestartPolicy", "ExtraHosts", "Links"]
)
def test_values_of_wrong_types_are_the_senders_fault(house: House, field: str) -> None:
    for value in WRONG:
        status, answer = house.ask(MEMBER, {"Image": "bb", "Cmd": ["true"], "HostConfig": {field: value}})
        assert status in (201, 400), (value, answer)
        if status == 201:
            house.docker(MEMBER, "rm", answer["Id"])


ATTACKS: dict[str, object] = {
    "Annotations": {"io.kubernetes.cri.untrusted": "x"},
    "AutoRemove": True,
    "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1}],
    "BlkioDeviceReadIOps": [{"Path": "/dev/mem", "Rate": 1}],
    "BlkioDeviceWriteBps": [{"Path": "/etc/shadow", "Rate": 1}],
    "BlkioDeviceWriteIOps": [{"Path": "/proc/1/mem", "Rate": 1}],
    "BlkioWeight": 1000,
    "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 1000}],
    "CapAdd": ["ALL"],
    "CapDrop": ["ALL", "SYS_ADMIN"],
    "ConsoleSize": [65535, 65535],
    "ContainerIDFile": "/etc/cron.d/x",
    "CpuPeriod": 1000000,
    "CpuQuota": 1000,
    "CpuShares": 262144,
    "CpusetCpus": "0-9999",
    "CpusetMems": "0-9999",
    "Dns": ["127.0.0.1", "::1"],
    "DnsOptions": ["x\nnameserver 1.2.3.4"],
    "DnsSearch": ["x\nnameserver 1.2.3.4"],
    "ExtraHosts": ["x:127.0.0.1\n0.0.0.0 y"],
    "GroupAdd": ["0", "shadow", "disk"],
    "Init": True,
    "Links": ["/nobody:x"],
    "MaskedPaths": [],
    "Memory": 1 << 62,
    "MemoryReservation": 1 << 62,
    "MemorySwap": -1,
    "MemorySwappiness": 100,
    "NanoCpus": 1 << 62,
    "PidsLimit": -1,
    "Privileged": True,
    "PublishAllPorts": True,
    "ReadonlyPaths": [],
    "ReadonlyRootfs": False,
    "RestartPolicy": {"Name": "always"},
    "ShmSize": 1 << 50,
    "Tmpfs": {"/proc": "suid,dev,exec", "/sys": "suid,dev"},
    "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "nofile", "Soft": 1 << 30, "Hard": 1 << 30}],
    "VolumesFrom": ["/nobody"],
}
"""Of each other field that is known, what would do the most harm if it were taken at its word."""


def test_every_field_of_a_host_config_is_attacked() -> None:
    known = {*hostconfig.DEFAULTS, *hostconfig._DONE, *hostconfig._NOTED, *hostconfig._REFUSED}
    windows = {"CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"}
    harmless = {"Capabilities", "CpuRealtimePeriod", "KernelMemory", "KernelMemoryTCP"}  # refused by any value
    assert known == {*HOSTS, *ATTACKS, *windows, *harmless}


@pytest.mark.parametrize("field", ATTACKS)
def test_no_field_makes_root_of_the_host(house: House, field: str) -> None:
    """Where such a value is taken at all, the container's root is nobody outside, and reaches nothing of root's."""
    script = "cat /proc/self/uid_map; cat /h/etc/shadow; echo x >/h/etc/planted; echo x >/proc/sysrq-trigger; echo end"
    host = {"Binds": ["/:/h"], field: ATTACKS[field]}
    status, answer = house.ask(MEMBER, {"Image": "bb", "Cmd": ["sh", "-c", script], "HostConfig": host})
    assert status in (201, 400), answer
    if status == 201:
        started = house.docker(MEMBER, "start", answer["Id"])
        if started.returncode == 0:
            eventually(lambda: "end" in house.docker(MEMBER, "logs", answer["Id"]).stdout)
            told = house.docker(MEMBER, "logs", answer["Id"]).stdout
            assert int(told.split()[1]) >= 0x70000000
            assert "root:" not in told
        house.docker(MEMBER, "rm", "-f", answer["Id"])
    assert not Path("/etc/planted").exists()
    assert not Path("/etc/cron.d/x").exists()


def test_a_socket_in_a_container_is_the_members_engine(house: House) -> None:
    script = """
import http.client, json, socket
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
engine = Engine("x")
engine.request("GET", "/containers/json?all=1")
print(json.dumps([each["Names"][0] for each in json.loads(engine.getresponse().read())]))
"""
    house.docker(0, "create", "--name", "roots", BUSYBOX_NAME, "true")
    house.docker(OTHER, "create", "--name", "others", "bb", "true")
    binds = [word for place in ("/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro") for word in ("-v", place)]
    binds += ["-v", f"{house.api.socket}:/var/run/docker.sock", "--privileged", "--name", "mine"]
    ran = house.docker(MEMBER, "run", *binds, "bb", "/usr/bin/python3", "-c", script)
    assert ran.stdout == '["/mine"]\n', ran.stderr
    house.docker(MEMBER, "rm", "mine")
    house.docker(0, "rm", "roots")
    house.docker(OTHER, "rm", "others")


MIGHTY = [[], ["--privileged"], ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"]]


@pytest.fixture
def treasure(house: House) -> Iterator[Path]:
    """A directory of root's with a file that is nobody else's, below a way that everybody may walk."""
    place = house.api.folder / "treasure"
    place.mkdir(mode=0o700)
    (place / "gold").write_text("gold")
    os.chmod(place / "gold", 0o600)
    open_file = house.api.folder / "sealed"
    open_file.write_text("as it was")
    os.chmod(open_file, 0o600)
    yield place
    assert (place / "gold").read_text() == "gold"
    assert sorted(os.listdir(place)) == ["gold"]
    assert open_file.read_text() == "as it was"
    shutil.rmtree(place)
    open_file.unlink()


@pytest.mark.parametrize("options", MIGHTY, ids=["plain", "privileged", "all capabilities"])
@pytest.mark.parametrize("user", ["0", "54321", "1"])
def test_a_bind_of_the_host_reaches_what_the_member_reaches(
    house: House, options: list[str], user: str, treasure: Path
) -> None:
    script = f"""
        cat /f/treasure/gold; cat /f/sealed; echo x >/f/sealed; echo x >/f/treasure/new; rm -f /f/treasure/gold
        cat /h/etc/shadow; chmod 777 /f/treasure; mv /f/treasure /f/taken
        cp /bin/busybox /h/usr/bin/planted; chown 0:0 /f; mount -o remount,suid,dev /h
        nsenter -t 1 -m cat {treasure}/gold; echo all tried
    """
    binds = ("-v", f"{treasure.parent}:/f", "--mount", "type=bind,source=/,target=/h,bind-nonrecursive")
    ran = house.run(*options, "-u", user, *binds, command=script)
    assert "all tried" in ran.stdout, ran.stderr
    assert "gold" not in ran.stdout.replace(str(treasure), "")
    assert "as it was" not in ran.stdout
    assert "root:" not in ran.stdout
    assert not Path("/usr/bin/planted").exists()


def test_a_bind_by_a_volumes_options_is_the_members_too(house: House, treasure: Path) -> None:
    made = house.docker(
        MEMBER, "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={treasure}", "trick"
    )
    ran = house.run("--privileged", "-v", "trick:/t", command="ls /t; cat /t/gold; echo x >/t/new")
    assert made.returncode or ran.returncode
    assert "gold" not in ran.stdout
    house.docker(MEMBER, "volume", "rm", "-f", "trick")


@pytest.mark.parametrize("options", MIGHTY, ids=["plain", "privileged", "all capabilities"])
def test_a_containers_root_is_nobody_on_the_host(house: House, options: list[str]) -> None:
    script = """
        echo pattern >/proc/sys/kernel/core_pattern && echo WROTE
        echo b >/proc/sysrq-trigger && echo WROTE
        echo 1 >/sys/kernel/profiling && echo WROTE
        mknod /disk b 8 0 && cat /disk >/dev/null && echo WROTE
        mkdir -p /c && mount -t cgroup -o memory cgroup /c && echo x >/c/release_agent && echo WROTE
        kill -0 1 2>/dev/null; cat /proc/self/uid_map
    """
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    ran = house.run(*options, command=script)
    assert "WROTE" not in ran.stdout, ran.stdout
    assert int(ran.stdout.split()[1]) >= 0x70000000
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_a_setuid_file_that_a_container_makes_is_out_of_reach(house: House) -> None:
    house.docker(MEMBER, "volume", "create", "kept")
    ran = house.run("-v", "kept:/v", command="cp /bin/busybox /v/su; chown 0:0 /v/su; chmod 4755 /v/su")
    assert ran.returncode == 0, ran.stderr
    found = house.docker(MEMBER, "volume", "inspect", "-f", "{{.Mountpoint}}", "kept").stdout.strip()
    assert os.stat(f"{found}/su").st_mode & 0o4000
    who = ["setpriv", f"--reuid={MEMBER}", f"--regid={MEMBER}", f"--groups={GROUP}"]
    assert subprocess.run([*who, f"{found}/su", "id"], capture_output=True, check=False, cwd="/").returncode
    house.docker(MEMBER, "volume", "rm", "kept")


def test_ps_of_top_has_the_members_rights(house: House) -> None:
    made = house.docker(MEMBER, "run", "-d", "-e", "SECRET=hidden", "--name", "seen", "bb", "sleep", "1000")
    assert made.returncode == 0, made.stderr
    told = house.docker(MEMBER, "top", "seen", "-eo", "pid,args", "e")
    assert "sleep 1000" in told.stdout, told.stderr
    assert "hidden" not in told.stdout
    house.docker(MEMBER, "rm", "-f", "seen")


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_cp_follows_no_link_out_of_a_container(house: House, state: str, treasure: Path) -> None:
    script = f"ln -s {treasure} /way; ln -s /proc/1/root{treasure} /other; ln -s {treasure}/gold /file; sleep 1000"
    begun = house.docker(
        MEMBER, "run", "-d", "--name", "links", "-v", f"{treasure.parent}:/f", "bb", "sh", "-c", script
    )
    assert begun.returncode == 0, begun.stderr
    eventually(lambda: "/file" in house.docker(MEMBER, "diff", "links").stdout)
    if state == "stopped":
        house.docker(MEMBER, "stop", "-t", "0", "links")
    for path in ("/way/gold", "/other/gold", "/file/", "/f/treasure/gold", "/../../etc/shadow"):
        told = house.docker(MEMBER, "cp", "-L", f"links:{path}", "-")
        assert "gold" not in told.stdout or "gold\0" in told.stdout, path
        assert "root:" not in told.stdout
    for path in ("/way", "/other", "/f/treasure"):
        house.docker(MEMBER, "cp", "-", f"links:{path}", stdin=_tar_with("new"))
    house.docker(MEMBER, "rm", "-f", "links")


def _tar_with(name: str) -> bytes:
    import io
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def test_a_members_build_reads_nothing_of_roots(house: House, treasure: Path) -> None:
    import io
    import tarfile

    texts = (
        f"FROM bb\nRUN echo works; cat {treasure}/gold || true",
        "FROM bb\nCOPY way /got\nRUN cat /got",
        "FROM bb\nCOPY dir/gold /got\nRUN cat /got",
        f"FROM bb\nADD file://{treasure}/gold /got\nRUN cat /got",
        f"FROM bb\nADD file://{treasure.parent}/sealed /got\nRUN cat /got",
        f"FROM bb\nRUN --mount=type=bind,source=way,target=/m cat /m; cat {treasure}/gold",
        "FROM bb\nRUN --security=insecure cat /proc/1/environ",
        "FROM bb\nRUN --network=host id",
    )
    for text in texts:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
            for name, target in (("way", f"{treasure}/gold"), ("dir", str(treasure))):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)
        ran = house.docker(MEMBER, "build", "--no-cache", "-", stdin=file.getvalue(), env={"DOCKER_BUILDKIT": "0"})
        told = ran.stdout.replace(text, "").replace(f"{treasure}/gold", "").replace("/gold", "")
        assert "gold" not in told, (text, ran.stdout)
        assert "as it was" not in told, (text, ran.stdout)
        if "echo works" in text:
            assert "Successfully built" in ran.stdout, ran.stderr
