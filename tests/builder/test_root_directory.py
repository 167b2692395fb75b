"""The root directory's own mode and owner: from the base, through every kind of step, to the image."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from tests.toolkit.shiplap import Shiplap

DOCKERFILE = """
FROM closed
RUN stat -c "first %a %u:%g" /
COPY Dockerfile /copied
RUN stat -c "second %a %u:%g" /
RUN chmod 1777 / && chown 7:8 /
WORKDIR /made
RUN stat -c "third %a %u:%g" /; touch /file
RUN chmod 0755 / && chown 0:0 /
RUN stat -c "fourth %a %u:%g" /
"""


@pytest.fixture
def closed(shiplap: Shiplap, busybox_tar: Path, tmp_path: Path) -> Shiplap:
    """Busybox, in a root directory of mode 0711 that is user 5's and group 6's."""
    path = tmp_path / "closed.tar"
    with tarfile.open(busybox_tar) as source, tarfile.open(path, "w") as target:
        root = tarfile.TarInfo(".")
        root.type, root.mode, root.uid, root.gid = tarfile.DIRTYPE, 0o711, 5, 6
        target.addfile(root)
        for member in source:
            if member.name not in (".", "./", ""):
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    shiplap("image", "import", path, "closed")
    return shiplap


def test_root_directory_is_what_the_base_and_the_steps_made_it(closed: Shiplap, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    oci = tmp_path / "image"
    said = closed("build", "--network", "none", "--progress", "plain", "-o", f"type=oci,tar=false,dest={oci}", context)
    seen = re.findall(r"(?m)(?:first|second|third|fourth) \d+ \d:\d$", said.stderr)
    assert seen == ["first 711 5:6", "second 711 5:6", "third 1777 7:8", "fourth 755 0:0"]
    roots = [root for root in map(_root, _layers(oci)) if root is not None]
    assert roots == [(0o711, 5, 6), (0o1777, 7, 8), (0o755, 0, 0)]


def test_next_build_sees_the_same(closed: Shiplap, tmp_path: Path) -> None:
    """From snapshots that are made of the layers again, and of those that are there already."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM closed\nCOPY Dockerfile /copied\nRUN chmod 1770 /\n")
    closed("build", "--network", "none", "-t", "changed", context)
    for _ in range(2):
        assert closed("run", "--network", "none", "changed", "stat", "-c", "%a %u:%g", "/").stdout == "1770 5:6\n"
        closed("image", "prune", "--cache", "--force")


def _layers(oci: Path) -> list[bytes]:
    def blob(descriptor: dict[str, str]) -> bytes:
        return (oci / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    index = json.loads((oci / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]))
    return [blob(layer) for layer in manifest["layers"]]


def _root(layer: bytes) -> tuple[int, int, int] | None:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found = [(member.mode, member.uid, member.gid) for member in tar if member.name.rstrip("/") in (".", "")]
    assert len(found) <= 1
    return found[0] if found else None
