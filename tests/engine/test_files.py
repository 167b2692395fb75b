"""Files into containers and out of them, running or not; no link leads out; export and commit."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from containers import syscalls
from core.references import Reference
from engine import inside, locking
from engine.engine import Engine
from engine.errors import EngineError, InvalidRequestError, PathNotFoundError
from images.store import Store
from tests.engine.test_life import create, output
from tests.toolkit.bounds import eventually, stretched

_MNT_FORCE: Final = 1  # what waits for an answer gets an error


class Host:
    """The host's own tree."""

    def enter(self) -> int:
        return os.open("/", os.O_PATH)

    def leave(self) -> None:
        """There is nothing to be taken away."""


STATES = pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])


def tar_of(**files: str) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("_", "/"))
            entry.size, entry.uid, entry.gid, entry.mode = len(text), 1000, 1001, 0o640
            tar.addfile(entry, io.BytesIO(text.encode()))
    made.seek(0)
    return made


def copied(engine: Engine, ref: str, path: str) -> dict[str, tarfile.TarInfo]:
    with open(os.memfd_create("tar"), "w+b") as sink:
        engine.files.copy_out(ref, path, sink.fileno())
        sink.seek(0)
        with tarfile.open(fileobj=sink) as tar:
            return {entry.name: entry for entry in tar}


def text_of(engine: Engine, ref: str, path: str) -> str:
    with open(os.memfd_create("tar"), "w+b") as sink:
        engine.files.copy_out(ref, path, sink.fileno())
        sink.seek(0)
        with tarfile.open(fileobj=sink) as tar:
            member = tar.extractfile(tar.next() or "")
            assert member is not None
            return member.read().decode()


def box(engine: Engine, runs: bool, script: str, **host: object) -> str:
    """A container that has done this, and runs or not."""
    create(engine, "box", "sh", "-c", f"{script}; touch /ready; test -e /stop || exec sleep 1000", host=host)
    engine.start("box")
    eventually(lambda: any(change.path == "/ready" for change in engine.changes("box")))
    if not runs:
        engine.stop("box", timeout_s=0)
    return "box"


@STATES
def test_files_come_out_with_the_owners_that_the_container_sees(living: Engine, runs: bool) -> None:
    ref = box(
        living, runs, "mkdir -p /d/e; echo hi > /d/e/f; chown 5:6 /d/e/f; ln -s /etc/passwd /d/l; chmod 4755 /d/e/f"
    )
    found = copied(living, ref, "/d")
    assert set(found) == {"d", "d/e", "d/e/f", "d/l"}
    assert (found["d/e/f"].uid, found["d/e/f"].gid, found["d/e/f"].mode) == (5, 6, 0o4755)
    assert (found["d"].uid, found["d/l"].linkname) == (0, "/etc/passwd")
    assert set(copied(living, ref, "/d/l")) == {"l"}
    assert text_of(living, ref, "/d/e/../e/f") == "hi\n"
    stat = living.files.stat(ref, "/d/l")
    assert (stat["name"], stat["linkTarget"], stat["mode"] >> 27 & 1) == ("l", "/etc/passwd", 1)
    with pytest.raises(PathNotFoundError, match="Could not find the file /no/where in container"):
        living.files.stat(ref, "/no/where")


@STATES
def test_files_go_in_as_roots_or_with_their_owners(living: Engine, runs: bool) -> None:
    ref = box(living, runs, "mkdir /in; echo old > /in/a")
    living.files.copy_in(ref, "/in", tar_of(a="new", sub_b="b"))
    living.files.copy_in(ref, "/in", tar_of(mine="c"), owners=True)
    found = copied(living, ref, "/in")
    assert {name: (entry.uid, entry.gid) for name, entry in found.items() if entry.isfile()} == {
        "in/a": (0, 0), "in/sub/b": (0, 0), "in/mine": (1000, 1001),
    }  # fmt: skip
    assert text_of(living, ref, "/in/a") == "new"
    living.stop("box", timeout_s=0) if runs else None
    living.start("box")
    assert text_of(living, ref, "/in/mine") == "c"
    with pytest.raises(InvalidRequestError, match="extraction point is not a directory"):
        living.files.copy_in(ref, "/in/a", tar_of(x="y"))
    with pytest.raises(PathNotFoundError):
        living.files.copy_in(ref, "/nowhere", tar_of(x="y"))
    with pytest.raises(InvalidRequestError, match="cannot overwrite directory 'sub' with non-directory"):
        living.files.copy_in(ref, "/in", tar_of(sub="file"), no_overwrite=True)


@STATES
def test_no_link_of_a_container_leads_out_of_it(living: Engine, runs: bool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    links = f"ln -s {tmp_path} /out; ln -s ../../../../../..{tmp_path} /up; ln -s /proc/self/root{tmp_path} /proclink"
    ref = box(living, runs, links)
    for link in ("/out", "/up", "/proclink"):
        with pytest.raises(PathNotFoundError):
            living.files.stat(ref, f"{link}/secret")
        with pytest.raises(PathNotFoundError):
            copied(living, ref, f"{link}/")
        with pytest.raises((PathNotFoundError, InvalidRequestError)):
            living.files.copy_in(ref, link, tar_of(secret="taken"))
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        symlink = tarfile.TarInfo("there")
        symlink.type, symlink.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(symlink)
        entry = tarfile.TarInfo("there/secret")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"taken"))
    evil.seek(0)
    with pytest.raises(EngineError, match="cannot unpack 'there/secret'"):
        living.files.copy_in(ref, "/tmp", evil)
    assert (tmp_path / "secret").read_text() == "host"


def test_a_container_that_swaps_links_while_it_is_copied_gains_nothing(living: Engine, tmp_path: Path) -> None:
    (tmp_path / "flag").write_text("host")
    swap = f"mkdir /a /b; echo own > /a/flag; echo own > /b/flag; ln -s {tmp_path} /l; touch /ready; "
    swap += "while :; do mv /a /x; mv /l /a; mv /a /l; mv /x /a; done"
    create(living, "box", "sh", "-c", swap)
    living.start("box")
    eventually(lambda: any(change.path == "/ready" for change in living.changes("box")))
    seen: set[str] = set()
    for _ in range(40):
        try:
            seen.add(text_of(living, "box", "/a/flag"))
            living.files.copy_in("box", "/a", tar_of(flag="mine"))
        except (PathNotFoundError, InvalidRequestError):
            seen.add("none")
    assert "host" not in seen
    assert (tmp_path / "flag").read_text() == "host"


@STATES
def test_volumes_are_part_of_what_is_copied_and_not_of_what_is_exported(living: Engine, runs: bool) -> None:
    ref = box(living, runs, "echo in > /data/x; echo own > /own; rm /bin/cat", Binds=["volume:/data"])
    assert text_of(living, ref, "/data/x") == "in\n"
    living.files.copy_in(ref, "/data", tar_of(y="into"))
    assert (Path(living.volumes.inspect("volume")["Mountpoint"]) / "y").read_text() == "into"
    exported = io.BytesIO()
    living.files.export(ref, exported)
    exported.seek(0)
    with tarfile.open(fileobj=exported) as tar:
        names = {entry.name for entry in tar}
    assert {"own", "bin/sh", ".dockerenv"} <= names
    assert not {"data/x", "bin/cat", "proc/self"} & names


@STATES
def test_a_part_of_a_volume_is_all_that_is_copied_of_it(living: Engine, runs: bool) -> None:
    box(living, False, "mkdir /data/part; echo in > /data/part/x; echo out > /data/x", Binds=["volume:/data"])
    living.remove("box", force=True)
    part = {"Type": "volume", "Source": "volume", "Target": "/p", "VolumeOptions": {"Subpath": "part"}}
    ref = box(living, runs, "true", Mounts=[part])
    assert set(copied(living, ref, "/p")) == {"p", "p/x"}
    assert text_of(living, ref, "/p/x") == "in\n"


@STATES
def test_an_image_is_made_of_what_changed(living: Engine, runs: bool) -> None:
    ref = box(living, runs, "echo made > /made; rm /bin/cat; echo in > /data/x", Binds=["volume:/data"])
    identity = living.files.commit(
        ref,
        Reference.parse("made"),
        comment="why",
        author="me",
        instructions=['CMD ["sh", "-c", "ls /; ls /data"]', "ENV A=b"],
    )
    with Store.open(living.places.root) as store:
        image = store.images.resolve("made")
        assert str(image.id) == identity
        config = image.config
        assert (config.config.cmd, config.config.env[-1]) == (("sh", "-c", "ls /; ls /data"), "A=b")
        assert (config.history[-1].comment, config.author) == ("why", "me")
    living.create("again", {"Image": "made"})
    living.start("again")
    living.wait("again")
    listed = output(living, "again").decode().split()
    assert "made" in listed
    assert "x" not in listed
    with pytest.raises(InvalidRequestError):
        living.files.commit(ref, None, instructions=["RUN true"])
    if runs:
        assert living.inspect(ref)["State"]["Status"] == "running"  # it was paused for a moment


def test_a_commit_of_nothing_adds_no_layer(living: Engine) -> None:
    create(living, "box", "true")
    identity = living.files.commit("box", None)
    with Store.open(living.places.root) as store:
        assert len(store.images.resolve(identity).diff_ids) == 1


def test_work_that_gets_nowhere_is_ended_and_work_that_goes_on_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_LOOK_EACH_S", 0.02)

    def slow(_root: int) -> dict[str, Any]:
        for _ in range(20):
            Path("/proc/self/stat").read_bytes()
            time.sleep(0.02)
        return {"done": True}

    def hanging(_root: int) -> dict[str, Any]:
        time.sleep(1000)
        return {}

    patience_s = stretched(0.3)
    tree: Any = Host()
    assert inside.work(tree, slow, patience_s) == {"done": True}
    with pytest.raises(EngineError, match="nothing has come of the container's files"):
        inside.work(tree, hanging, patience_s)


def test_work_in_a_file_system_that_has_the_question_and_never_answers_is_left(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel holds such a process, SIGKILL or not, until the file system ends."""
    monkeypatch.setattr(inside, "_LOOK_EACH_S", 0.02)
    monkeypatch.setattr(inside, "_DEATH_S", 0.2)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    syscalls.mount("silent", str(tmp_path), "fuse", 0, f"fd={fuse},rootmode=40755,user_id=0,group_id=0")

    def serve() -> None:
        unique = os.read(fuse, 1 << 20)[8:16]  # fuse_in_header of FUSE_INIT
        os.write(fuse, struct.pack("=Ii8s4IHHI10I", 80, 0, unique, 7, 31, 0, 0, 0, 0, 4096, *[0] * 10))
        os.read(fuse, 1 << 20)  # the look-up

    def look(_root: int) -> dict[str, Any]:
        os.close(fuse)  # else the file system would wait for us, too
        return {"size": os.stat(tmp_path / "x").st_size}

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    tree: Any = Host()
    try:
        with pytest.raises(EngineError, match="nothing has come of the container's files"):
            inside.work(tree, look, stretched(0.1))
        assert len(inside._stuck) == 1
    finally:
        syscalls.umount2(str(tmp_path), _MNT_FORCE | syscalls.MNT_DETACH)
        os.close(fuse)

    def gone() -> bool:
        inside._reap()
        return not inside._stuck

    eventually(gone)


def test_who_else_copies_from_a_container_that_does_not_run_is_waited_for(living: Engine) -> None:
    create(living, "box", "true")
    lock = locking.take(living.directory(living.records.container("box").id), make=True)
    assert lock is not None
    threading.Timer(0.2, os.close, [lock]).start()
    assert text_of(living, "box", "/etc/passwd").startswith("root:")
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: copied(living, "box", "/etc"), range(4)))
    lock = locking.take(living.directory(living.records.container("box").id), make=True)
    assert lock is not None
    threading.Timer(0.2, os.close, [lock]).start()
    living.start("box")
    assert living.wait("box") == 0
