"""A workspace in a container: what a job sees of its files, and what a later job sees of its outputs."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.model import Output
from ci.workspace.epoch import BEGINNING
from ci.workspace.stack import Stack
from ci.workspace.workspace import Workspace
from containers.launcher import Launcher
from core.digests import DiffID
from core.rootfs import DirectoryLayer, ErofsLayer
from images.store import Store
from images.tarwriter import TarWriter
from tests.containers.running import Runner

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


def layer(store: Store, files: dict[str, str | None]) -> DiffID:
    """Files by path with their text; None: removed."""
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        made: set[str] = set()
        for path, text in sorted(files.items(), key=lambda item: item[0].replace("/", "\0")):
            for at in [at for at, character in enumerate(path) if character == "/"]:
                if path[:at] not in made:
                    made.add(path[:at])
                    writer.directory(os.fsencode(path[:at]), 0o755, 0, 0, BEGINNING)
            if text is None:
                writer.whiteout(os.fsencode(path))
            elif text.startswith("-> "):
                writer.symlink(os.fsencode(path), os.fsencode(text[3:]), 0, 0, BEGINNING)
            else:
                data = text.encode()
                writer.file(os.fsencode(path), 0o644, 0, 0, BEGINNING, len(data), data)
        writer.close()
        return blob.commit()


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
