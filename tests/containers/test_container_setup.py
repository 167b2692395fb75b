"""What a process in a container finds, is, and may."""

from __future__ import annotations

import os
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from containers import becoming, mounts
from containers.errors import ContainerError, MountError, UserError
from containers.spec import Bind, ExitStatus, Tmpfs
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner
from tests.toolkit.bounds import stretched

DOCKER_CAPABILITIES = "00000000a80425fb"  # /proc/self/status in `docker run busybox`


def _status_fields(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_every_namespace_is_its_own(run: Runner) -> None:
    kinds = ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup")
    inside = run(f"cd /proc/self/ns; for kind in {' '.join(kinds)}; do readlink $kind; done").split()
    assert len(inside) == len(kinds)
    for kind, namespace in zip(kinds, inside, strict=True):
        assert namespace != os.readlink(f"/proc/self/ns/{kind}")


def test_two_containers_share_no_namespace(run: Runner) -> None:
    script = "cd /proc/self/ns; for kind in user mnt pid net uts ipc cgroup; do readlink $kind; done; echo .; sleep 60"
    reader, writer = os.pipe()
    first = run.start("sh", "-c", script, stdout=writer)
    os.close(writer)
    with open(reader) as output:
        said = set(iter(output.readline, ".\n"))
    assert len(said) == 7
    assert not said & set(run(script.removesuffix("; sleep 60")).splitlines(keepends=True))
    first.kill()
    first.wait(stretched(10))


def test_root_is_mapped_to_a_subordinate_range(run: Runner) -> None:
    inside, outside, count = run("cat /proc/self/uid_map").split()
    assert (inside, count) == ("0", "65536")
    assert int(outside) >= 65536


def test_files_keep_true_owners_on_disk(run: Runner) -> None:
    run("touch /by-root; touch /by-app; chown 1000:1001 /by-app; touch /bin/../etc/passwd")
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (run.upper / "fs").iterdir()}
    assert owners == {"by-root": (0, 0), "by-app": (1000, 1001), "etc": (0, 0)}
    assert run("stat -c %u:%g /etc/passwd /proc/1").split() == ["0:0", "0:0"]


def test_capabilities_of_root_are_dockers(run: Runner) -> None:
    fields = _status_fields(run("cat /proc/self/status"))
    assert fields["CapBnd"] == fields["CapEff"] == fields["CapPrm"] == DOCKER_CAPABILITIES
    assert fields["CapInh"] == fields["CapAmb"] == "0000000000000000"


def test_other_users_have_no_capabilities(run: Runner) -> None:
    fields = _status_fields(run("cat /proc/self/status", user="app"))
    assert fields["CapBnd"] == DOCKER_CAPABILITIES
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapInh"] == fields["CapAmb"] == "0000000000000000"


def test_capabilities_can_be_chosen(run: Runner) -> None:
    fields = _status_fields(run("cat /proc/self/status", capabilities=frozenset({"CAP_CHOWN"})))
    assert fields["CapEff"] == "0000000000000001"


def test_set_user_id_programs_work(run: Runner) -> None:
    """no_new_privs is off, as docker has it, so that su and sudo work in images."""
    run("cp /bin/busybox /bin/raise; chmod 4755 /bin/raise")
    raised = DirectoryLayer(str(run.upper / "fs"))
    layers = (run.layer, raised)
    assert run.status("ping", "-c1", "127.0.0.1", user="app", layers=layers)[0].code == 1
    run("exec -a ping /bin/raise -c1 127.0.0.1", user="app", layers=layers)


def test_no_descriptor_but_stdio_is_inherited(run: Runner) -> None:
    """Not even with descriptors that a careless client left open without close-on-exec."""
    leak = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        fds = run("ls /proc/self/fd").split()
    finally:
        os.close(leak)
    assert fds in (["0", "1", "2"], ["0", "1", "2", "3"])  # ls has opened the directory itself


def test_environment_is_the_spec_with_dockers_defaults(run: Runner) -> None:
    status, said = run.status(
        "/bin/busybox",
        "env",
        env=(
            ("A", "1"),
            ("A", "2 ü"),
        ),
        user="app",
    )
    assert status.code == 0
    assert sorted(said.splitlines()) == [
        "A=2 ü",
        "HOME=/home/app",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_process_is_pid_1_and_leads_its_session(run: Runner) -> None:
    assert run("echo $$; cut -d' ' -f5,6 /proc/1/stat").split() == ["1", "1", "1"]


def test_umask_and_signals_are_as_after_login(run: Runner) -> None:
    fields = _status_fields(run.status("cat", "/proc/self/status")[1])
    assert fields["Umask"] == "0022"
    assert fields["SigIgn"] == fields["SigBlk"] == "0000000000000000"


_LEAKED_DIRECTORY = """
import os, sys
from containers import becoming, syscalls
from containers.errors import MountError
new = sys.argv[1]
outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
syscalls.mount("proc", new + "/proc", "proc", 0)
os.chroot(new)
os.chdir("/")
becoming._enter_directory("/inside", make=True)
assert os.getcwd() == "/inside"
for path in (f"/proc/self/fd/{outside}", f"/proc/self/fd/{outside}/../../etc"):
    for make in (True, False):
        try:
            becoming._enter_directory(path, make=make)
        except MountError as error:
            print(error.message.partition(" as ")[0].replace(str(outside), "N"), make)
        else:
            print("entered", os.listdir("."))
"""


def test_working_directory_is_below_the_root(privileged: None, tmp_path: Path) -> None:
    """CVE-2024-21626: a descriptor that leaked, by which the working directory is the host's."""
    (tmp_path / "proc").mkdir()
    command = ["unshare", "--mount", sys.executable, "-P", "-c", _LEAKED_DIRECTORY, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(becoming.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    paths = ("/proc/self/fd/N", "/proc/self/fd/N/../../etc")
    told = [f"cannot use {path} {make}" for path in paths for make in (True, False)]
    assert (done.stdout.splitlines(), done.stderr) == (told, "")


def test_only_minimal_devices_exist(run: Runner) -> None:
    names = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert " ".join(run("ls /dev").split()) == names
    run("echo x > /dev/null; head -c 4 /dev/urandom > /dev/shm/x; head -c 4 /dev/zero > /dev/full && exit 1 || true")


def test_device_nodes_cannot_be_made(run: Runner) -> None:
    status, said = run.status("mknod", "/disk", "b", "8", "0")
    assert status.code != 0
    assert "not permitted" in said


def test_kernel_paths_are_masked_or_readonly(run: Runner) -> None:
    run("touch /probe")
    for path in mounts.READONLY_PATHS:
        status, said = run.status("touch", f"/{path}/probe" if path != "proc/sysrq-trigger" else f"/{path}")
        assert status.code != 0, path
        assert "Read-only" in said or "No such file" in said, said
    for path in mounts.MASKED_PATHS:
        found = run(f"if [ -d /{path} ]; then ls -A /{path}; elif [ -e /{path} ]; then cat /{path}; fi")
        assert found == "", path
    status, _ = run.status("sh", "-c", "echo 1 > /proc/sys/kernel/core_pattern || echo x > /sys/kernel/uevent_helper")
    assert status.code != 0


def test_root_of_the_host_is_out_of_reach(run: Runner, tmp_path: Path) -> None:
    said = run("cat /proc/self/mountinfo; ls /; cd ..; pwd; ls /../..")
    assert str(tmp_path) not in said
    assert "work" not in run("ls /").split()


def test_working_directory_is_made_when_missing(run: Runner) -> None:
    assert run("pwd", cwd="/srv/new dir/x") == "/srv/new dir/x\n"
    made = (run.upper / "fs/srv/new dir").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid) == (0o755, 0)


@pytest.mark.parametrize("cwd", ["/proc/self/fd/3", "/proc/self/fd/7/../../..", "/bin/busybox", "/dev/null/x"])
def test_working_directory_outside_or_no_directory_is_refused(run: Runner, cwd: str) -> None:
    with pytest.raises(MountError, match="working directory"):
        run("pwd", cwd=cwd)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nonsense",), 127, 'exec: "nonsense": executable file not found in $PATH'),
        (("/no/such",), 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        (("",), 127, 'exec: "": executable file not found in $PATH'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 126, 'exec: "/etc": is a directory'),
        (("sh", "-c", "exit 42"), 42, ""),
        (("sh", "-c", "kill -9 $$"), 0, None),
    ],
)
def test_exit_codes_are_dockers(run: Runner, args: tuple[str, ...], code: int, message: str | None) -> None:
    status, _ = run.status(*args)
    if message is None:
        assert status.code in (0, 137)  # pid 1 does not get its own signals
    else:
        assert status == ExitStatus(code, None, message)


def test_missing_interpreter_is_told_from_missing_command(run: Runner) -> None:
    run("printf '#!/no/such\\n' > /bin/broken; chmod 755 /bin/broken")
    layer = DirectoryLayer(str(run.upper / "fs"))
    status, _ = run.status("broken", layers=(run.layer, layer))
    assert status.code == 127
    assert "interpreter" in status.message


def test_signal_is_reported_as_128_plus_number(run: Runner) -> None:
    container = run.start("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    container.signal(9)
    assert container.wait(stretched(10)) == ExitStatus(137, 9)


def test_handled_signal_reaches_the_process(run: Runner) -> None:
    reader, writer = os.pipe()
    container = run.start("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done", stdout=writer)
    os.close(writer)
    assert os.read(reader, 10) == b"ready\n"
    os.close(reader)
    container.signal(15)
    assert container.wait(stretched(10)) == ExitStatus(3)


def test_wait_times_out_and_can_be_repeated(run: Runner) -> None:
    container = run.start("sleep", "60")
    with pytest.raises(TimeoutError):
        container.wait(0.05)
    container.kill()
    assert container.wait(stretched(10)) == container.wait(stretched(10)) == ExitStatus(137, 9)
    container.kill()


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups"),
    [
        ("", 0, 0, {60}),
        ("root", 0, 0, {60}),
        ("app", 1000, 1001, {50, 60}),
        ("1000", 1000, 1001, {50, 60}),
        ("app:staff", 1000, 50, set()),
        ("1234", 1234, 0, set()),
        ("1234:4321", 1234, 4321, set()),
    ],
)
def test_users_are_looked_up_in_the_root_filesystem(
    run: Runner, user: str, uid: int, gid: int, groups: set[int]
) -> None:
    fields = _status_fields(run.status("cat", "/proc/self/status", user=user)[1])
    assert set(fields["Uid"].split()) == {str(uid)}
    assert set(fields["Gid"].split()) == {str(gid)}
    # Its own group is among them, too: containerd puts it there, measured by tests/differential.
    assert {int(number) for number in fields["Groups"].split()} == groups | {gid}


def test_unknown_user_is_an_error_with_a_hint(run: Runner) -> None:
    with pytest.raises(UserError, match="unable to find user nobody-knows") as caught:
        run("id", user="nobody-knows")
    assert "useradd" in str(caught.value.hint)


def test_other_users_can_reopen_their_output(run: Runner) -> None:
    for user in ("", "app"):
        reader, writer = os.pipe()
        container = run.start("sh", "-c", "echo again > /dev/stdout", user=user, stdout=writer)
        os.close(writer)
        assert os.read(reader, 100) == b"again\n"
        os.close(reader)
        assert container.wait(stretched(10)).code == 0


def test_etc_files_describe_the_container(run: Runner) -> None:
    said = run("hostname; cat /etc/hostname /etc/hosts", hostname="box", extra_hosts=(("db", "10.1.2.3"),))
    assert said.split("\n")[:2] == ["box", "box"]
    assert "127.0.0.1\tlocalhost" in said
    assert "10.1.2.3\tdb" in said
    assert len(run("hostname").strip()) == 12


def test_mount_points_leave_no_trace_in_the_upper(run: Runner) -> None:
    """The busybox layer has no /etc/hosts; a scratch image has nothing."""
    run("true", mounts=(Tmpfs("/deep/er/place"), Bind("/etc/hostname", "/run/name")))
    assert list((run.upper / "fs").iterdir()) == []
    status, _ = run.status("/nothing", layers=())
    assert status.code == 127
    assert list((run.upper / "fs").iterdir()) == []


def test_hidden_mount_point_is_made_in_the_upper_and_removed_again(run: Runner, tmp_path: Path) -> None:
    """A whiteout hides the stub layer's /sys, a symbolic link the parent of a target."""
    hiding = tmp_path / "hiding" / "fs"
    hiding.mkdir(parents=True)
    os.mknod(hiding / "sys", stat.S_IFCHR, os.makedev(0, 0))
    (hiding / "link").symlink_to("tmp")
    run(
        "test -d /sys/kernel; touch /tmp/a/b/x",
        layers=(run.layer, DirectoryLayer(str(hiding))),
        mounts=(Tmpfs("/link/a/b"),),
    )
    upper = run.upper / "fs"
    assert [path.relative_to(upper).as_posix() for path in _walk(upper)] == ["tmp"]
    assert (upper / "tmp").stat().st_mtime_ns == (Path(run.layer.path) / "tmp").stat().st_mtime_ns


def test_resolv_conf_that_is_a_dangling_link_is_covered(run: Runner, tmp_path: Path) -> None:
    layer = tmp_path / "linked" / "fs"
    (layer / "etc").mkdir(parents=True)
    (layer / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    run("grep -q . /etc/hosts; cat /etc/resolv.conf", layers=(run.layer, DirectoryLayer(str(layer))))
    assert list((run.upper / "fs").iterdir()) == []


def test_root_is_readonly_without_an_upper(run: Runner) -> None:
    status, said = run.status("touch", "/x", upper=None)
    assert status.code == 1
    assert "Read-only" in said
    run("ls /proc/1 > /dev/null; cat /etc/hosts", upper=None)


def test_bind_mounts_show_host_files_as_containers(run: Runner, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    (shared / "file").write_text("from outside\n")
    os.chown(shared / "file", 1000, 1001)
    said = run(
        "cat /in/file; stat -c %u:%g /in/file; touch /in/sub/new; touch /ro/x || echo refused; stat -c %u /raw/file",
        mounts=(
            Bind(str(shared), "/in"),
            Bind(str(shared), "/ro", readonly=True),
            Bind(str(shared), "/raw", idmapped=False),
        ),
    )
    assert said.splitlines()[:2] == ["from outside", "1000:1001"]
    assert "refused" in said
    assert said.splitlines()[-1] == "65534"
    assert (shared / "sub/new").stat().st_uid == 0


def test_missing_bind_source_is_an_error(run: Runner) -> None:
    with pytest.raises(MountError, match="/no/such/place"):
        run("true", mounts=(Bind("/no/such/place", "/in"),))


def test_missing_layer_is_an_error(run: Runner) -> None:
    with pytest.raises(MountError, match="no-layer"):
        run("true", layers=(DirectoryLayer("/tmp/no-layer/fs"),))
    run("true")


def test_tmpfs_has_its_size_and_mode(run: Runner) -> None:
    said = run("stat -c %a /t; head -c 200000 /dev/zero > /t/x || echo full", mounts=(Tmpfs("/t", 65536, 0o700),))
    assert said.split()[0] == "700"
    assert "full" in said


def test_terminal_is_the_containers_own(run: Runner) -> None:
    container = run.start(
        "sh", "-c", "tty; stty size; ls -l /dev/console; sleep 0.1", terminal=True, terminal_size=(30, 90)
    )
    assert container.terminal is not None
    said = _read_terminal(container.terminal)
    assert container.wait(stretched(10)).code == 0
    assert said.split()[:3] == ["/dev/pts/0", "30", "90"]
    container.close()


def test_terminal_can_be_resized(run: Runner) -> None:
    container = run.start("sh", "-c", "read line; stty size", terminal=True)
    assert container.terminal is not None
    container.resize(11, 22)
    os.write(container.terminal, b"\n")
    assert "11 22" in _read_terminal(container.terminal)
    container.wait(stretched(10))
    container.close()


def test_two_hundred_layers(run: Runner, tmp_path: Path) -> None:
    layers = []
    for number in range(220):
        layer = tmp_path / "many" / str(number) / "fs"
        layer.mkdir(parents=True)
        (layer / f"f{number}").touch()
        layers.append(DirectoryLayer(str(layer)))
    assert run("ls / | grep -c '^f[0-9]'", layers=(run.layer, *layers)) == "220\n"


def test_file_capabilities_work(run: Runner) -> None:
    """Plain ones (version 2, as layers carry them) give their capability to the container's root's subjects."""
    run("cp /bin/busybox /bin/raise")
    net_raw = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # version 2 with the effective bit; CAP_NET_RAW
    os.setxattr(run.upper / "fs/bin/raise", "security.capability", net_raw)
    layers = (run.layer, DirectoryLayer(str(run.upper / "fs")))
    run("exec -a ping /bin/raise -c1 127.0.0.1", user="app", layers=layers)


def test_arguments_larger_than_a_packet(run: Runner) -> None:
    assert run('echo "$BIG" | wc -c', env=(("BIG", "x" * 100_000),)) == "100001\n"


def test_spec_without_command_or_with_relative_path_is_refused(run: Runner) -> None:
    with pytest.raises(ValueError, match="command"):
        run.start()
    with pytest.raises(ValueError, match="absolute"):
        run.start("true", cwd="relative")


def test_container_errors_do_not_harm_the_next_container(run: Runner) -> None:
    for _ in range(3):
        with pytest.raises(ContainerError):
            run("true", user="unknown")
    run("true")


def _walk(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*"))


def _read_terminal(master: int) -> str:
    data = b""
    while select.select([master], [], [], 10)[0]:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # EIO: the other end has been closed
            break
        data += chunk
    return data.decode()


def test_kernel_takes_a_step_before_the_service(run: Runner) -> None:
    """Of the processes of a full host or cgroup, the kernel kills the one with the highest score."""
    assert run("cat /proc/self/oom_score_adj") == "500\n"
    assert Path("/proc/self/oom_score_adj").read_text() != "500\n"
