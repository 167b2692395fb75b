"""``cp``: what comes out of a container reaches nothing but the directory that was asked for."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.containers.copying import Place
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("web:/etc", Place("web", "/etc")),
        ("web:", Place("web", "/")),
        ("./web:file", Place("", "./web:file")),
        ("/srv/a:b", Place("", "/srv/a:b")),
        ("dir/web:file", Place("", "dir/web:file")),
        ("-", Place("", "-")),
    ],
)
def test_what_is_a_container_and_what_a_path(text: str, place: Place) -> None:
    assert Place.read(text) == place


@pytest.fixture(scope="module")
def here(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shiplap]:
    """The command, and a container ``it`` that was made and not started."""
    shiplap = Shiplap(tmp_path_factory.mktemp("copying") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    shiplap("create", "--name", "it", BUSYBOX_NAME, "true")
    yield shiplap
    end_containers(shiplap)


def put(here: Shiplap, *members: tarfile.TarInfo) -> None:
    """Have these in the container's /tmp."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    here("cp", "-", "it:/tmp", stdin=packed.getvalue())


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def file(name: str, size: int = 4) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member


def test_names_are_dockers(here: Shiplap, tmp_path: Path) -> None:
    put(here, directory("site"), file("site/page"), link("page", "site/page"))
    here("cp", "it:/tmp/site", tmp_path / "new")
    assert (tmp_path / "new" / "page").read_text() == "xxxx"
    here("cp", "it:/tmp/site", tmp_path / "new")
    assert (tmp_path / "new" / "site" / "page").exists()
    here("cp", "it:/tmp/site/.", tmp_path)
    assert (tmp_path / "page").exists()
    here("cp", "-L", "it:/tmp/page", tmp_path / "followed")
    assert (tmp_path / "followed").read_text() == "xxxx"
    here("cp", "it:/tmp/page", tmp_path / "kept")
    assert (tmp_path / "kept").is_symlink()


def test_a_directory_here_is_what_a_container_cannot_leave(here: Shiplap, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    (target / "evil").mkdir(parents=True)
    (target / "evil" / "way").symlink_to(outside)
    put(here, directory("evil"), directory("evil/way"), file("evil/way/planted"))
    here("cp", "it:/tmp/evil", target, check=False)
    assert list(outside.iterdir()) == []


def test_a_whiteout_in_a_container_removes_nothing_here(here: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "precious").write_text("kept")
    here("run", "-d", "--name", "maker", BUSYBOX_NAME, "sleep", "1000")
    here("exec", "maker", "sh", "-c", "mkdir /dir; echo >/dir/.wh.precious")
    here("cp", "maker:/dir", tmp_path, check=False)
    here("rm", "-f", "maker")
    assert (tmp_path / "dir" / "precious").read_text() == "kept"


def test_commit_and_export_have_what_the_container_wrote(here: Shiplap, tmp_path: Path) -> None:
    here("run", "--name", "writer", BUSYBOX_NAME, "sh", "-c", "echo written >/made")
    here("export", "-o", tmp_path / "tree.tar", "writer")
    with tarfile.open(tmp_path / "tree.tar") as tar:
        assert "made" in [name.removeprefix("./") for name in tar.getnames()]
    here("commit", "-c", 'CMD ["cat", "/made"]', "writer", "written:1")
    here("rm", "writer")
    assert here("run", "written:1").stdout == "written\n"
    assert here("export", "-o", tmp_path / "none.tar", "nothing", check=False).returncode == 1
    assert not (tmp_path / "none.tar").exists()
