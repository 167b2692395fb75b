"""Merged read-only views of layers, as COPY and the layer writer look at them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from containers.errors import MountError
from containers.launcher import Launcher
from core.rootfs import DirectoryLayer, ErofsLayer, RootLayer
from tests.containers.running import Runner
from tests.toolkit.host import mount_table


def _layer(folder: Path, name: str, *files: str) -> DirectoryLayer:
    layer = folder / name / "fs"
    layer.mkdir(parents=True)
    for file in files:
        path = layer / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.chown(path, 1234, 2345)
    return DirectoryLayer(str(layer))


def _erofs(folder: Path, layer: DirectoryLayer) -> ErofsLayer:
    tar, image = folder / "layer.tar", folder / "layer.erofs"
    subprocess.run(["tar", "--create", "--file", tar, "--directory", layer.path, "."], check=True)
    subprocess.run(["mkfs.erofs", "--quiet", "--tar=i", "--aufs", image, tar], check=True)
    return ErofsLayer(str(image), str(tar))


def _names(launcher: Launcher, *layers: RootLayer) -> list[str]:
    fd = launcher.view(layers)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def test_upper_layers_cover_lower_ones(launcher: Launcher, tmp_path: Path) -> None:
    layers = [_layer(tmp_path, "one", "a", "b"), _layer(tmp_path, "two", "b", "c")]
    fd = launcher.view(layers)
    assert sorted(os.listdir(fd)) == ["a", "b", "c"]
    with open(os.open("b", os.O_RDONLY, dir_fd=fd)) as file:
        assert file.read() == "two"
    assert os.stat("b", dir_fd=fd).st_uid == 1234
    os.close(fd)


def test_whiteouts_and_opaque_directories_hide(launcher: Launcher, tmp_path: Path) -> None:
    below, above = _layer(tmp_path, "below", "gone", "dir/old", "stays"), _layer(tmp_path, "above", "dir/new")
    os.mknod(f"{above.path}/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(f"{above.path}/dir", "user.overlay.opaque", b"y")
    fd = launcher.view([below, above])
    assert sorted(os.listdir(fd)) == ["dir", "stays"]
    inner = os.open("dir", os.O_RDONLY, dir_fd=fd)
    assert os.listdir(inner) == ["new"]
    os.close(inner)
    os.close(fd)


def test_view_is_readonly_and_not_in_the_hosts_mount_table(launcher: Launcher, tmp_path: Path) -> None:
    before = mount_table()
    fd = launcher.view([_layer(tmp_path, "one", "a"), _layer(tmp_path, "two", "b")])
    with pytest.raises(OSError, match="Read-only"):
        os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    assert mount_table() == before
    os.close(fd)


def test_view_outlives_the_launcher(launcher: Launcher, tmp_path: Path) -> None:
    fd = launcher.view([_layer(tmp_path, "one", "a"), _layer(tmp_path, "two", "b")])
    launcher.close()
    assert sorted(os.listdir(fd)) == ["a", "b"]
    os.close(fd)


def test_one_directory_needs_no_launcher_process(launcher: Launcher, tmp_path: Path) -> None:
    assert _names(launcher, _layer(tmp_path, "one", "a")) == ["a"]
    assert launcher.pid == 0


def test_no_layers_are_an_empty_directory(launcher: Launcher) -> None:
    assert _names(launcher) == []


def test_erofs_layers_are_viewed_and_run(run: Runner, tmp_path: Path) -> None:
    image = _erofs(tmp_path, _layer(tmp_path, "one", "from-erofs"))
    assert _names(run.launcher, image) == ["from-erofs"]
    assert "from-erofs" in _names(run.launcher, run.layer, image)
    assert run("stat -c %u:%g /from-erofs; cat /from-erofs", layers=(run.layer, image)).split() == ["1234:2345", "one"]
    assert run("cat /from-erofs; echo; ls /bin/sh", layers=(image, run.layer)).split() == ["one", "/bin/sh"]


def test_two_hundred_layers(launcher: Launcher, tmp_path: Path) -> None:
    layers = [_layer(tmp_path, f"layer {number}, with:signs", f"f{number}") for number in range(220)]
    assert len(_names(launcher, *layers)) == 220


def test_missing_layer_is_an_error_and_the_launcher_goes_on(launcher: Launcher, tmp_path: Path) -> None:
    good = _layer(tmp_path, "one", "a"), _layer(tmp_path, "two", "b")
    with pytest.raises(MountError):
        launcher.view([*good, DirectoryLayer("/no/such/layer/fs")])
    with pytest.raises(MountError, match="EROFS"):
        launcher.view([*good, ErofsLayer("/no/such/image", "/no/such/tar")])
    assert _names(launcher, *good) == ["a", "b"]
