"""The engine of an ordinary user: each command works as root's does, or says why it does not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.rootless import subordinate_ids
from tests.toolkit.bounds import eventually
from tests.toolkit.ordinary import User, ordinary_user
from tests.toolkit.shiplap import BUSYBOX_NAME

_SERVE = "echo pong >/index.html; echo ready; exec httpd -f -h / -p 80"


class Home:
    """The user's engine."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.env = {"XDG_RUNTIME_DIR": f"{user.folder}/run"}

    @property
    def run(self) -> Path:
        """RUN of the engine."""
        (found,) = (self.user.folder / "run" / "shiplap").iterdir()
        return found

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.user.shiplap(*arguments, check=check, env=self.env)

    def anchors(self) -> list[int]:
        """The processes that keep the namespaces."""
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                if (
                    os.stat(f"/proc/{name}").st_uid == self.user.uid
                    and Path(f"/proc/{name}/cmdline").read_bytes() == b"sleep\0infinity\0"
                ):
                    found.append(int(name))
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def home(privileged: None, busybox_tar: Path) -> Iterator[Home]:
    """With a network ``app``: ``web`` and ``db`` are in it."""
    with ordinary_user(f"shiplape{os.getpid()}") as user:
        for name in ("run", "home/bound"):
            (user.folder / name).mkdir(mode=0o700)
            user.own(user.folder / name)
        base = user.folder / "home" / "busybox.tar"
        base.write_bytes(busybox_tar.read_bytes())
        user.own(base)
        home = Home(user)
        home("image", "import", "busybox.tar", BUSYBOX_NAME)
        home("network", "create", "app")
        home("run", "-d", "--name", "web", "--network", "app", "-p", "127.0.0.1::80", BUSYBOX_NAME, "sh", "-c", _SERVE)
        home("run", "-d", "--name", "db", "--network", "app", "-v", "data:/data", BUSYBOX_NAME, "sleep", "1000")
        yield home


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ps --format {{.Names}}", r"db\nweb\n"),
        ("logs web", r"ready\n"),
        ("exec web id -u", r"0\n"),
        ("exec -u 5:6 web id", r"uid=5 gid=6 groups=6\n"),
        ("exec db wget -qO- http://web/", r"pong\n"),
        ("exec db cat /proc/sys/net/ipv4/tcp_wmem", r"4096\t16384\t262144\n"),  # as much as pasta takes at once
        ("exec db nslookup web", r"(?s).*Address: 172\..*"),
        ("exec web ip -o -4 addr show eth0", r".*inet 172\..*\n"),
        ("inspect -f {{.State.Status}} web", r"running\n"),
        ("top web", r"(?s).*httpd -f.*"),
        ("stats --no-stream --format {{.Name}} web", r"web\n"),
        ("port web", r"80/tcp -> 127\.0\.0\.1:\d+\n"),
        ("diff web", r"(?s).*A /index\.html\n.*"),
        ("cp web:/index.html got", r""),
        ("export -o web.tar web", r""),
        ("commit web web:now", r"sha256:[0-9a-f]{64}\n"),
        ("events --since 1h --until 0s --filter event=start --format {{.Actor.Attributes.name}}", r"(?s)web\n.*"),
        ("update --restart unless-stopped web", r"web\n"),
        ("volume ls -q", r"data\n"),
        ("network ls --format {{.Name}}", r"(?s).*app.*"),
        ("network inspect -f {{.Driver}} app", r"bridge\n"),
        ("rename db base", r""),
        ("rename base db", r""),
        ("system df", r"(?s).*Containers.*"),
        (f"run --rm -v data:/data {BUSYBOX_NAME} sh -c umask", r"0022\n"),
        (f"run --rm --network none --name none {BUSYBOX_NAME} cat /sys/class/net/lo/ifindex", r"1\n"),
        ("restart -t 0 db", r"db\n"),
        ("stop -t 0 db", r"db\n"),
        ("wait db", r"137\n"),
        ("start db", r"db\n"),
        ("kill db", r"db\n"),
    ],
)
def test_command_does_what_roots_does(home: Home, words: str, expected: str) -> None:
    done = home(*words.split(" "))
    assert re.fullmatch(expected, done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"run -d -p 80:80 {BUSYBOX_NAME} true", "as root: sysctl net.ipv4.ip_unprivileged_port_start"),
        (f"run -d -m 64m {BUSYBOX_NAME} true", "this host cannot limit memory"),
        ("update -m 64m web", "systemd-run --user --scope"),
        ("pause web", "there is no freezer among its control groups"),
        (f"run --rm --pid container:web {BUSYBOX_NAME} true", "takes control groups"),
    ],
)
def test_what_the_kernel_keeps_from_a_user_is_refused_with_the_reason(home: Home, words: str, reason: str) -> None:
    done = home(*words.split(" "), check=False)
    assert done.returncode
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_published_port_brings_the_hosts_clients_in(home: Home) -> None:
    url = f"http://{home('port', 'web', '80').stdout.strip()}/"
    for _ in range(70):  # more than there are sockets made ahead
        assert subprocess.run(["curl", "-sS", url], capture_output=True, text=True, check=True).stdout == "pong\n"


def test_policy_starts_a_container_again(home: Home) -> None:
    home("run", "-d", "--name", "again", "--restart", "on-failure:2", BUSYBOX_NAME, "sh", "-c", "exit 3")
    eventually(lambda: home("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again").stdout == "2 exited\n")


def test_volume_keeps_what_was_written_and_its_owners(home: Home) -> None:
    write = "echo kept >/data/file; chown 999:998 /data/file"
    home("run", "--rm", "-v", "kept:/data", BUSYBOX_NAME, "sh", "-c", write)
    said = home("run", "--rm", "-v", "kept:/data:ro", BUSYBOX_NAME, "sh", "-c", "cat /data/file; ls -ln /data")
    assert re.match(r"kept\ntotal 4\n\S+ +1 999 +998 ", said.stdout)


def test_what_a_containers_root_makes_in_a_bind_is_the_users(home: Home) -> None:
    place = home.user.folder / "home" / "bound"
    home("run", "--rm", "-v", f"{place}:/b", BUSYBOX_NAME, "sh", "-c", "echo x >/b/made; mkdir /b/below")
    assert {path.stat().st_uid for path in place.iterdir()} == {home.user.uid}


def test_what_other_users_make_in_a_bind_is_subordinate_and_can_be_had_back(home: Home) -> None:
    """The host's root alone may map owners at a mount: docs/volumes.md says what is left without it."""
    place = home.user.folder / "home" / "given"
    place.mkdir()
    home.user.own(place)
    bind = ("--rm", "-v", f"{place}:/b")
    first = subordinate_ids("/etc/subuid", home.user.name, home.user.uid)
    refused = home("run", *bind, "-u", "1000", BUSYBOX_NAME, "touch", "/b/mine", check=False)
    assert "Permission denied" in refused.stderr
    given = home("run", *bind, BUSYBOX_NAME, "sh", "-c", "chown 1000:1000 /b; stat -c %u /b")
    assert given.stdout == "1000\n"  # as PostgreSQL's entrypoint: root gives it away, and goes on as another
    home("run", *bind, "-u", "1000:1000", BUSYBOX_NAME, "sh", "-c", "echo x >/b/mine; mkdir -m 700 /b/data")
    assert [(place / name).stat().st_uid for name in ("mine", "data", ".")] == [first + 999] * 3
    home("run", *bind, BUSYBOX_NAME, "chown", "-R", "0:0", "/b")
    assert [(place / name).stat().st_uid for name in ("mine", "data", ".")] == [home.user.uid] * 3


def test_a_container_shares_another_one_s_memory(home: Home) -> None:
    write = "echo shared >/dev/shm/x; exec sleep 1000"
    home("run", "-d", "--name", "giver", "--ipc", "shareable", BUSYBOX_NAME, "sh", "-c", write)
    ask = ("--rm", "--ipc", "container:giver", BUSYBOX_NAME, "cat", "/dev/shm/x")
    eventually(lambda: home("run", *ask, check=False).stdout == "shared\n")
    home("rm", "-f", "giver")


def test_lost_anchor_is_found_again_by_the_nursery(home: Home) -> None:
    """The new container is in the switch of the old ones."""
    for pid in home.anchors():
        os.kill(pid, signal.SIGKILL)
    assert "web" in home("ps", "--format", "{{.Names}}").stdout
    assert not home.anchors(), "who looks, only looks"
    home("run", "--rm", "--network", "app", "--name", "later", BUSYBOX_NAME, "wget", "-qO-", "http://web/")
    assert len(home.anchors()) == 1


def test_nothing_of_the_engine_is_seen_by_the_host(home: Home) -> None:
    """Mounts are in the user's own namespace, and RUN is closed to others."""
    assert str(home.run) not in Path("/proc/self/mountinfo").read_text()
    assert home.run.stat().st_mode & 0o077 == 0


_STARTED_SEALED = """
import os, subprocess, sys
from containers.keeper import anchor
anchor.enter(sys.argv[1])
anchor.seal(os.path.realpath(sys.executable))
print(os.access(sys.executable, os.W_OK))
sys.stdout.flush()
subprocess.run([sys.executable, "-c", "import os; print(os.access('/proc/self/exe', os.W_OK))"], check=True)
"""


def test_program_of_keepers_is_not_to_be_written_by_containers(home: Home) -> None:
    """CVE-2019-5736: the program of nursery and keepers, which a container can run by the name of /proc/self/exe."""
    folder = home.user.folder / "home" / "own"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").symlink_to(home.user.folder / "python" / "lib")
    (folder / "run").mkdir(mode=0o700)
    program = folder / "bin" / "python"
    shutil.copy2(sys.executable, program)
    home.user.own(folder / "run", program)
    asks = "import os, sys; print(os.access(sys.executable, os.W_OK))"
    assert home.user(program, "-P", "-c", asks).stdout == "True\n"
    assert home.user(program, "-P", "-c", _STARTED_SEALED, folder / "run").stdout == "False\nFalse\n"


def test_working_directory_may_have_been_removed(home: Home) -> None:
    python = home.user.folder / "venv/bin/python"
    shows = "from cli.main import main; raise SystemExit(main(['ps', '--format', '{{.Names}}']))"
    script = f'mkdir gone; cd gone; rmdir ../gone; exec {python} -P -c "$0"'
    assert "web" in home.user("sh", "-c", script, shows, env=home.env).stdout


def test_a_root_that_is_gone_takes_what_it_had_in_memory_along(privileged: None, busybox_tar: Path) -> None:
    """Also the process that keeps the user's namespaces."""
    with ordinary_user(f"shiplapg{os.getpid()}") as user:
        for name in ("run", "home"):
            (user.folder / name).mkdir(mode=0o700, exist_ok=True)
            user.own(user.folder / name)
        base = user.folder / "home" / "busybox.tar"
        base.write_bytes(busybox_tar.read_bytes())
        user.own(base)
        home = Home(user)
        home("image", "import", "busybox.tar", BUSYBOX_NAME)
        home("run", "-d", "--name", "one", BUSYBOX_NAME, "sleep", "1000")
        home("rm", "-f", "one")
        root = Path((home.run / "root").read_text())
        assert len(home.anchors()) == 1
        shutil.rmtree(root)
        eventually(lambda: list((user.folder / "run" / "shiplap").iterdir()) == [], timeout_s=60)
        assert home.anchors() == []
