"""``shiplap image import``, ``save`` and ``load``, with standard input and output as users pipe them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.toolkit.shiplap import Shiplap


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs" / "etc").mkdir(parents=True)
    (tmp_path / "rootfs" / "etc" / "motd").write_text("hello\n")
    with tarfile.open(tmp_path / "rootfs.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "rootfs", ".")
    return tmp_path / "rootfs.tar.xz"


def test_import_applies_changes_and_prints_the_id(shiplap: Shiplap, rootfs: Path) -> None:
    printed = shiplap(
        *("image", "import", "-c", 'CMD ["sh", "-l"]', "-c", "ENV A=1 B=$A", "-c", "EXPOSE 80", "-m", "made by hand"),
        *("--platform", "linux/arm64", rootfs, "base:1"),
    ).stdout
    (document,) = shiplap.json("image", "inspect", "base:1")
    assert printed == document["Id"] + "\n"
    assert document["Config"]["Cmd"] == ["sh", "-l"]
    assert {"A=1", "B="} <= set(document["Config"]["Env"])
    assert document["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert document["Architecture"] == "arm64"
    assert shiplap.json("image", "history", "--json", "base:1")[0]["comment"] == "made by hand"


def test_import_from_standard_input_without_a_name(shiplap: Shiplap, rootfs: Path) -> None:
    printed = shiplap("import", "-", stdin=rootfs.read_bytes()).stdout.strip()
    (document,) = shiplap.json("image", "inspect", printed)
    assert document["RepoTags"] == []


def test_import_honours_source_date_epoch(shiplap: Shiplap, rootfs: Path) -> None:
    ids = {shiplap("import", rootfs, env={"SOURCE_DATE_EPOCH": "1000"}).stdout for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [("RUN make", "RUN is not possible here"), ("CDM x", "did you mean CMD?"), ("ENV", "--change:1")],
)
def test_import_refuses_other_changes(shiplap: Shiplap, rootfs: Path, change: str, message: str) -> None:
    result = shiplap("image", "import", "-c", change, rootfs, check=False)
    assert result.returncode == 1
    assert message in result.stderr


def test_save_and_load_through_a_pipe(shiplap: Shiplap, rootfs: Path, tmp_path: Path) -> None:
    image = shiplap("import", rootfs, "base:1").stdout.strip()
    shiplap("tag", "base:1", "other:2")
    saving = shiplap.start("save", "base:1", stdout=subprocess.PIPE)
    assert saving.stdout is not None
    archive = saving.stdout.read()
    saving.stdout.close()
    assert saving.wait() == 0

    elsewhere = Shiplap(tmp_path / "elsewhere")
    assert elsewhere("load", stdin=archive).stdout == "Loaded image: base:1\n"
    (document,) = elsewhere.json("image", "inspect", "base:1")
    assert document["Id"] == image
    assert document["RepoTags"] == ["base:1"]


def test_save_by_id_has_no_name(shiplap: Shiplap, rootfs: Path, tmp_path: Path) -> None:
    image = shiplap("import", rootfs, "base:1").stdout.strip()
    shiplap("image", "save", image, "-o", tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert not json.load(manifest)[0]["RepoTags"]
    elsewhere = Shiplap(tmp_path / "elsewhere")
    assert elsewhere("load", "-i", tmp_path / "x.tar").stdout == f"Loaded image ID: {image}\n"


def test_failed_save_leaves_no_file(shiplap: Shiplap, rootfs: Path, tmp_path: Path) -> None:
    shiplap("import", rootfs, "base:1")
    target = tmp_path / "out" / "x.tar"
    target.parent.mkdir()
    assert shiplap("save", "-o", target, "base:1", "nothing", check=False).returncode == 1
    assert list(target.parent.iterdir()) == []
    result = shiplap("save", "-o", tmp_path / "missing" / "x.tar", "base:1", check=False)
    assert result.returncode == 1
    assert "missing" in result.stderr


def test_load_of_a_root_filesystem_says_what_to_do(shiplap: Shiplap, rootfs: Path) -> None:
    result = shiplap("load", "-i", rootfs, check=False)
    assert result.returncode == 1
    assert "shiplap image import" in result.stderr
