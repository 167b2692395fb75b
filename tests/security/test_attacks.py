"""Known ways out of a container, tried for real from a step by its root, each shown to lead nowhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from containers.capabilities import ALL_CAPABILITIES
from containers.errors import MountError
from containers.spec import Bind, File
from core.rootfs import DirectoryLayer
from tests.containers.running import eventually
from tests.security.conftest import DebianRunner
from tests.toolkit.bounds import stretched
from tests.toolkit.host import command_lines

KERNEL_FILES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sysrq-trigger",
    "/proc/irq/0/smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/release_agent",
    "/sys/power/state",
)


@pytest.mark.parametrize("everything", [False, True], ids=["default", "all capabilities, no filter"])
def test_kernel_settings_cannot_be_written(debian: DebianRunner, everything: bool) -> None:
    """Also by --security=insecure, whose capabilities are those of its own user namespace."""
    fields = {"capabilities": ALL_CAPABILITIES, "filtered": False} if everything else {}
    before = {path: _read(path) for path in KERNEL_FILES}
    script = "".join(f"(echo '|/tmp/x' > {path}) 2>/dev/null && echo wrote {path};" for path in KERNEL_FILES)
    assert debian(script + "true", **fields) == ""
    assert {path: _read(path) for path in KERNEL_FILES} == before


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def test_session_keyring_is_new(debian_layer: DirectoryLayer, tmp_path: Path) -> None:
    """Asked without the filter, which keeps keyctl(2) from steps: the launcher's, and a key in it, are out of reach."""
    said = []
    for join in (False, True):
        (tmp_path / str(join)).mkdir()
        command = [
            sys.executable,
            "-P",
            "-c",
            _IN_KEYRING,
            str(int(join)),
            str(tmp_path / str(join)),
            debian_layer.path,
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.stderr == ""
        said.append(done.stdout.split())
    for ours, theirs, found in said:
        assert int(theirs) > 0
        assert theirs != ours
        assert found == "-1"


_IN_KEYRING = r"""
import ctypes, itertools, os, platform, sys
from pathlib import Path
from containers.launcher import Launcher
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner

join, folder, layer = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
keyctl, add_key = (250, 248) if platform.machine() == "x86_64" else (219, 217)
libc = ctypes.CDLL(None, use_errno=True)
if join:  # as where a service manager gives each service one
    assert libc.syscall(keyctl, 1, b"shiplap-test") > 0
assert libc.syscall(add_key, b"user", b"shiplap-test-key", b"secret", 6, -3) > 0
print(libc.syscall(keyctl, 0, -3, 0))
program = f"my ($t, $n) = ('user', 'shiplap-test-key');"
program += f"printf '%d %d', syscall({keyctl}, 0, -3, 0), syscall({keyctl}, 10, -3, $t, $n, 0)"
(folder / "launcher").mkdir()
with Launcher(folder / "launcher") as launcher:
    runner = Runner(launcher, folder, DirectoryLayer(layer), itertools.count())
    print(runner.status("perl", "-e", program, filtered=False)[1])
"""


def test_step_dies_with_its_launcher_whatever_user_it_runs_as(debian: DebianRunner) -> None:
    """PR_SET_PDEATHSIG, which the kernel forgets when the user changes: asked by prctl(PR_GET_PDEATHSIG)."""
    number = {"x86_64": 157}.get(os.uname().machine, 167)
    ask = f"my $n = pack('i', 0); syscall({number}, 2, $n, 0, 0, 0) == 0 or die $!; print unpack('i', $n)"
    assert debian.perl(ask) == "9"
    assert debian.perl(ask, user="nobody") == "9"


def test_what_tells_of_the_host_is_hidden(debian: DebianRunner) -> None:
    said = debian(
        "cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | head -c 100;"
        "ls /sys/firmware /proc/acpi /proc/scsi /sys/devices/virtual/powercap 2>/dev/null | grep -v :; true"
    )
    assert said.strip() == ""


@pytest.mark.parametrize(
    "fstype", ["proc", "sysfs", "tmpfs", "overlay", "cgroup", "cgroup2", "devtmpfs", "debugfs", "ext4"]
)
def test_nothing_can_be_mounted(debian: DebianRunner, fstype: str) -> None:
    status, said = debian.status("mount", "-t", fstype, "none", "/mnt")
    assert status.code != 0
    assert "permission denied" in said.lower() or "must be superuser" in said.lower(), said


def test_host_devices_are_out_of_reach(debian: DebianRunner) -> None:
    """mknod of a disk, of memory, of a console: refused, or a node that cannot be opened."""
    root = os.stat("/").st_dev
    nodes = [f"b {os.major(root)} {os.minor(root)}", "b 254 0", "b 8 0", "b 7 0", "c 1 1", "c 1 2", "c 4 0", "c 10 229"]
    script = "".join(f"mknod /tmp/n{i} {node} 2>/dev/null;" for i, node in enumerate(nodes))
    script += "for n in /tmp/n?; do dd if=$n bs=1 count=1 of=/dev/null 2>/dev/null && echo read $n; done; true"
    assert debian("set +e;" + script) == ""
    said = debian("cd /dev && find . ! -type d | sort | tr '\\n' ' '")
    names = "core fd full null ptmx pts/ptmx random stderr stdin stdout tty urandom zero"
    assert said == "".join(f"./{name} " for name in names.split(" "))


def test_processes_outside_are_neither_seen_nor_hit(debian: DebianRunner) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        said = debian(
            "set +e; ls /proc | grep -E '^[0-9]+$' | sort -n | head -3 | tr '\\n' ' ';"
            f"kill -9 {bystander.pid} 2>/dev/null;"
            "perl -e 'kill 9, -1' ; for pid in $(seq 2 400); do kill -9 $pid 2>/dev/null; done; echo; echo done"
        )
        alive = bystander.poll() is None
        bystander.kill()
    assert alive
    assert said.splitlines()[0].startswith("1 ")
    assert said.splitlines()[-1] == "done"


def test_ptrace_and_process_memory_stay_inside(debian: DebianRunner) -> None:
    attach = "syscall(101, 16, $_, 0, 0) == 0 and print qq{attached $_\\n} for 2..500;"
    read = (
        "my $b = 'x' x 8; my $vector = pack('Q2', unpack('Q', pack('P', $b)), 8);"
        "syscall(310, $_, $vector, 1, $vector, 1, 0) >= 0 and print qq{read $_\\n} for 2..5000;"
    )
    own = "syscall(310, $$+0, $vector, 1, $vector, 1, 0) == 8 or print qq{not even its own: $!};"
    assert debian.perl(attach + read + own) == ""


def test_first_process_of_ours_is_neither_read_nor_steered(debian: DebianRunner) -> None:
    """Of a job, process 1 is a copy of the launcher: root of the container gets nothing of it, and cannot end it."""
    program = (
        "my $b = 'x' x 8; my $vector = pack('Q2', unpack('Q', pack('P', $b)), 8);"
        "print qq{parent }, getppid(), qq{\\n};"
        "syscall(101, $_, 1, 0, 0) == 0 and print qq{traced $_\\n} for (16, 0x4206);"
        "syscall(310, 1, $vector, 1, $vector, 1, 0) >= 0 and print qq{read\\n};"
        "syscall(311, 1, $vector, 1, $vector, 1, 0) >= 0 and print qq{written\\n};"
        "for my $p (qw(mem environ maps exe root cwd fd/0 ns/mnt auxv stack syscall)) {"
        " open(my $f, '<', qq{/proc/1/$p}) and print qq{opened $p\\n};"
        " readlink(qq{/proc/1/$p}) and print qq{link $p\\n} }"
        "open(my $f, '<', '/proc/1/cmdline'); my $line = <$f>; $line =~ s/\\0//g; print qq{$line\\n};"
        "kill $_, 1 for 1..31; select(undef, undef, undef, 0.2); print qq{alive\\n};"
    )
    assert debian.perl(program, init=True) == "parent 1\ninit\nalive\n"


def test_own_program_file_cannot_overwrite_the_hosts(debian: DebianRunner, tmp_path: Path) -> None:
    """CVE-2019-5736: what starts the container is reached by /proc/self/exe, and written to."""
    interpreter = Path(os.path.realpath(sys.executable))
    before = hashlib.sha256(interpreter.read_bytes()).digest()
    launched = Path(f"/proc/{debian.launcher.pid}/exe")
    program = (
        "for my $p (qw(/proc/1/exe /proc/self/exe /proc/thread-self/exe)) {"
        " my $at = readlink($p); open(my $f, '+<', $p) and $at !~ m{^/usr/bin/perl} and print qq{opened $at\\n} }"
    )
    assert debian.perl(program) == ""
    (tmp_path / "evil" / "fs").mkdir(parents=True)
    script = tmp_path / "evil" / "fs" / "x"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    status, _ = debian.status("/x", layers=(debian.layer, DirectoryLayer(str(script.parent))))
    assert status.code != 0
    assert launched.exists()
    assert hashlib.sha256(interpreter.read_bytes()).digest() == before


@pytest.mark.parametrize("number", [0, 1, 2, *range(3, 24)])
def test_working_directory_leads_nowhere_outside(debian: DebianRunner, number: int) -> None:
    """CVE-2024-21626: WORKDIR /proc/self/fd/N with a leaked descriptor of the host."""
    if number <= 2:  # stdin, stdout and stderr are no directories
        with pytest.raises(MountError, match="working directory: File exists"):
            debian.status("true", cwd=f"/proc/self/fd/{number}")
        return
    with pytest.raises(MountError, match="working directory"):
        debian.status("cat", "../../../../etc/hostname", cwd=f"/proc/self/fd/{number}")


def test_no_descriptor_is_inherited(debian: DebianRunner) -> None:
    extra = os.open("/etc/shadow", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        listed = debian.perl(
            "opendir(my $d, '/proc/self/fd'); my $own = fileno($d); print join ' ', sort grep /\\d/, readdir $d"
        )
    finally:
        os.close(extra)
    assert listed.split()[:3] == ["0", "1", "2"]
    assert len(listed.split()) <= 4  # with the directory itself


def test_environment_of_the_service_is_not_inherited(debian: DebianRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIPLAP_TEST_TOKEN", "very-secret")
    assert "very-secret" not in debian("env; cat /proc/1/environ; cat /proc/*/environ 2>/dev/null; true")


def test_secret_of_another_step_cannot_be_read(debian: DebianRunner) -> None:
    secret = b"only for the other one"
    reader, writer = os.pipe()
    other = debian.start(
        "sh", "-c", "cat /run/secrets/key > /dev/null; echo ready; sleep 60", stdout=writer,
        mounts=(File("/run/secrets/key", secret),), env=(("TOKEN", secret.decode()),),
    )  # fmt: skip
    os.close(writer)
    assert os.read(reader, 10) == b"ready\n"
    said = debian(
        "set +e; cat /run/secrets/* /proc/*/root/run/secrets/* /proc/*/environ 2>/dev/null;"
        "grep -rs 'only for the other' /proc/*/cmdline /dev/shm /tmp /run 2>/dev/null; true"
    )
    assert secret.decode() not in said
    other.kill()
    other.wait(stretched(10))
    os.close(reader)


def test_abstract_sockets_and_ipc_are_its_own(debian: DebianRunner) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0shiplap-attack")
        server.listen()
        program = (
            "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0);"
            " print connect($s, pack('S a*', 1, qq{\\0shiplap-attack})) ? 'connected' : 'refused'"
        )
        assert debian.perl(program) == "refused"


@pytest.mark.parametrize("kind", ["pipe", "endless", "directory"])
def test_accounts_that_are_no_plain_file_hold_nothing_up(debian: DebianRunner, tmp_path: Path, kind: str) -> None:
    """Set-up reads them before the step's command runs, and so before its limits of time and memory are of use."""
    etc = tmp_path / "evil" / "fs" / "etc"
    etc.mkdir(parents=True)
    for path in (etc / "passwd", etc / "group"):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "endless":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    assert debian("id -u", layers=(debian.layer, DirectoryLayer(str(etc.parent)))) == "0\n"


def test_links_in_the_image_do_not_redirect_what_is_mounted(debian: DebianRunner, tmp_path: Path) -> None:
    """Targets of mounts, and the files that the launcher makes, are links out of the image: followed inside it only."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o777)
    victim.chmod(0o777)
    evil = tmp_path / "evil" / "fs"
    (evil / "etc").mkdir(parents=True)
    for name in ("resolv.conf", "hosts", "hostname"):
        (evil / "etc" / name).symlink_to(victim / name)
    (evil / "data").symlink_to(f"../../../../../..{victim}")
    (evil / str(victim).lstrip("/")).mkdir(parents=True)  # where the link leads when it is followed inside
    layers = (debian.layer, DirectoryLayer(str(evil)))
    (tmp_path / "bound").mkdir()
    said = debian(
        "echo x > /data/x; echo x > /etc/hosts; cat /data/key; ls /data/deep",
        layers=layers,
        mounts=(Bind(str(tmp_path / "bound"), "/data/deep/er"), File("/data/key", b"secret\n")),
    )
    assert said == "secret\ner\n"
    assert list(victim.iterdir()) == []
    for name in ("proc", "sys", "dev"):
        swapped = tmp_path / name / "fs"
        swapped.mkdir(parents=True)
        (swapped / name).symlink_to(victim)
        with pytest.raises(MountError, match=f"cannot mount on /{name}"):
            debian("true", layers=(debian.layer, DirectoryLayer(str(swapped))))
    assert list(victim.iterdir()) == []


def test_mount_points_made_for_a_step_are_removed_inside_its_own_tree(debian: DebianRunner, tmp_path: Path) -> None:
    """CVE-2024-23652: the step swaps a parent of its mount point for a link; the clean-up must not follow it."""
    victim = tmp_path / "precious" / "deep"
    victim.mkdir(parents=True)
    (tmp_path / "bound").mkdir()
    script = f"umount /made/deep; cd / && mv /made /old; ln -s {tmp_path}/precious /made; true"
    debian.status("sh", "-c", script, mounts=(Bind(str(tmp_path / "bound"), "/made/deep"),))
    assert victim.is_dir()


def test_set_user_id_programs_of_images_are_no_use_to_users_of_the_host(debian: DebianRunner, tmp_path: Path) -> None:
    """The file is on the host's disk with its bit and owner; the way to it is closed."""
    debian("cp /bin/sh /suid; chmod 4755 /suid")
    planted = debian.upper / "fs" / "suid"
    status = planted.stat()
    assert status.st_uid == 0
    assert status.st_mode & 0o4000
    assert debian("id -u") == "0\n"
    from images.store import Store

    with Store.open(tmp_path / "new-root") as store:
        assert store.root.stat().st_mode & 0o077 == 0


def test_everything_is_gone_when_a_step_ends(debian: DebianRunner) -> None:
    """What it left in the background, in sessions of its own, with its signals blocked."""
    marker = f"left-{time.monotonic_ns()}"
    script = (
        "for (1..5) { unless (fork) { setpgrp(0, 0); $0 = '%s'; $SIG{$_} = 'IGNORE' for qw(HUP INT TERM); sleep 400 } }"
    )
    debian.perl(script % marker)
    assert eventually(lambda: not any(marker in line for line in command_lines().values()))
