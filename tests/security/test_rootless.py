"""An unprivileged user: the same commands, the same images, and no way to more than is theirs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from containers.errors import NamespaceError
from containers.rootless import subordinate_ids
from tests.toolkit.ordinary import User, ordinary_user
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_DOCKERFILE = f"""
FROM {BUSYBOX_NAME} AS tools
RUN echo app:x:1234:1234::/:/bin/sh >> /etc/passwd && mkdir /data && chown 1234:77 /data
RUN echo hi > /data/x && ln /data/x /data/y && chmod 4755 /data/x && mkfifo /data/p && rm -r /var
FROM {BUSYBOX_NAME}
COPY --from=tools --chown=5:6 /data /data
COPY --from=tools /etc/passwd /etc/
COPY file /
USER app
RUN id > /tmp/id && cat /proc/self/uid_map > /dev/null
"""


@pytest.fixture(scope="module")
def user(privileged: None, busybox_tar: Path) -> Iterator[User]:
    with ordinary_user(f"shiplap{os.getpid()}") as person:
        context = person.folder / "home" / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(_DOCKERFILE)
        (context / "file").write_text("content\n")
        base = person.folder / "home" / "busybox.tar"
        base.write_bytes(busybox_tar.read_bytes())
        person.own(context, *context.iterdir(), base)
        person.shiplap("image", "import", "busybox.tar", BUSYBOX_NAME)
        yield person


def _image(index: Path) -> Sequence[str]:
    return [manifest["digest"] for manifest in json.loads((index / "index.json").read_text())["manifests"]]


def test_images_are_those_that_root_builds(user: User, shiplap: Shiplap, tmp_path: Path) -> None:
    """Bit for bit: layers with owners, modes, links and a FIFO, config and manifest."""
    output = "type=oci,tar=false,rewrite-timestamp=true,dest="
    user.shiplap("build", "--network", "none", "-o", f"{output}{user.folder}/home/image", "context")
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    # From the same name: the image's history has it.
    shiplap("image", "import", "busybox.tar", BUSYBOX_NAME, env=epoch, cwd=user.folder / "home")
    context = user.folder / "home" / "context"
    shiplap("build", "--network", "none", "-o", f"{output}{tmp_path}/image", context, env=epoch)
    assert _image(user.folder / "home" / "image") == _image(tmp_path / "image")


def test_second_build_runs_nothing(user: User) -> None:
    user.shiplap("build", "-t", "again", "--network", "none", "context")
    assert "0 executed" in user.shiplap("build", "-t", "again", "--network", "none", "context").stderr


def test_container_has_a_network_and_its_filter(user: User) -> None:
    said = user.shiplap(
        "run", BUSYBOX_NAME, "sh", "-c", "ip -o -4 addr show eth0; grep Seccomp: /proc/self/status"
    ).stdout
    assert "inet 198." in said
    assert "Seccomp:\t2" in said


def test_root_of_the_container_is_the_user_outside(user: User, tmp_path: Path) -> None:
    uid = pwd.getpwnam(user.name).pw_uid
    said = user.shiplap("run", "--network", "none", BUSYBOX_NAME, "sh", "-c", "id -u; cat /proc/self/uid_map").stdout
    assert said.splitlines()[0] == "0"
    root = user.folder / "home/.local/share/shiplap"
    assert (root / "blobs").stat().st_uid == uid
    assert root.stat().st_mode & 0o077 == 0


_SEES_OWN_PROGRAM = """
import os, pathlib, sys, tempfile
from containers.launcher import Launcher
from containers.rootless import become_root
become_root()
with tempfile.TemporaryDirectory() as state, Launcher(pathlib.Path(state)) as launcher:
    os.close(launcher.view(()))  # it has answered, so it is under way
    print(os.access(sys.executable, os.W_OK), os.access(f"/proc/{launcher.pid}/exe", os.W_OK))
"""


def test_program_that_is_the_users_own_is_not_to_be_written_by_containers(user: User) -> None:
    """CVE-2019-5736, for a Python that the user has installed: container root is its owner."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    own = user.folder / "home" / "own"
    (own / "bin").mkdir(parents=True)
    (own / "lib").symlink_to(user.folder / "python" / "lib")
    program = own / "bin" / f"python{version}"
    shutil.copy2(Path(sys.base_prefix) / "bin" / f"python{version}", program)
    os.chown(program, pwd.getpwnam(user.name).pw_uid, -1)
    assert user(program, "-P", "-c", _SEES_OWN_PROGRAM).stdout == "True False\n"


def test_doctor_says_what_a_user_can_do(user: User) -> None:
    result = user.shiplap("doctor")
    assert "as root of a user namespace" in result.stdout
    assert "MISSING" not in result.stdout
    assert "This host can build and run images" in result.stdout
    assert (
        "  cgroups: start it where groups are yours: systemd-run --user --scope -p Delegate=yes shiplap …"
        in result.stdout
    )


def test_doctor_tells_a_user_without_subordinate_ids_that_alone(user: User) -> None:
    """What cannot be tried without them has no remedy of its own: a newer kernel, say."""
    result = user.shiplap("doctor", "--json", check=False, emptied=["/etc/subuid"])
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert [name for name in findings if findings[name]["essential"] and not findings[name]["ok"]] == ["privileges"]
    assert "usermod --add-subuids" in findings["privileges"]["remedy"]


def test_device_that_only_root_may_open_is_said_with_what_helps(user: User) -> None:
    build = user.shiplap("build", "--no-cache", "-q", "context", tun="600", check=False)
    for result in (user.shiplap("doctor", tun="600", check=False), build):
        assert result.returncode == 1
        assert "as root: chmod 666 /dev/net/tun" in result.stdout + result.stderr
        assert "apt-get install" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("12:20000", "allow more open files than 12: ulimit -n 4096"),
        ("16:20000", "allow more open files than 16: ulimit -n 4096"),
        ("40:40", "allow more open files than 40: LimitNOFILE= of the unit"),
    ],
)
def test_too_few_open_files_are_said_with_what_helps(user: User, limit: str, expected: str) -> None:
    for words in (("doctor",), ("build", "--no-cache", "-q", "context")):
        result = user.shiplap(*words, prefix=("prlimit", f"--nofile={limit}"), check=False)
        assert result.returncode == 1
        assert expected in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        assert "apt-get install" not in result.stdout + result.stderr


def test_home_that_is_not_set_is_the_users_and_not_roots(user: User) -> None:
    assert BUSYBOX_NAME in user.shiplap("image", "ls", env={"HOME": ""}).stdout
    assert user.shiplap("run", "--network", "none", BUSYBOX_NAME, "echo", "works", env={"HOME": ""}).stdout == "works\n"


def test_limit_that_no_control_group_can_hold_is_refused(user: User) -> None:
    result = user.shiplap("run", "-m", "64m", "--network", "none", BUSYBOX_NAME, "true", check=False)
    assert result.returncode == 125
    assert "this host cannot limit memory" in result.stderr
    assert "hint: start it where groups are yours: systemd-run --user --scope -p Delegate=yes shiplap" in result.stderr


def test_user_without_subordinate_ids_is_told_how_to_get_some(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    table.write_text("other:100000:65536\nme:300000:1000\n77:200000:65536\n")
    assert subordinate_ids(str(table), "me", 77) == 200000
    for path in (table, tmp_path / "missing"):
        with pytest.raises(NamespaceError, match="gives me no 65536 subordinate IDs") as error:
            subordinate_ids(str(path), "me", 78)
        assert "usermod --add-subuids" in str(error.value.hint)


def test_namespace_with_too_few_ids_is_said(user: User) -> None:
    python = f"{user.folder}/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    code = "from containers import idmap; idmap.host_ranges()"
    result = user("unshare", "--user", "--map-root-user", python, "-P", "-c", code, check=False)
    assert "maps 1 uids, and containers need 65536" in result.stderr


def test_jobs_run_from_the_users_working_tree(user: User) -> None:
    """``ci run``: workspace, outputs and Ctrl-C's grace are the user's own; nothing is written into the repository."""
    repository = user.folder / "home" / "repository"
    repository.mkdir()
    (repository / ".shiplap.yml").write_text(
        f"""
jobs:
  make: {{image: {BUSYBOX_NAME}, inputs: ["*.txt"], outputs: [out], run: ["mkdir out", "cat *.txt > out/all"]}}
  take: {{needs: make, image: {BUSYBOX_NAME}, run: "cat out/all; id -u; ls -a"}}
"""
    )
    (repository / "a.txt").write_text("mine\n")
    entry = pwd.getpwnam(user.name)
    for path in (repository, *repository.iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    run = ("sh", "-c", 'cd repository && git init -q -b main && exec "$@"', "sh")
    done = user.shiplap("ci", "run", "--progress", "plain", prefix=run)
    shown = [line.partition(" | ")[2] for line in done.stderr.splitlines() if line.startswith("take | ")]
    assert shown[1:3] == ["mine", "0"]
    assert "a.txt" in shown
    assert sorted(path.name for path in repository.iterdir()) == [".git", ".shiplap.yml", "a.txt"]


_PIPELINE = f"""
jobs:
  made:
    image: {BUSYBOX_NAME}
    network: none
    outputs: out
    exports: WHAT
    grace: 1s
    run:
      - mkdir out; cp f out/f; chmod 755 out/f; echo WHAT=this >>$SHIPLAP_EXPORTS
      - (setsid sleep 1000 >/dev/null 2>&1 &); cat /proc/1/comm; ls -A .git | wc -l
  used:
    needs: made
    image: {BUSYBOX_NAME}
    network: none
    user: "1234"
    secrets: [{{name: KEY, file: /run/key}}]
    env: {{WHAT: "${{made.WHAT}}"}}
    run: |
      id -u; stat -c '%a %n' out/f; cat out/f; echo $WHAT; cat /run/key | tr a-z b-za; echo
      touch new 2>&1 || echo not theirs
"""


def test_jobs_run_but_for_the_workspace_of_another_user(user: User) -> None:
    repository = user.folder / "home" / "jobs"
    repository.mkdir()
    (repository / ".shiplap.yml").write_text(_PIPELINE)
    (repository / "f").write_text("content\n")
    (user.folder / "home" / "key").write_text("secret-value")
    entry = pwd.getpwnam(user.name)
    for path in (repository, *repository.iterdir(), user.folder / "home" / "key"):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    inside = ("sh", "-c", 'cd jobs && exec "$@"', "sh")
    user(*inside, "git", "init", "--quiet", ".")
    user(*inside, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "one")
    ran = user.shiplap("ci", "run", "--progress", "plain", "--secret", "KEY=../key", prefix=inside)
    lines = [line.partition(" | ")[2] for line in ran.stderr.splitlines() if " | " in line and "=>" not in line]
    said = [line for line in lines if not line.startswith(("succeeded", "failed"))]
    assert said[0] == "init", ran.stderr
    assert int(said[1]) > 5
    assert said[2:7] == ["1234", "755 out/f", "content", "this", "tfdsfu-wbmvf"]
    assert said[-1] == "not theirs"
