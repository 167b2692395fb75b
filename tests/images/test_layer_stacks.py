"""A stack that has one layer several times is the filesystem that all of them make, in each way to make it."""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.digests import DiffID
from core.rootfs import DirectoryLayer
from images.flatten import write_merged
from images.stacking import topmost_of_each
from images.store import Store
from images.tarwriter import TarWriter
from tests.images.test_snapshots import entry, layer, mounted, tree

pytestmark = pytest.mark.usefixtures("privileged")

WAYS = ("erofs", "unpacked", "flattened")
DIRECTORIES = ("a", "b", "a/c", "a/d", "a/c/e", "b/f")
FILES_TOO = ("a/d", "b/f")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as store:
        yield store


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "unpacked":
        monkeypatch.setattr("images.erofs._MKFS", "mkfs.erofs-is-not-installed")
    if request.param == "flattened":
        monkeypatch.setattr("images.snapshots._MAX_LAYERS", 2)
        monkeypatch.setattr("images.snapshots._FLAT_STEP", 1)
    return str(request.param)


def files(store: Store, diff_ids: Sequence[DiffID], tmp_path: Path) -> dict[str, bytes]:
    with mounted(store.snapshots.lowers(diff_ids), tmp_path) as root:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def merged(store: Store, diff_ids: Sequence[DiffID], place: Path) -> dict[str, tuple[object, ...]]:
    """The whole stack, layer by layer, as ``images.flatten`` has it."""
    place.mkdir()
    made = io.BytesIO()
    with contextlib.ExitStack() as stack:
        writer = TarWriter(made)
        write_merged([stack.enter_context(store.layers.open(diff_id)) for diff_id in diff_ids], writer)
        writer.close()
    subprocess.run(["tar", "--numeric-owner", "-p", "-C", str(place), "-xf", "-"], input=made.getvalue(), check=True)
    return tree(place)


def test_the_topmost_of_equal_layers_is_the_one_that_counts() -> None:
    base, a, b = (DiffID.of(name) for name in (b"base", b"a", b"b"))
    assert topmost_of_each([base, a, b, a]) == (base, b, a)
    assert topmost_of_each([base, a, a, b]) == (base, a, b)
    assert topmost_of_each([]) == ()


def test_a_layer_that_is_there_twice_can_be_mounted(store: Store, tmp_path: Path, way: str) -> None:
    base = layer(store, entry("base", data=b"0"))
    first = layer(store, entry("a", data=b"1"), entry("first"))
    second = layer(store, entry("a", data=b"2"), entry("second"))
    found = files(store, [base, first, second, first], tmp_path)
    assert found == {"base": b"0", "a": b"1", "first": b"", "second": b""}


def test_what_the_layer_hides_and_what_is_hidden_of_it_stay_as_they_were(
    store: Store, tmp_path: Path, way: str
) -> None:
    base = layer(store, entry("gone"), entry("d", "d"), entry("d/base"), entry("whole", "d"), entry("whole/base"))
    hiding = layer(
        store, entry(".wh.gone"), entry("d", "d"), entry("d/.wh..wh..opq"), entry("d/mine"), entry("whole", "d"),
        entry("whole/mine"),
    )  # fmt: skip
    between = layer(
        store, entry("gone", data=b"again"), entry("d", "d"), entry("d/between"), entry(".wh.whole"), entry("new")
    )
    assert sorted(files(store, [base, hiding, between, hiding], tmp_path)) == ["d/mine", "new", "whole/mine"]
    assert sorted(files(store, [base, hiding, between], tmp_path)) == ["d/between", "d/mine", "gone", "new"]


def test_a_directory_that_the_layer_hides_and_implies_is_the_same_at_each_height(
    store: Store, tmp_path: Path, way: str
) -> None:
    base = layer(store, entry("d", "d", mode=0o700, uid=5), entry("d/base"))
    implying = layer(store, entry(".wh.d"), entry("d/mine"))
    other = layer(store, entry("other"))
    for stack in ([base, implying], [base, implying, other, implying]):
        with mounted(store.snapshots.lowers(stack), tmp_path) as root:
            found = (root / "d").stat()
            assert (found.st_mode & 0o7777, found.st_uid) == (0o755, 0)
            assert [path.name for path in (root / "d").iterdir()] == ["mine"]


@pytest.mark.parametrize("seed", range(12))
def test_any_stack_is_what_all_of_its_layers_make(store: Store, tmp_path: Path, way: str, seed: int) -> None:
    chosen = random.Random(seed)
    kinds = [_random_layer(store, chosen) for _ in range(3)]
    stack = [chosen.choice(kinds) for _ in range(6)]
    expected = merged(store, stack, tmp_path / "expected")
    with mounted(store.snapshots.lowers(stack), tmp_path) as root:
        assert tree(root) == expected


def _random_layer(store: Store, chosen: random.Random) -> DiffID:
    """A tar whose directories are entries, opaque, hidden, implied by a file in them, or replaced by a file."""
    taken: dict[str, str] = {}
    entries = []
    for path in DIRECTORIES:
        above = taken.get(path.rpartition("/")[0], "d")
        # Nothing is implied where another layer may have a file: images.flatten refuses that.
        what = chosen.choice(["d", "opaque", "file" if path in FILES_TOO else "implied", "hidden", "none"])
        if above not in ("d", "opaque", "implied"):
            what = "none"
        taken[path] = what
        content = str(chosen.random()).encode()
        if what in ("d", "opaque"):
            entries.append(entry(path, "d", mode=chosen.choice([0o700, 0o755, 0o1777]), uid=chosen.choice([0, 5])))
        if what == "opaque":
            entries.append(entry(f"{path}/.wh..wh..opq"))
        if what == "hidden":
            parent, _, name = path.rpartition("/")
            entries.append(entry(f"{parent}/.wh.{name}".lstrip("/")))
        if what == "file":
            entries.append(entry(path, data=content))
        if what == "implied" or (what in ("d", "opaque") and chosen.random() < 0.5):
            entries.append(entry(f"{path}/{chosen.choice('xyz')}", data=content))
    return layer(store, *entries, entry(f"own-{chosen.random()}"))


def test_a_thousand_times_one_layer_is_one_layer(store: Store, tmp_path: Path) -> None:
    base = layer(store, entry("base"))
    many = layer(store, *(entry(f"f{number}") for number in range(200)))
    began = time.process_time()
    lowers = store.snapshots.lowers([base] + [many] * 1500)
    assert time.process_time() - began < 1
    assert len(lowers) == 2


def test_a_steps_directory_serves_again_where_its_layer_is_there_twice(store: Store) -> None:
    base = layer(store, entry("base"))
    upper = store.snapshots.new_upper()
    Path(upper.path, "fs", "f").write_text("1")
    made = layer(store, entry("f", data=b"1"))
    store.snapshots.adopt(upper, made, (made, base))
    assert store.snapshots.lowers([made, base, made])[-1] == DirectoryLayer(f"{upper.path}/fs")
