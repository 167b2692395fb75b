"""A workspace in a container: what a job sees of its files, and what a later job sees of its outputs."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.epoch import BEGINNING
from ci.model import Output
from ci.workspace.errors import InputsError
from ci.workspace.listings import listing_of
from ci.workspace.mask import make_mask
from ci.workspace.stack import Stack
from ci.workspace.workspace import Workspace
from containers.launcher import Launcher
from core.digests import DiffID
from core.errors import StorageFullError
from core.rootfs import DirectoryLayer, ErofsLayer
from images.layers import LayerWriter
from images.store import Store
from images.tarwriter import TarWriter
from images.trees import tree_usage
from images.verify import verify
from tests.containers.running import Runner
from tests.toolkit.layers import lay as layer

pytestmark = pytest.mark.usefixtures("privileged")

Lay = Callable[..., DiffID]


@pytest.fixture(scope="session")
def busybox_layer(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> DirectoryLayer:
    layer = tmp_path_factory.mktemp("layers") / "busybox" / "fs"
    layer.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--numeric-owner", "--file", busybox_tar, "--directory", layer], check=True)
    return DirectoryLayer(str(layer))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


@pytest.fixture
def run(tmp_path: Path, busybox_layer: DirectoryLayer) -> Iterator[Runner]:
    state = tmp_path / "launcher"
    state.mkdir()
    with Launcher(state) as launcher:
        yield Runner(launcher, tmp_path, busybox_layer, itertools.count())


@pytest.fixture(params=["erofs", "unpacked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With erofs-utils and without."""
    if request.param == "unpacked":
        monkeypatch.setattr("images.erofs._MKFS", "mkfs.erofs-is-not-installed")
    return str(request.param)


@pytest.fixture
def lay(store: Store) -> Lay:
    """Write a layer as the source has them: every directory has an entry."""

    def write(**files: str | None) -> DiffID:
        return layer(store, {path.replace("__", "/").replace("_", "."): text for path, text in files.items()})

    return write


SEE = "cd /work; find . -exec stat -c '%n %Y %a %u:%g' {} +"


def test_all_that_a_job_sees_has_one_time(store: Store, run: Runner, lay: Lay, way: str) -> None:
    source = lay(README="r", src__deep__a="a", gone__x="x", empty__f="f")
    later = lay(src__b="b", gone__x=None, new__deep__c="c")
    stack = Stack(store, [source], [("before", later)])
    with Workspace(store, run.launcher, stack) as workspace:
        seen = run(SEE, mounts=(workspace.mount(),)).splitlines()
    kind = ErofsLayer if way == "erofs" else DirectoryLayer
    assert [type(lower) for lower in store.snapshots.lowers([source])] == [kind]
    assert {line.split()[1] for line in seen} == {str(BEGINNING)}
    assert {line.split()[3] for line in seen} == {"0:0"}
    assert len(seen) == 12
    assert ". 946684800 755 0:0" in seen


def test_directories_that_layers_only_imply_have_that_time_too(store: Store, run: Runner, way: str) -> None:
    """The source's layers have an entry for each directory; here is what becomes of one that has not."""
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        writer.file(b"a/b/f", 0o644, 0, 0, BEGINNING, 1, b"x")
        writer.close()
        implying = blob.commit()
    with Workspace(store, run.launcher, Stack(store, [implying])) as workspace:
        seen = run(SEE, mounts=(workspace.mount(),)).splitlines()
    assert {line.split()[1] for line in seen} == {str(BEGINNING)}


def test_places_for_other_mounts_have_it_too_and_are_no_outputs(store: Store, run: Runner, lay: Lay) -> None:
    with Workspace(store, run.launcher, Stack(store, [lay(f="f")])) as workspace:
        mount = workspace.mount(places=(".git",))
        seen = run(SEE + "; echo > new", mounts=(mount,)).splitlines()
        assert ["./.git", str(BEGINNING)] in [line.split()[:2] for line in seen]
        assert {line.split()[1] for line in seen} == {str(BEGINNING)}
        made = workspace.take_outputs([Output("**")])
    assert made is not None
    assert set(Stack(store, [made]).files) == {"new"}


def test_large_outputs_are_indexed_when_they_are_written_and_nobody_does_it_again(
    store: Store, run: Runner, lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.feeding._BEGINS_AT", 10_000)
    source = lay(README="r")
    script = "cd /work; mkdir out; for n in 1 2 3 4 5 6 7 8 9; do head -c 3000 /dev/zero > out/$n; done"
    with Workspace(store, run.launcher, Stack(store, [source])) as workspace:
        run(script, mounts=(workspace.mount(),))
        made = workspace.take_outputs([Output("out")])
    assert made is not None
    monkeypatch.setattr("images.erofs._MKFS", "mkfs.erofs-is-not-asked-again")
    with Store.open(tmp_path / "root") as other:
        other.holdings.admit((source, made))
        with Workspace(other, run.launcher, Stack(other, [source], [("one", made)])) as later:
            seen = run(SEE, mounts=(later.mount(),)).splitlines()
        assert [type(lower) for lower in other.snapshots.lowers([source, made])] == [ErofsLayer, ErofsLayer]
    assert {line.split()[1] for line in seen} == {str(BEGINNING)}
    assert len(seen) == 12


def test_no_room_for_an_index_costs_no_outputs(
    store: Store, run: Runner, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.feeding._BEGINS_AT", 10_000)
    with Workspace(store, run.launcher, Stack(store, [lay(README="r")])) as workspace:
        run("head -c 30000 /dev/zero > /work/out", mounts=(workspace.mount(),))

        def full(*_args: object) -> None:
            raise StorageFullError("no space left on the disk")

        monkeypatch.setattr(store.snapshots, "_make", full)
        assert workspace.take_outputs([Output("out")]) is not None


def test_a_later_job_has_what_an_earlier_one_left_and_nothing_of_its_peers(
    store: Store, run: Runner, lay: Lay, way: str
) -> None:
    source = lay(src__a="a", src__b="b", old__x="x", old__y="y")
    with Workspace(store, run.launcher, Stack(store, [source])) as one:
        run("cd /work; rm -r old; mkdir old; echo new > old/z; echo 1 > src/a; echo no > junk", mounts=(one.mount(),))
        with Workspace(store, run.launcher, Stack(store, [source])) as other:
            script = "cd /work; ls; cat src/a old/*; echo peer > old/peer"
            assert run(script, mounts=(other.mount(),)).split() == ["old", "src", "axy"]
            peers = other.take_outputs([Output("old")])
        left = one.take_outputs([Output("old"), Output("src")])
    assert left is not None
    assert peers is not None
    stack = Stack(store, [source], [("one", left), ("other", peers)], {"one": frozenset(), "other": frozenset()})
    stack.refuse_conflicts()
    with Workspace(store, run.launcher, stack) as later:
        said = run("cd /work; for f in $(find . -type f | sort); do echo $f $(cat $f); done", mounts=(later.mount(),))
    assert said.splitlines() == ["./old/peer peer", "./old/z new", "./src/a 1", "./src/b b"]


def test_an_attempt_leaves_nothing(store: Store, run: Runner, lay: Lay) -> None:
    before = sorted(os.listdir(store.root / "snapshots"))
    stack = Stack(store, [lay(a="a", b="b")], inputs=["a"])
    store.snapshots.lowers(stack.layers)
    kept = sorted(os.listdir(store.root / "snapshots"))
    with Workspace(store, run.launcher, stack) as workspace:
        run("echo x > /work/x", mounts=(workspace.mount(),))
        assert os.path.isdir(workspace.upper)
    assert sorted(os.listdir(store.root / "snapshots")) == kept
    assert len(kept) == len(before) + 2  # the index of the source, and the locks


def test_without_patterns_or_changes_there_is_no_layer(store: Store, run: Runner, lay: Lay) -> None:
    with Workspace(store, run.launcher, Stack(store, [lay(a="a")])) as workspace:
        run("true", mounts=(workspace.mount(),))
        assert workspace.take_outputs([]) is None
        assert workspace.take_outputs([Output("a")]) is None


def test_a_workspace_without_any_file(store: Store, run: Runner) -> None:
    with Workspace(store, run.launcher, Stack(store, [])) as workspace:
        assert run("ls -A /work; echo x > /work/x", mounts=(workspace.mount(),)) == ""
        assert workspace.take_outputs([Output("x")]) is not None


def test_a_hundred_and_fifty_jobs_before_are_stacked(store: Store, run: Runner, way: str) -> None:
    if way == "unpacked":
        layers = [layer(store, {f"d/{number}": str(number)}) for number in range(20)]
    else:
        layers = [layer(store, {f"d/{number}": str(number)}) for number in range(150)]
    stack = Stack(store, layers[:1], [(f"j{number}", one) for number, one in enumerate(layers[1:])])
    with Workspace(store, run.launcher, stack) as workspace:
        seen = run(SEE, mounts=(workspace.mount(),)).splitlines()
    assert len(seen) == len(layers) + 2
    assert {line.split()[1] for line in seen} == {str(BEGINNING)}


def test_a_job_lies_above_those_before_it_whatever_the_order_of_the_file(store: Store, lay: Lay) -> None:
    first, second = lay(f="first"), lay(f="second")
    before = {"b": frozenset[str](), "a": frozenset({"b"})}
    assert Stack(store, [], [("a", second), ("b", first)], before).layers == (first, second)


# The mask.


def test_a_job_with_inputs_sees_them_and_nothing_else(store: Store, run: Runner, way: str) -> None:
    source = layer(store, {"src/a.py": "a", "src/b.md": "b", "docs/x": "x", "docs/y/z": "z", "top": "t", "l": "-> top"})
    stack = Stack(store, [source], inputs=["src/*.py", "l"])
    with Workspace(store, run.launcher, stack) as workspace:
        seen = run(SEE + "; cat src/a.py; ls docs top src/b.md 2>&1 | wc -l", mounts=(workspace.mount(),))
    lines = seen.splitlines()
    assert sorted(line.split()[0] for line in lines[:-1]) == [".", "./l", "./src", "./src/a.py"]
    assert {line.split()[1] for line in lines[:-1]} == {str(BEGINNING)}
    assert lines[-1] == "a3"


def test_directories_above_a_mask_keep_their_permissions(store: Store, run: Runner) -> None:
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        writer.directory(b"d", 0o1777, 0, 0, BEGINNING)
        writer.file(b"d/in", 0o600, 0, 0, BEGINNING, 0, b"")
        writer.file(b"d/out", 0o600, 0, 0, BEGINNING, 0, b"")
        writer.close()
        source = blob.commit()
    with Workspace(store, run.launcher, Stack(store, [source], inputs=["d/in"])) as workspace:
        seen = run(SEE, mounts=(workspace.mount(),)).splitlines()
    assert sorted(line.split()[::2] for line in seen) == [[".", "755"], ["./d", "1777"], ["./d/in", "600"]]


def test_what_is_hidden_is_written_anew_and_is_not_removed_by_that(store: Store, run: Runner, way: str) -> None:
    source = layer(store, {"in": "i", "hidden/a": "a", "hidden/b": "b", "file": "f", "gone": "g"})
    with Workspace(store, run.launcher, Stack(store, [source], inputs=["in"])) as workspace:
        script = "cd /work; mkdir hidden; echo new > hidden/a; echo new > file; rm -f gone; echo x > gone; rm gone; ls"
        assert run(script, mounts=(workspace.mount(),)).split() == ["file", "hidden", "in"]
        left = workspace.take_outputs([Output("**")])
    assert left is not None
    listing = listing_of(store, left)
    assert (sorted(listing.files), listing.removed) == (["file", "hidden", "hidden/a"], [])
    assert set(Stack(store, [source], [("job", left)]).files) == {
        "in",
        "hidden",
        "hidden/a",
        "hidden/b",
        "file",
        "gone",
    }


def test_names_that_are_no_utf_8_are_hidden(store: Store, run: Runner) -> None:
    source = layer(store, {os.fsdecode(b"d\xff/\xfe\n"): "x", os.fsdecode(b"\xe9"): "y", "in": "i"})
    with Workspace(store, run.launcher, Stack(store, [source], inputs=["in"])) as workspace:
        assert run("ls -A /work", mounts=(workspace.mount(),)).split() == ["in"]


def test_a_pattern_that_matches_nothing_leaves_nothing_behind(store: Store, run: Runner) -> None:
    source = layer(store, {"in": "i"})
    store.snapshots.lowers([source])
    before = sorted(os.listdir(store.root / "snapshots"))
    with pytest.raises(InputsError, match="what the input docs names"):
        Workspace(store, run.launcher, Stack(store, [source], inputs=["in", "docs"]))
    assert sorted(os.listdir(store.root / "snapshots")) == before


def test_twelve_masks_over_twenty_thousand_files_take_less_than_a_megabyte(store: Store, run: Runner) -> None:
    names = [f"service-{number:02}" for number in range(12)]
    files = {f"services/{name}/pkg{n % 40}/file{n}.go": name for name in names for n in range(1650)}
    source = layer(store, {**files, "go.mod": "m", "lib/x.go": "x", "README": "r"})
    store.snapshots.lowers([source])
    before = tree_usage(str(store.root))
    with contextlib.ExitStack() as held:
        for name in names:
            stack = Stack(store, [source], inputs=[f"services/{name}/**", "lib", "go.mod"])
            workspace = held.enter_context(Workspace(store, run.launcher, stack))
            if name == names[5]:
                count = run("find /work -type f | wc -l; ls /work/services", mounts=(workspace.mount(),))
                assert count.split() == ["1652", name]
        masks = tree_usage(str(store.root)).size_bytes - before.size_bytes
    assert masks < 1_000_000


def test_more_names_are_hidden_than_one_inode_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = 0

    def link(source: str, target: str) -> None:
        nonlocal links
        links += 1
        if links % 3 == 0:
            raise OSError(errno.EMLINK, "Too many links")
        real(source, target)

    real = os.link
    monkeypatch.setattr("ci.workspace.mask.os.link", link)
    hidden = [f"d/{number}" for number in range(10)]
    make_mask(str(tmp_path), hidden, lambda directory: 0o750)
    assert all(stat.S_ISCHR((tmp_path / path).lstat().st_mode) for path in hidden)
    assert len({(tmp_path / path).lstat().st_ino for path in hidden}) == 4
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o750


# What a kill leaves.


@pytest.mark.parametrize("moment", ["while it is written", "once it is written", "while it is made known"])
def test_a_worker_that_is_killed_while_outputs_are_written_leaves_nothing(
    store: Store, tmp_path: Path, moment: str
) -> None:
    source = layer(store, {"in": "i", "hidden/a": "a"})
    store.snapshots.lowers([source])
    before = _on_disk(store.root)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _die_at(moment, store.root, tmp_path / "launcher-2", source)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with Store.open(store.root) as later:
        assert verify(later) == []
    assert _on_disk(store.root) == before


def _die_at(moment: str, root: Path, state: Path, source: DiffID) -> None:
    """Take outputs of a few megabytes, and end by SIGKILL in the middle."""

    def die(*args: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    state.mkdir()
    with Store.open(root) as own, Launcher(state) as launcher:
        workspace = Workspace(own, launcher, Stack(own, [source], inputs=["in"]))
        mount = workspace.mount()
        assert mount.upper is not None
        for number in range(4):
            Path(mount.upper, "fs", f"big{number}").write_bytes(os.urandom(2 << 20))
        if moment == "while it is written":
            TarWriter.symlink = die  # type: ignore[method-assign]
            os.symlink("x", f"{mount.upper}/fs/zz")
        elif moment == "once it is written":
            TarWriter.close = die  # type: ignore[method-assign]
        else:
            LayerWriter.commit = die  # type: ignore[method-assign, assignment]
        workspace.take_outputs([Output("**")])


def _on_disk(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for folder in ("blobs", "snapshots", "tmp")
        for path in (root / folder).rglob("*")
        if not path.name.startswith(".")
    )
