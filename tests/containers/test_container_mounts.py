"""Mounts that hold files in memory, and trees of other root filesystems."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from containers.errors import MountError
from containers.spec import Bind, File, Tmpfs, Tree
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner


def _layer(folder: Path, name: str, files: dict[str, str]) -> DirectoryLayer:
    top = folder / "extra" / name / "fs"
    top.mkdir(parents=True)
    for path, content in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(content)
    return DirectoryLayer(str(top))


def _upper(folder: Path) -> Path:
    upper = folder / "extra" / "upper"
    for path in (upper / "fs", upper / "work"):
        path.mkdir(parents=True)
    return upper


def test_file_has_its_content_mode_and_owner(run: Runner) -> None:
    content = b"line\n\xff\0" + b"x" * 200_000
    mount = File("/run/secrets/key", content, 0o440, 1000, 1001)
    said = run(
        "stat -c %a:%u:%g /run/secrets/key; wc -c < /run/secrets/key; head -n1 /run/secrets/key", mounts=(mount,)
    )
    assert said.split() == ["440:1000:1001", str(len(content)), "line"]


def test_file_is_read_only_and_leaves_no_trace(run: Runner) -> None:
    said = run("echo no > /d/e/key || echo refused; cat /d/e/key", mounts=(File("/d/e/key", b"yes", 0o600),))
    assert "refused" in said
    assert said.endswith("yes")
    assert list((run.upper / "fs").iterdir()) == []


def test_file_for_an_owner_outside_of_the_container_is_refused(run: Runner) -> None:
    with pytest.raises(MountError, match="cannot make the file /key") as raised:
        run("true", mounts=(File("/key", b"", uid=70_000),))
    assert raised.value.hint is not None


def test_tree_shows_merged_layers_read_only(run: Runner, tmp_path: Path) -> None:
    layers = (_layer(tmp_path, "a", {"d/f": "old", "d/g": "below"}), _layer(tmp_path, "b", {"d/f": "new"}))
    said = run("cat /m/f /m/g; touch /m/h || echo ro", mounts=(Tree(layers, "/m", "/d"),))
    assert said.startswith("newbelow")
    assert said.endswith("ro\n")
    assert list((run.upper / "fs").iterdir()) == []


def test_tree_may_be_one_file(run: Runner, tmp_path: Path) -> None:
    layer = _layer(tmp_path, "a", {"d/f": "content"})
    assert run("cat /opt/x/y", mounts=(Tree((layer,), "/opt/x/y", "/d/f"),)) == "content"
    assert list((run.upper / "fs").iterdir()) == []


def test_tree_with_an_upper_takes_writes_and_spares_its_layers(run: Runner, tmp_path: Path) -> None:
    layer = _layer(tmp_path, "a", {"f": "old"})
    upper = _upper(tmp_path)
    assert run("echo new > /m/f; rm -f /m/none; cat /m/f", mounts=(Tree((layer,), "/m", "/", str(upper)),)) == "new\n"
    assert (Path(layer.path) / "f").read_text() == "old"
    assert (upper / "fs" / "f").read_text() == "new\n"
    assert list((run.upper / "fs").iterdir()) == []


def test_tree_without_layers_is_an_empty_directory(run: Runner) -> None:
    assert run("ls -A /m | wc -l", mounts=(Tree((), "/m"),)).strip() == "0"


def test_links_in_the_source_of_a_tree_stay_inside_it(run: Runner, tmp_path: Path) -> None:
    layer = _layer(tmp_path, "a", {"etc/secret": "inside"})
    (Path(layer.path) / "link").symlink_to("/etc/secret")
    (Path(layer.path) / "up").symlink_to("../../../../../../etc/secret")
    said = run("cat /m; cat /n", mounts=(Tree((layer,), "/m", "/link"), Tree((layer,), "/n", "/up")))
    assert said == "insideinside"


def test_tree_whose_source_is_missing_is_an_error_that_names_it(run: Runner, tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"cannot mount /none on /m: No such file"):
        run("true", mounts=(Tree((_layer(tmp_path, "a", {"f": ""}),), "/m", "/none"),))


def test_set_user_id_means_nothing_in_a_tree(run: Runner, tmp_path: Path) -> None:
    layer = _layer(tmp_path, "a", {"f": ""})
    assert "nosuid,nodev" in run("grep ' /m ' /proc/self/mounts", mounts=(Tree((layer,), "/m"),))


def test_mounts_may_lie_in_each_other(run: Runner, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    layer = _layer(tmp_path, "a", {"f": "source", "cache/.keep": ""})
    mounts = (Tree((layer,), "/src"), Bind(str(cache), "/src/cache"), Tmpfs("/src/cache/tmp"))
    run("cat /src/f; echo kept > /src/cache/x; echo gone > /src/cache/tmp/y", mounts=mounts)
    assert (cache / "x").read_text() == "kept\n"
    assert list((cache / "tmp").iterdir()) == []


@pytest.mark.parametrize("owner", [(1000, 1001), (1, 0), (65535, 65535), (0, 7)])
def test_tree_of_another_owner_changes_places_with_root(run: Runner, tmp_path: Path, owner: tuple[int, int]) -> None:
    """What is root's on the disk is theirs, what is theirs on the disk is root's; what they write is root's there."""
    layer = _layer(tmp_path, "a", {"d/f": "x", "theirs": "", "others": ""})
    os.chown(f"{layer.path}/theirs", *owner)
    os.chown(f"{layer.path}/others", 5, 6)
    upper = _upper(tmp_path)
    said = run(
        "cd /m; stat -c %u:%g . d/f theirs others; touch new; echo y >>d/f; chown 5:6 new; mkdir dir; rm others",
        mounts=(Tree((layer,), "/m", upper=str(upper), owner=owner),),
        user="{}:{}".format(*owner) if owner[0] == 0 else "0",
    )
    assert said.split() == ["{}:{}".format(*owner), "{}:{}".format(*owner), "0:0", "5:6"]
    files = upper / "fs"
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (files / "d/f", files / "new")] == [(0, 0), (5, 6)]
    assert (files / "d/f").read_text() == "xy\n"
    assert stat.S_ISCHR((files / "others").lstat().st_mode)


def test_owner_of_a_tree_may_write_to_it_and_others_may_not(run: Runner, tmp_path: Path) -> None:
    layer = _layer(tmp_path, "a", {"f": "x"})
    upper = _upper(tmp_path)
    tree = Tree((layer,), "/m", upper=str(upper), owner=(1000, 1001))
    assert run("echo y >>/m/f; echo y >/m/g; id -u", user="app", mounts=(tree,)) == "1000\n"
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (upper / "fs").iterdir()} == {(0, 0)}
    other = tmp_path / "other"
    for path in (other / "fs", other / "work"):
        path.mkdir(parents=True)
    tree = tree._replace(upper=str(other))
    assert "Permission denied" in run("echo y >/m/f 2>&1 || true", user="50", mounts=(tree,))
