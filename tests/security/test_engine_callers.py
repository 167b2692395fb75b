"""An engine for each caller: binds reach what the caller could, files are the caller's, and nobody sees another's."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.errors import ContainerError, MountError
from core.kernel import openat2
from engine import callers
from engine.callers import Caller, places_of
from engine.engine import Engine
from engine.errors import ContainerNotFoundError, InvalidRequestError, NotDoneError, PathNotFoundError
from engine.inside import CONFINED, Running, work
from engine.places import Places
from images.store import Store
from tests.engine.conftest import busybox_root as busybox_root
from tests.engine.conftest import ended, put_busybox, put_image, small_layer
from tests.engine.conftest import living as living
from tests.toolkit.bounds import Deadline
from tests.toolkit.ordinary import User, ordinary_user

_CAPABILITY = bytes.fromhex("0100000200002000000000000000000000000000")
"""cap_sys_admin, permitted and effective, of version 2. capability.h, struct vfs_cap_data"""


@pytest.fixture(scope="module")
def user(privileged: None) -> Iterator[User]:
    with ordinary_user(f"shiplapm{os.getpid()}") as user:
        yield user


@pytest.fixture
def place(user: User) -> Path:
    """A directory of the user's that is empty."""
    place = user.folder / "home" / "bound"
    subprocess.run(["rm", "-rf", place], check=True)
    place.mkdir(mode=0o755)
    user.own(place)
    return place


@pytest.fixture(scope="module")
def root(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the user's engine: ``bb``, and ``node``, an image whose user is 1000."""
    root = tmp_path_factory.mktemp("member") / "root"
    with Store.open(root) as store:
        base = put_busybox(store, busybox_tar)
        accounts = {"etc/passwd": "root:x:0:0::/:/bin/sh\nnode:x:1000:1001::/:/bin/sh\n", "etc/group": "node:x:1001:\n"}
        put_image(store, "node", [base, small_layer(store, **accounts)], env=("PATH=/bin",), user="node")
    return root


@pytest.fixture
def theirs(user: User, root: Path, short_path: Path) -> Iterator[Engine]:
    """The user's engine with root's means."""
    with ended(Engine(Places(root, short_path / "member"), caller=Caller.of(user.uid))) as engine:
        yield engine


def run(engine: Engine, script: str, *binds: str, image: str = "bb", user: str = "", **host: Any) -> tuple[int, str]:
    """Run a shell script with these ``-v``s to its end: its exit code, and all that it wrote."""
    asked = {"NetworkMode": "none", "Binds": list(binds), **host}
    body = {"Image": image, "Cmd": ["sh", "-c", f"({script}) 2>&1"], "HostConfig": asked, "User": user}
    made = engine.create(None, body)
    engine.start(made.id)
    code = engine.wait(made.id)
    text = b"".join(entry.data for entry in engine.logs(made.id)).decode()
    engine.remove(made.id, volumes=True)
    return code, text


def _owner(path: Path) -> tuple[int, int]:
    info = path.lstat()
    return info.st_uid, info.st_gid


def _subordinates(user: User) -> int:
    found = callers.subordinates(user.uid)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("image", "asked", "number"),
    [("bb", "", 0), ("bb", "1000", 1000), ("bb", "65535:7", 65535), ("node", "", 1000), ("node", "0", 0)],
)
def test_what_the_commands_user_makes_is_the_callers(
    theirs: Engine, user: User, place: Path, image: str, asked: str, number: int
) -> None:
    (place / "before").write_text("mine\n")
    (place / "before").chmod(0o600)
    user.own(place / "before")
    said = run(theirs, "id -u; cat /b/before; echo x >/b/made; mkdir /b/below", f"{place}:/b", image=image, user=asked)
    assert said == (0, f"{number}\nmine\n")
    gid = place.stat().st_gid
    assert {_owner(path) for path in place.iterdir()} == {(user.uid, gid)}


def test_entrypoint_that_chowns_gives_files_to_subordinate_ids(theirs: Engine, user: User, place: Path) -> None:
    """As PostgreSQL's: root makes the directory another user's, and goes on as that one."""
    script = "mkdir /b/data && chown 999:999 /b/data && chmod 700 /b/data; "
    script += "stat -c %u:%g /b/data /b"
    assert run(theirs, script, f"{place}:/b") == (0, "999:999\n0:0\n")
    assert _owner(place / "data")[0] == _subordinates(user) + 998  # as it is without root
    assert run(theirs, "touch /b/data/file; stat -c %u /b/data/file", f"{place}:/b", user="999")[0] != 0
    made = run(theirs, "ls -ln /b | tail -1 | tr -s ' ' | cut -d' ' -f3", f"{place}:/b", user="1000")
    assert made == (0, "999\n")


def test_root_beside_the_commands_user_has_the_last_subordinate_id(theirs: Engine, user: User, place: Path) -> None:
    body = {"Image": "bb", "Cmd": ["sleep", "1000"], "User": "1000", "HostConfig": {"Binds": [f"{place}:/b"]}}
    made = theirs.create("roots", body)
    theirs.start("roots")
    conversation, _ = theirs.execute("roots", {"args": ["/bin/touch", "/b/of-root"], "user": "0"}, ())
    with conversation:
        deadline = Deadline(5)
        while not (place / "of-root").exists():
            deadline.check()
    assert _owner(place / "of-root")[0] == _subordinates(user) + 65535
    theirs.remove(made.id, force=True)


def test_bind_reads_nothing_that_the_caller_could_not(theirs: Engine, place: Path) -> None:
    for name, mode in (("closed", 0o600), ("open", 0o644)):
        (place / name).write_text("root's\n")
        (place / name).chmod(mode)
    inner = place / "inner"
    inner.mkdir(mode=0o700)
    (inner / "file").write_text("root's\n")
    said = run(theirs, "cat /b/open; cat /b/closed; cat /b/inner/file; chown 0 /b/open; rm -r /b/inner", f"{place}:/b")
    assert said[1].count("root's") == 1
    assert (inner / "file").exists()
    assert _owner(place / "open") == (0, 0)


def test_source_that_the_caller_cannot_reach_is_not_there(theirs: Engine, tmp_path: Path) -> None:
    """Neither is it found, nor made, nor told from one that is missing."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "there").mkdir()
    mount = {"Type": "bind", "Target": "/b"}
    for name in ("there", "missing"):
        with pytest.raises(InvalidRequestError, match="bind source path does not exist"):
            run(theirs, "true", Mounts=[{**mount, "Source": str(closed / name)}])
        with pytest.raises(InvalidRequestError, match=r"cannot make the bind's source .*: Permission denied"):
            run(theirs, "true", f"{closed / name}:/b")
    assert [path.name for path in closed.iterdir()] == ["there"]


def test_source_that_is_missing_is_made_as_the_caller(theirs: Engine, user: User, place: Path) -> None:
    assert run(theirs, "touch /b/file", f"{place}/new/deep:/b") == (0, "")
    assert _owner(place / "new")[0] == _owner(place / "new" / "deep" / "file")[0] == user.uid


def test_links_that_change_lead_nowhere_else(theirs: Engine, user: User, place: Path, tmp_path: Path) -> None:
    """The source is looked at when the container is made, and again when it starts: both as the caller."""
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("root's\n")
    (place / "mine").mkdir()
    user.own(place / "mine")
    link = place / "link"
    link.symlink_to(place / "mine")
    body = {"Image": "bb", "Cmd": ["cat", "/b/file"], "HostConfig": {"Binds": [f"{link}:/b"], "NetworkMode": "none"}}
    made = theirs.create("links", body)
    link.unlink()
    link.symlink_to(secret)
    with pytest.raises(ContainerError, match="Permission denied"):
        theirs.start(made.id)
    theirs.remove(made.id)


def test_race_of_links_reaches_nothing(theirs: Engine, user: User, place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("root's\n")
    (place / "mine").mkdir()
    user.own(place / "mine")
    names = [place / "to-mine", place / "to-secret"]
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for number, target in enumerate((place / "mine", secret)):
                names[number].unlink(missing_ok=True)
                names[number].symlink_to(target)
                os.replace(names[number], place / "link")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(8):
            try:
                said = run(theirs, "cat /b/file", f"{place}/link:/b")
            except (ContainerError, InvalidRequestError):
                continue
            assert "root's" not in said[1]
    finally:
        over.set()
        swapper.join()


@pytest.mark.parametrize("source", ["/proc/self/fd", "/proc/self/cwd", "/proc/self/root", "/proc/1/root"])
def test_magic_links_of_the_keeper_are_no_sources(theirs: Engine, source: str) -> None:
    with pytest.raises((ContainerError, InvalidRequestError)):
        run(theirs, "true", f"{source}:/b")


def test_volume_that_is_a_directory_of_the_hosts_is_bound_as_the_caller(theirs: Engine, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "below").mkdir()
    theirs.volumes.create({"Name": "hosts", "DriverOpts": {"type": "none", "o": "bind", "device": str(closed)}})
    with pytest.raises(MountError, match="Permission denied"):
        run(theirs, "true", "hosts:/v")
    volume = {"Type": "volume", "Source": "hosts", "Target": "/v", "VolumeOptions": {"Subpath": "below"}}
    with pytest.raises(MountError, match="Permission denied"):
        run(theirs, "true", Mounts=[volume])


def test_stopped_containers_bind_is_closed_to_cp(theirs: Engine, tmp_path: Path, place: Path) -> None:
    """Who copies out of it is the host's root: a file of root's in the bind is none of the caller's."""
    (place / "shadow").write_text("root's\n")
    (place / "shadow").chmod(0o600)
    body = {"Image": "bb", "Cmd": ["true"], "HostConfig": {"Binds": [f"{place}:/b"], "NetworkMode": "none"}}
    made = theirs.create("stopped", body)
    with (
        pytest.raises(PathNotFoundError, match="Could not find the file"),
        open(os.devnull, "wb") as sink,
    ):
        theirs.files.copy_out(made.id, "/b/shadow", sink.fileno())
    theirs.remove(made.id)


def test_set_user_id_bits_are_to_whom_the_file_is_anyway(theirs: Engine, user: User, place: Path) -> None:
    assert run(theirs, "cp /bin/busybox /b/mine && chmod 6755 /b/mine", f"{place}:/b") == (0, "")
    assert (place / "mine").stat().st_mode & stat.S_ISUID
    assert _owner(place / "mine")[0] == user.uid
    (place / "roots").write_bytes(b"#!/bin/sh\n")
    said = run(theirs, "stat -c %u /b/roots; chmod 6755 /b/roots || chown 0 /b/roots || echo no", f"{place}:/b")
    assert said[1].startswith("65534\n")  # root's on the host, who is nobody there
    assert said[1].endswith("no\n")


def test_file_capabilities_are_worth_nothing_on_the_host(theirs: Engine, user: User, place: Path) -> None:
    body = {"Image": "bb", "Cmd": ["sh", "-c", "cp /bin/busybox /b/busybox; touch /b/done; sleep 1000"]}
    theirs.create("capable", {**body, "HostConfig": {"Binds": [f"{place}:/b"], "NetworkMode": "none"}})
    theirs.start("capable")
    deadline = Deadline(5)
    while not (place / "done").exists():
        deadline.check()
    state = theirs.state("capable")

    def give(root: int) -> dict[str, Any]:
        fd = openat2(root, "b/busybox", os.O_RDONLY, resolve=CONFINED)
        os.setxattr(f"/proc/self/fd/{fd}", "security.capability", _CAPABILITY)
        return {}

    identity = theirs.inspect("capable")["Id"]
    work(Running(theirs.keepers, identity, state.pid), give)
    assert os.getxattr(place / "busybox", "security.capability")[-4:] == user.uid.to_bytes(4, "little")
    said = user(place / "busybox", "grep", "CapEff", "/proc/self/status")
    assert said.stdout == "CapEff:\t0000000000000000\n"
    theirs.remove("capable", force=True)


def test_member_has_nothing_that_is_roots_callers(theirs: Engine) -> None:
    for host, reason in (
        ({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}]}, "for root's callers"),
        ({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}, "NetworkMode": "bridge"}, "port 80 is for root's callers"),
        ({"Devices": [{"PathOnHost": "/root/is/it/there"}]}, "for root's callers"),
        ({"BlkioDeviceReadBps": [{"Path": "/root/is/it/there", "Rate": 1}]}, "for root's callers"),
        ({"OomScoreAdj": -500}, "for root's callers"),
        ({"NetworkMode": "host"}, "--network host is for the host's root"),
    ):
        with pytest.raises(InvalidRequestError, match=reason):
            theirs.create(None, {"Image": "bb", "HostConfig": host})


def test_who_has_no_subordinate_ids_is_told(theirs: Engine, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "subordinates", lambda _uid: None)
    body = {"Image": "bb", "Cmd": ["sh", "-c", "touch /b/ok; chown 5 /b/ok"], "HostConfig": {"Binds": [f"{place}:/b"]}}
    made = theirs.create("few", body)
    assert "has no subordinate IDs" in made.warnings[0]
    theirs.start("few")
    assert theirs.wait("few") == 1
    assert (place / "ok").exists()
    theirs.remove("few")


def test_each_caller_has_an_engine_of_their_own(
    user: User, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller.of(user.uid)
    with pytest.raises(NotDoneError, match="is not in the group shiplap") as error:
        places_of(tmp_path, caller._replace(groups=(caller.gid,), gid=caller.gid))
    assert f"usermod -aG shiplap {user.name}" in str(error.value.hint)
    monkeypatch.setattr(callers, "GROUP", user.name)
    with monkeypatch.context() as web:
        web.setattr(callers, "_WEB_USER", user.name)
        with pytest.raises(NotDoneError, match=f"{user.name} is the web service's user, and has no engine"):
            places_of(tmp_path, caller)
    theirs, roots = places_of(tmp_path, caller), places_of(tmp_path, Caller(0, 0, ()))
    assert theirs.root == tmp_path / "users" / str(user.uid)
    assert theirs.run != roots.run
    theirs, roots = theirs._replace(run=short_path / "theirs"), roots._replace(run=short_path / "roots")
    with Store.open(roots.root) as store:
        put_image(store, "app", [small_layer(store, motd="root's")])
    with Engine(roots) as engine:
        made = engine.create("same", {"Image": "app", "Cmd": ["x"], "HostConfig": {"Binds": ["data:/v"]}})
        engine.networks.create({"Name": "net"})
    with Engine(theirs, caller=caller) as engine:
        engine.places.make()
        with Store.open(theirs.root) as store:
            assert list(store.images.list()) == []
            put_image(store, "app", [small_layer(store, motd="theirs")])
        assert engine.containers(every=True) == []
        assert engine.volumes.listed()["Volumes"] == []
        assert "net" not in [each["Name"] for each in engine.networks.listed()]
        assert list(engine.events(since="1", until="0s")) == []
        with pytest.raises(ContainerNotFoundError):
            engine.inspect(made.id)
        assert engine.create("same", {"Image": "app", "Cmd": ["x"]}).id != made.id
    for private in (theirs.root, theirs.run, theirs.containers, theirs.volumes):
        assert private.stat().st_mode & 0o077 == 0


def test_another_users_sockets_and_state_are_closed(theirs: Engine, user: User) -> None:
    made = theirs.create("seen", {"Image": "bb", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}})
    theirs.start("seen")
    run_place = theirs.places.run
    for path in (run_place / "nursery.sock", theirs.places.keeper(made.id), theirs.directory("seen") / "state.json"):
        assert path.exists()
        assert user("cat", path, check=False).returncode != 0
        assert user("test", "-e", path, check=False).returncode != 0 or not os.access(path.parent, os.X_OK)
    theirs.remove("seen", force=True)


def test_containers_of_two_callers_are_different_nobodies(theirs: Engine, living: Engine) -> None:
    """Their engines have RUNs side by side, as below /run/shiplap, and share the locks of ranges there."""
    firsts = set()
    for engine in (theirs, living):
        for name in ("one", "two"):
            engine.create(name, {"Image": "bb", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}})
            engine.start(name)
            outside = Path(f"/proc/{engine.state(name).pid}/uid_map").read_text().split()
            firsts.add(int(outside[1]))
            assert outside[2] == "65536"
    assert len(firsts) == 4
    assert all(abs(one - other) >= 65536 for one in firsts for other in firsts if one != other)
