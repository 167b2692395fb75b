"""WORKDIR's directories."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from builder.copying.planner import workdir_layer
from builder.errors import CopyConflictError
from images.tarwriter import TarWriter
from tests.builder.copying_tools import CREATED_AT, Layer, Tree, check_written, directory_fd, make_tree


def workdir(tmp_path: Path, path: str, rootfs: Tree | None = None, owner: tuple[int, int] = (0, 0)) -> Layer | None:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    with directory_fd(make_tree(tmp_path / "rootfs", rootfs) if rootfs is not None else None) as fd:
        written = workdir_layer(path, *owner, fd, writer, created_at=CREATED_AT)
    writer.close()
    check_written(written, sink.getvalue(), tmp_path / "written.tar")
    return Layer(sink.getvalue()) or None


def test_workdir_makes_missing_directories_owned_by_the_user(tmp_path: Path) -> None:
    layer = workdir(tmp_path, "/u/v", owner=(5, 6))
    assert layer is not None
    assert {(layer[name].mode, layer.owner(name), layer[name].mtime) for name in ("u", "u/v")} == {
        (0o755, (5, 6), CREATED_AT)
    }


def test_workdir_leaves_existing_directories_untouched(tmp_path: Path) -> None:
    layer = workdir(tmp_path, "/t/a/b", {"t/:1777": None}, owner=(5, 6))
    assert layer is not None
    assert layer.names() == ["t", "t/a", "t/a/b"]
    assert (layer["t"].mode, layer.owner("t"), layer.owner("t/a")) == (0o1777, (0, 0), (5, 6))


@pytest.mark.parametrize("path", ["/", "/t", "/t/", "/t/../t/.", "/l", "/.."])
def test_workdir_that_exists_makes_no_layer(tmp_path: Path, path: str) -> None:
    assert workdir(tmp_path, path, {"t/": None, "l": "-> /t"}) is None


def test_workdir_root_of_scratch_makes_no_layer(tmp_path: Path) -> None:
    assert workdir(tmp_path, "/") is None


def test_workdir_follows_links_inside_the_image(tmp_path: Path) -> None:
    layer = workdir(tmp_path, "/l/x", {"l": "-> ../../t", "t/": None})
    assert layer is not None
    assert layer.names() == ["t", "t/x"]


@pytest.mark.parametrize("path", ["/f", "/f/x"])
def test_workdir_over_a_file_is_an_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(CopyConflictError, match=r"WORKDIR /f.*: /f is not a directory"):
        workdir(tmp_path, path, {"f": ""})
