"""What containers have mounted, in all forms of ``-v``, ``--mount`` and ``--tmpfs``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.containers.volumes import mount, tmpfs
from containers.errors import ContainerError
from engine.engine import Engine
from engine.errors import EngineError, InvalidRequestError, NoSuchImageError, NotDoneError
from images.store import Store
from tests.engine.conftest import put_image, small_layer
from tests.toolkit.bounds import eventually


def run(engine: Engine, script: str, *mounts: str, **host: Any) -> tuple[int, str]:
    """Run a shell script with these ``--mount``s to its end: its exit code, and all that it wrote."""
    asked = {"NetworkMode": "none", "Mounts": [mount(text) for text in mounts], **host}
    made = engine.create(None, {"Image": "bb", "Cmd": ["sh", "-c", f"({script}) 2>&1"], "HostConfig": asked})
    engine.start(made.id)
    code = engine.wait(made.id)
    text = b"".join(entry.data for entry in engine.logs(made.id)).decode()
    engine.remove(made.id, volumes=True)
    return code, text


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory whose mounts are passed on, as those of a host with systemd are."""
    place = tmp_path / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    (place / "below").mkdir()
    yield place
    subprocess.run(["umount", "-R", place], check=True)


def test_a_part_of_a_volume(living: Engine) -> None:
    assert run(living, "mkdir -p /v/a/b; echo x >/v/a/b/f", "source=data,target=/v") == (0, "")
    assert run(living, "cat /p/f; echo y >/p/f", "source=data,target=/p,volume-subpath=a/b") == (0, "x\n")
    assert run(living, "cat /p", "source=data,target=/p,volume-subpath=a/b/f,ro") == (0, "y\n")
    part = {"Type": "volume", "Source": "data", "Target": "/p", "VolumeOptions": {"Subpath": "a"}}
    living.create("other", {"Image": "bb", "HostConfig": {"NetworkMode": "none", "Mounts": [part]}})
    assert run(living, "ls /p", VolumesFrom=["other"]) == (0, "b\n")
    with pytest.raises(ContainerError, match=r"cannot mount .*/data/_data/c in a container: open: No such file"):
        run(living, "true", "source=data,target=/p,volume-subpath=c")


def test_a_part_of_a_volume_is_no_way_out_of_it(living: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's")
    script = f"ln -s {tmp_path} /v/absolute; ln -s ../../../../../..{tmp_path} /v/relative; ln -s inner /v/within"
    assert run(living, f"mkdir /v/inner; {script}", "source=data,target=/v") == (0, "")
    for name in ("absolute", "relative", "absolute/secret"):
        with pytest.raises(ContainerError, match="Invalid cross-device link"):
            run(living, "cat /p/secret", f"source=data,target=/p,volume-subpath={name}")
    assert run(living, "ls -A /p", "source=data,target=/p,volume-subpath=within") == (0, "")


def test_files_of_another_image_are_there_read_only_and_kept(living: Engine) -> None:
    with Store.open(living.places.root) as store:
        image = put_image(store, "files", [small_layer(store, motd="hello\n")])
    whole = "type=image,source=files,target=/i"
    assert run(living, "cat /i/motd; echo x >/i/motd", whole) == (
        1,
        "hello\nsh: can't create /i/motd: Read-only file system\n",
    )
    assert run(living, "cat /m", "type=image,source=files,target=/m,image-subpath=motd") == (0, "hello\n")
    made = living.create("user", {"Image": "bb", "HostConfig": {"Mounts": [mount(whole)]}})
    assert living.inspect("user")["Mounts"][0]["Source"] == "files"
    with Store.open(living.places.root) as store:
        assert store.pinned.holders_of(image.id) == [made.id]
        store.images.remove("files", force=True)
        store.images.prune(all_unused=False)
    living.start("user")
    with pytest.raises(NoSuchImageError):
        run(living, "true", "type=image,source=nowhere,target=/i")


def test_what_is_mounted_below_a_bind_is_there_and_read_only_as_asked(living: Engine, shared: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "below", shared / "below"], check=True)
    (shared / "below" / "deep").write_text("deep\n")
    (shared / "below" / "deep").chmod(0o666)
    bind = f"type=bind,source={shared},target=/b"
    write = "cat /b/below/deep && echo new >/b/below/deep"
    assert run(living, write, bind) == (0, "deep\n")
    assert run(living, write, f"{bind},ro")[1].startswith("new\nsh: can't create /b/below/deep: Read-only")
    assert run(living, write, f"{bind},ro,bind-recursive=readonly,bind-propagation=rprivate")[0] == 1
    assert run(living, write, f"{bind},ro,bind-recursive=writable") == (0, "new\n")
    assert "No such file" in run(living, write, f"{bind},bind-recursive=disabled")[1]
    assert "No such file" in run(living, write, f"{bind},bind-nonrecursive")[1]


@pytest.mark.parametrize(("propagation", "comes"), [("", False), ("private", False), ("slave", True), ("rslave", True)])
def test_what_the_host_mounts_later_comes_with_a_slave_only(
    living: Engine, shared: Path, propagation: str, comes: bool
) -> None:
    bind = f"type=bind,source={shared},target=/b" + (f",bind-propagation={propagation}" if propagation else "")
    script = "echo ready; while test -z \"$(cat /go/now)\"; do sleep 0.02; done; grep -c ' /b/below ' /proc/mounts"
    go = shared.parent / "go"
    go.mkdir()
    (go / "now").write_text("")
    mounts = [mount(bind), mount(f"type=bind,source={go},target=/go")]
    body = {"Image": "bb", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none", "Mounts": mounts}}
    made = living.create("one", body)
    living.start(made.id)
    eventually(lambda: list(living.logs("one")) != [])
    subprocess.run(["mount", "-t", "tmpfs", "later", shared / "below"], check=True)
    (go / "now").write_text("now")
    living.wait("one")
    assert b"".join(entry.data for entry in living.logs("one")) == b"ready\n%d\n" % comes
    assert living.inspect("one")["Mounts"][0]["Propagation"] == (propagation or "rprivate")


@pytest.mark.parametrize(
    ("options", "script", "said"),
    [
        (
            "",
            "grep ' /t ' /proc/mounts | cut -d' ' -f4 | tr , '\n' | grep -E '^(rw|no)'",
            "rw\nnosuid\nnodev\nnoexec\n",
        ),
        ("exec,size=1m", "cp /bin/busybox /t/true; /t/true", "cp: write error: No space left on device\n"),
        ("uid=7,gid=8,mode=700", "stat -c '%u:%g %a' /t", "7:8 700\n"),
        ("ro", "touch /t/x", "touch: /t/x: Read-only file system\n"),
        ("nr_inodes=3,size=50%", "touch /t/1 /t/2 /t/3", "touch: /t/3: No space left on device\n"),
    ],
)
def test_a_tmpfs_is_what_its_options_say(living: Engine, options: str, script: str, said: str) -> None:
    text = run(living, script, Tmpfs=tmpfs([f"/t:{options}" if options else "/t"]))[1]
    assert said in text


def test_a_tmpfs_by_mount(living: Engine) -> None:
    text = "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700"
    assert run(living, "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2", text) == (0, "700\n1024\n")
    assert run(living, "touch /t/x", "type=tmpfs,target=/t,ro")[0] == 1


def test_a_volume_that_is_a_directory_of_the_hosts(living: Engine, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    bound = {"type": "none", "o": "bind", "device": str(tmp_path / "here")}
    living.volumes.create({"Name": "bound", "DriverOpts": bound})
    assert living.volumes.inspect("bound")["Options"] == bound
    assert run(living, "echo x >/v/f", "source=bound,target=/v") == (0, "")
    assert (tmp_path / "here" / "f").read_text() == "x\n"
    living.volumes.remove("bound")
    assert (tmp_path / "here" / "f").exists()
    options = f'"volume-opt=o=bind,ro",volume-opt=type=none,volume-opt=device={tmp_path}/here'
    assert run(living, "cat /v/f; touch /v/g", f"source=again,target=/v,{options}")[1].startswith(
        "x\ntouch: /v/g: Read-"
    )


@pytest.mark.parametrize(
    ("host", "error", "message"),
    [
        ({"Mounts": [{"Type": "tmpfs", "Target": "/t", "Source": "x"}]}, InvalidRequestError, "field Source must not"),
        ({"Mounts": [{"Type": "volume", "Target": "/t", "VolumeOptions": {"Subpath": "a"}}]}, InvalidRequestError,
         "must not set Subpath when using anonymous volumes"),
        ({"Mounts": [{"Type": "volume", "Source": "vv", "Target": "/t", "VolumeOptions": {"Subpath": "../a"}}]},
         InvalidRequestError, "subpath must be a relative path within it"),
        ({"Mounts": [{"Type": "image", "Target": "/t"}]}, InvalidRequestError, "field Source must not be empty"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/t", "BindOptions": {"Propagation": "shared"}}]},
         NotDoneError, "mounts are not passed on to the host"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/t", "BindOptions": {"Propagation": "x"}}]},
         InvalidRequestError, "invalid propagation mode"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/t", "BindOptions": {"ReadOnlyNonRecursive": True}}]},
         InvalidRequestError, "must be read-only"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/t", "Pumpkin": 1}]}, NotDoneError, "Pumpkin"),
        ({"Mounts": [{"Type": "volume", "Target": "/t", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}]},
         NotDoneError, "the volume driver 'nfs' is not there"),
        ({"Mounts": [{"Type": "volume", "Target": "/t", "VolumeOptions": {"DriverConfig": {"Options":
          {"type": "nfs", "o": "addr=1.2.3.4", "device": ":/x"}}}}]}, NotDoneError, "type 'nfs' is refused"),
        ({"Mounts": [{"Type": "npipe", "Target": "/t"}]}, InvalidRequestError, "mount type unknown"),
        ({"Tmpfs": {"/t": "size=many"}}, InvalidRequestError, "invalid tmpfs option 'size=many'"),
        ({"Tmpfs": {"/t": "uid=x"}}, InvalidRequestError, "invalid tmpfs option 'uid=x'"),
        ({"Tmpfs": {"/t": "dev"}}, NotDoneError, "nobody makes devices"),
        ({"Tmpfs": {"/t": "pumpkin"}}, InvalidRequestError, "invalid tmpfs option 'pumpkin'"),
        ({"Binds": ["vv:/t:slave"]}, InvalidRequestError, "a volume has no propagation"),
        ({"Binds": ["/tmp:/t:nocopy"]}, InvalidRequestError, "a bind copies nothing"),
    ],
)  # fmt: skip
def test_mounts_that_make_no_sense_or_are_not_done(
    engine: Engine, host: dict[str, Any], error: type[EngineError], message: str
) -> None:
    with pytest.raises(error) as refused:
        engine.create("one", {"Image": "app", "HostConfig": host})
    assert message in refused.value.message
    assert engine.volumes.listed()["Volumes"] == []
