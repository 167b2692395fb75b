"""Caches of jobs in generations: lanes, who wins, merging by renames, bounds, kills, and full disks on the way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.cancellation import asking
from core.errors import ShiplapError, StorageFullError
from core.trust import HOST, of_branch, of_fork, of_user, protected
from images.cachefiles import MOST_LEVELS
from images.generations import STILL_EMPTY, UNCHANGED, UNUSED_S, CacheName
from images.store import Store
from tests.toolkit.keptcaches import MAIN, NAME, Bench, Tree, put, tree_of

pytestmark = pytest.mark.usefixtures("privileged")

TOPIC = of_branch("p", "topic")
FORK = of_fork("p", 7)
_LONG_AGO = 10**9


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# Lanes.


def test_generation_is_seen_by_the_next_job_of_its_lane(bench: Bench) -> None:
    assert bench.job(put(a="1")) == ""
    assert bench.job(put(b="2")) == ""
    assert bench.files() == {"a": "1", "b": "2"}


def test_branch_begins_with_the_protected_lane_s_and_goes_on_with_its_own(bench: Bench) -> None:
    bench.job(put(a="main"))
    assert bench.files(TOPIC) == {"a": "main"}
    bench.job(put(a="topic", b="topic"), TOPIC)
    bench.job(put(c="main"))
    assert bench.files(TOPIC) == {"a": "topic", "b": "topic"}
    assert bench.files() == {"a": "main", "c": "main"}, "what a branch wrote is never the protected lane's"


@pytest.mark.parametrize("other", [TOPIC, of_user("p", "ann"), FORK, protected("q"), HOST])
def test_protected_lane_sees_nothing_of_others(bench: Bench, other: Any) -> None:
    bench.job(put(poison="x"), other)
    assert bench.files() == {}
    bench.job(put(a="1"))
    bench.job(put(poison="x"), other)
    assert bench.files() == {"a": "1"}


def test_branches_see_nothing_of_each_other(bench: Bench) -> None:
    bench.job(put(a="x"), TOPIC)
    assert bench.files(of_branch("p", "other")) == {}
    assert bench.files(of_branch("p", "topic/")) == {}


def test_branch_that_writes_nothing_goes_on_with_the_protected_lane_s(bench: Bench) -> None:
    bench.job(put(a="1"))
    assert bench.job(lambda _: None, TOPIC) == UNCHANGED
    bench.job(put(b="2"))
    assert bench.files(TOPIC) == {"a": "1", "b": "2"}
    assert bench.job(lambda _: None) == UNCHANGED


def test_fork_sees_what_no_secret_took_part_in_and_keeps_nothing(bench: Bench) -> None:
    bench.job(put(a="1"))
    assert bench.files(FORK) == {"a": "1"}
    assert bench.job(put(b="fork"), FORK) == "forks keep nothing"
    assert bench.files(FORK) == {"a": "1"}
    bench.job(put(b="2"), is_private=True)
    bench.job(put(c="3"))
    assert bench.files(FORK) == {}, "also what was written before, and after it: it is one content"
    assert bench.files() == {"a": "1", "b": "2", "c": "3"}
    assert [lane.lane for lane in bench.generations.lanes()] == ["protected"]


def test_another_project_s_cache_of_the_same_name_is_another(bench: Bench) -> None:
    bench.job(put(a="p"))
    other = protected("q")
    assert bench.files(other, name=CacheName("q", NAME.name)) == {}
    bench.job(put(a="q"), other, name=CacheName("q", NAME.name))
    assert bench.files() == {"a": "p"}


# Who wins.


def test_of_two_that_began_from_one_generation_the_first_wins_whole(bench: Bench) -> None:
    bench.job(put(a="0", b="0"))
    with bench.generations.open(NAME, MAIN) as one, bench.generations.open(NAME, MAIN) as other:
        assert bench.write(other, put(a="second", c="second")) == ""
        assert bench.write(one, put(a="first", b="first")) == "another job's was first, and stays"
    assert bench.files() == {"a": "second", "b": "0", "c": "second"}


def test_of_two_that_began_a_lane_the_first_wins(bench: Bench) -> None:
    with bench.generations.open(NAME, MAIN) as one, bench.generations.open(NAME, MAIN) as other:
        assert bench.write(one, put(a="first")) == ""
        assert bench.write(other, put(b="second")) != ""
    assert bench.files() == {"a": "first"}


def test_job_that_keeps_nothing_spoils_nothing_and_nobody_waits(bench: Bench) -> None:
    bench.job(put(a="1"))
    before = bench.seen()
    with bench.generations.open(NAME, MAIN) as generation:
        upper = bench.upper()
        with bench.mounted(generation, upper) as merged:
            put(a="half")(merged)
            began = time.monotonic()
            bench.job(put(b="2"))
            assert time.monotonic() - began < 30, "nobody waits for a job"
            assert tree_of(merged)["a"][-1] == "half"
            assert "b" not in tree_of(merged)
    assert bench.seen()["a"] == before["a"]
    assert bench.files() == {"a": "1", "b": "2"}


# Merging.


def test_no_chain_grows(bench: Bench) -> None:
    for number in range(12):
        bench.job(put(**{f"f{number}": "x", "same": str(number)}))
        assert len(bench.levels()) == 1
    assert len(bench.files()) == 13


def test_level_that_somebody_sees_is_kept_beside_and_merged_later(bench: Bench) -> None:
    bench.job(put(a="0"))
    with bench.generations.open(NAME, MAIN) as held:
        upper = bench.upper()
        with bench.mounted(held, upper) as merged:
            before = tree_of(merged)
            for number in range(5):
                bench.job(put(a=str(number)))
            assert tree_of(merged) == before
            assert len(bench.levels()) == 2, "one that is seen, and one for all that came after it"
    bench.job(put(b="1"))
    assert len(bench.levels()) == 1
    assert bench.files() == {"a": "4", "b": "1"}


class _Chance:
    """Changes that a seed chooses, the same for every directory that they are done to."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, top: Path) -> None:
        chance = random.Random(self._seed)
        for _ in range(chance.randint(1, 9)):
            self._change(top, chance)
        for path in sorted(top.rglob("*"), reverse=True):  # times that do not depend on the clock
            if path.lstat().st_mtime > _LONG_AGO:
                at = zlib.crc32(f"{self._seed} {path.relative_to(top)}".encode()) % _LONG_AGO
                os.utime(path, (at, at), follow_symlinks=False)

    def _change(self, top: Path, chance: random.Random) -> None:
        path = top.joinpath(*(chance.choice("abc") for _ in range(chance.randint(1, 3))))
        what = chance.choice(("file", "file", "directory", "remove", "link", "anew", "mode"))
        if any(above.is_symlink() or (above.exists() and not above.is_dir()) for above in path.parents):
            return
        is_directory = path.is_dir() and not path.is_symlink()
        if what == "mode":
            if is_directory:
                path.chmod(chance.choice((0o700, 0o755)))
            return
        if is_directory and what == "file":
            return
        if is_directory:
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if what in ("directory", "anew"):
            path.mkdir()
        elif what == "link":
            path.symlink_to("somewhere")
        elif what == "file":
            path.write_text(str(chance.random()))


@pytest.mark.parametrize("seed", range(2))
def test_merged_generations_show_what_the_jobs_had_written(bench: Bench, seed: int) -> None:
    plain = {MAIN: bench.tmp / "main", TOPIC: bench.tmp / "topic"}
    plain[MAIN].mkdir()
    for number in range(9):
        action = _Chance(seed * 1000 + number)
        if number == 3:
            shutil.copytree(plain[MAIN], plain[TOPIC], symlinks=True)
        for domain in (MAIN, TOPIC) if number >= 3 else (MAIN,):
            action(plain[domain])
            assert bench.job(action, domain) in ("", UNCHANGED, STILL_EMPTY)
            assert bench.seen(domain) == tree_of(plain[domain])
    assert len(bench.levels()) <= 3


def test_what_lies_deeper_than_a_path_reaches_loses_the_cache_and_fails_nobody(bench: Bench) -> None:
    def dig(top: Path) -> None:
        fd = os.open(top, os.O_RDONLY)
        for _ in range(40):
            name = "d" * 200
            if name not in os.listdir(fd):
                os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(os.open(f"f{time.monotonic_ns()}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)

    assert bench.job(dig) == ""
    assert "cannot become one" in bench.job(dig)
    assert bench.levels() == []
    assert bench.job(put(a="1")) == ""
    assert bench.files() == {"a": "1"}


def test_links_are_moved_and_never_followed(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("mine")
    bench.job(lambda top: (top / "d").symlink_to(outside))

    def replace(top: Path) -> None:
        (top / "d").unlink()
        put(d__a="theirs")(top)

    bench.job(replace)

    def link_again(top: Path) -> None:
        shutil.rmtree(top / "d")
        (top / "d").symlink_to(outside)

    bench.job(link_again)
    assert (outside / "a").read_text() == "mine"
    assert bench.seen()["d"][0] == "link"


def test_hard_links_stay_links(bench: Bench) -> None:
    bench.job(put(d__a="0"))

    def link(top: Path) -> None:
        put(d__a="1")(top)
        os.link(top / "d" / "a", top / "b")

    bench.job(link)
    upper = bench.upper()
    with bench.generations.open(NAME, MAIN) as generation, bench.mounted(generation, upper) as merged:
        assert (merged / "b").samefile(merged / "d" / "a")


# Bounds.


def test_above_eight_levels_the_lane_that_rests_longest_gives_way(bench: Bench) -> None:
    for number in range(MOST_LEVELS + 3):
        bench.job(put(main=str(number)))
        bench.job(put(own=str(number)), of_branch("p", f"b{number}"))
    lanes = [lane.lane for lane in bench.generations.lanes()]
    assert "branch b0" not in lanes
    assert f"branch b{MOST_LEVELS + 2}" in lanes
    assert bench.files(of_branch("p", "b0")) == {"main": str(MOST_LEVELS + 2)}, "it begins again from the protected one"
    assert bench.files(of_branch("p", f"b{MOST_LEVELS}")) == {"main": str(MOST_LEVELS), "own": str(MOST_LEVELS)}


def test_above_its_limit_it_begins_empty_and_says_so(bench: Bench) -> None:
    bench.job(put(big="x" * 300_000))
    with bench.generations.open(NAME, MAIN, limit_bytes=200_000) as generation:
        assert generation.begins.startswith("begins empty: it had 0.3")
        assert bench.write(generation, put(a="1")) == ""
    assert bench.files() == {"a": "1"}
    assert len(bench.levels()) == 1


def test_size_is_known_without_counting_again(bench: Bench) -> None:
    for number in range(6):
        bench.job(put(big="x" * 100_000, **{f"f{number}": "y" * 9_000}))
    bench.job(lambda top: (top / "f0").unlink())
    (lane,) = bench.generations.lanes()
    (level,) = bench.levels()
    told = subprocess.run(["du", "-s", "-B1", str(bench.root / "caches" / level)], capture_output=True, check=True)
    assert abs(lane.size_bytes - int(told.stdout.split()[0])) < 40_000


def test_lanes_of_branches_end_when_they_are_not_used_and_what_stays_stays(bench: Bench) -> None:
    bench.job(put(a="1"))
    bench.job(put(b="1"), TOPIC)
    assert bench.generations.prune(now=time.time() + UNUSED_S - 60) == 0
    assert bench.generations.prune(now=time.time() + UNUSED_S + 60) > 0
    assert [lane.lane for lane in bench.generations.lanes()] == ["protected"]
    assert bench.files(TOPIC) == {"a": "1"}


def test_what_a_job_sees_is_never_removed(bench: Bench) -> None:
    bench.job(put(a="1"))
    with Store.open(bench.root) as store:
        (item,) = store.cache_use.items()
        assert (item.type, item.description, item.in_use) == ("cache", "protected: kept (p)", False)
        with bench.generations.open(NAME, MAIN) as generation:
            store.cache_use.trim(0)
            assert store.cache_use.remove([item]).freed_bytes == 0
            assert store.cache_use.items()[0].in_use
            upper = bench.upper()
            with bench.mounted(generation, upper) as merged:
                assert tree_of(merged)["a"][-1] == "1"
        assert store.cache_use.trim(0).freed_bytes > 0
        assert store.cache_use.items() == []
    assert bench.levels() == []
    assert bench.files() == {}


def test_lane_that_was_removed_meanwhile_is_not_brought_back(bench: Bench) -> None:
    bench.job(put(a="1"))
    bench.job(put(b="1"), TOPIC)
    with bench.generations.open(NAME, TOPIC) as generation:
        upper = bench.upper()
        put(c="1")(Path(upper, "fs"))
        generation.close()  # as if its process had been killed, and another went on
        assert bench.generations.remove(next(x.id for x in bench.generations.lanes() if x.lane == "branch topic")) > 0
        assert bench.kept(generation, upper, TOPIC) != ""
    assert bench.files(TOPIC) == {"a": "1"}


# The machine.


def test_what_was_not_on_the_disk_when_the_machine_stopped_begins_empty(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.job(put(a="1"))
    bench.generations.settle()
    bench.job(put(b="2"), TOPIC)
    monkeypatch.setattr("images.generations._boot", lambda: "another")
    with bench.generations.open(NAME, TOPIC) as generation:
        assert generation.begins == "begins empty: the machine had stopped before all of it was on the disk"
    assert bench.files() == {"a": "1"}
    assert bench.job(put(c="3"), TOPIC) == ""
    assert bench.files(TOPIC) == {"c": "3"}


def test_clock_that_was_set_back_does_not_make_objects_younger_than_sources(bench: Bench) -> None:
    bench.job(put(a="1"))
    with bench.generations.open(NAME, MAIN, now=time.time() - 60) as generation:
        assert "clock" in generation.begins
        assert generation.layers == ()


def test_state_that_nobody_can_read_is_an_empty_cache(bench: Bench) -> None:
    bench.job(put(a="1"))
    (state,) = (bench.root / "caches").glob("*.json")
    for text in ("", "{", '{"owner":"p","name":"kept","levels":{"1":{"parent":1}}}', "null"):
        state.write_text(text)
        assert bench.files() == {}
    assert bench.job(put(b="2")) == ""
    assert bench.files() == {"b": "2"}
    assert len(bench.levels()) == 1


def test_files_that_somebody_removed_are_an_empty_cache(bench: Bench) -> None:
    bench.job(put(a="1"))
    shutil.rmtree(bench.root / "caches" / bench.levels()[0])
    assert bench.files() == {}
    assert bench.job(put(b="2")) == ""
    assert bench.files() == {"b": "2"}


def test_who_waits_for_the_lock_can_be_cancelled(bench: Bench) -> None:
    bench.job(put(a="1"))
    (lock,) = (bench.root / "caches").glob("*.lock")

    def stop() -> None:
        raise TimeoutError("cancelled")

    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with asking(stop), pytest.raises(TimeoutError), bench.generations.open(NAME, MAIN):
            pass


def test_merge_can_be_cancelled_at_each_step_and_goes_on_with_whoever_comes_next(bench: Bench) -> None:
    bench.job(put(same="0", d__e__deep="0"))
    wanted = {"same": "0", "d/e/deep": "0"}
    asked_most = 0
    for stops_at in range(1, 60):
        asked = 0

        def stop(last: int = stops_at) -> None:
            nonlocal asked
            asked += 1
            if asked >= last:
                raise ShiplapError("cancelled")

        files = {f"f{stops_at}": "x", "same": str(stops_at), "d/e/deep": str(stops_at)}
        with asking(stop), contextlib.suppress(ShiplapError):
            bench.job(put(**{name.replace("/", "__"): text for name, text in files.items()}))
        asked_most = max(asked_most, asked)
        bench.job(put(last=str(stops_at)))  # which completes what was left
        found = bench.files()
        wanted = {**wanted, **files} if f"f{stops_at}" in found else wanted
        wanted["last"] = str(stops_at)
        assert found == wanted, "a generation whole, or the one before it"
        assert len(bench.levels()) == 1
        if asked < stops_at:
            break
    assert asked_most == 8, "at each of three directories and five names"


def test_many_at_once_lose_nothing_and_leave_one_level(bench: Bench) -> None:
    won: list[str] = []
    lost: set[str] = set()

    def work(number: int) -> None:
        for turn in range(4):
            with bench.generations.open(NAME, MAIN) as generation:
                upper = bench.upper()
                Path(upper, "fs", f"f{number}-{turn}").write_text("x")
                why = bench.kept(generation, upper)
                if why:
                    lost.add(why)
                else:
                    won.append(f"f{number}-{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.job(put(last="x"))
    assert lost <= {"another job's was first, and stays"}
    assert set(bench.files()) == {*won, "last"}
    assert len(bench.levels()) == 1


# Kills and full disks.

_CALLS = ("rename", "unlink", "mkdir", "rmdir", "setxattr", "utime", "fsync", "fchmod")


def _after(calls: int, stop: Callable[[], None]) -> None:
    """Have every call that changes the disk counted; ``stop`` comes in place of the next one after so many."""
    left = [calls]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                stop()
            left[0] -= 1
            return real(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))


def _rich(top: Path) -> None:
    """Every kind of change: replaced, removed, made anew, a directory for a file and the reverse."""
    put(a="new", d__x="new", only__new="new", file__is="a directory")(_without(top, "file"))
    shutil.rmtree(top / "gone")
    shutil.rmtree(top / "anew")
    put(anew__other="new")(top)
    shutil.rmtree(top / "flat")
    (top / "flat").write_text("a file")
    (top / "d" / "y").unlink()
    os.chmod(top / "d", 0o700)
    os.utime(top / "d", (5, 5))
    os.utime(top, (6, 6))


def _without(top: Path, name: str) -> Path:
    (top / name).unlink()
    return top


@pytest.fixture
def ready(bench: Bench) -> tuple[Bench, str]:
    """A cache with one generation, and what the next job has written."""
    bench.job(put(a="0", b="0", d__x="0", d__y="0", d__z="0", gone__x="0", anew__old="0", flat__x="0", file="a file"))
    upper = bench.upper()
    with bench.generations.open(NAME, MAIN) as generation, bench.mounted(generation, upper) as merged:
        _rich(merged)
    shutil.rmtree(f"{upper}/work")
    os.mkdir(f"{upper}/work")
    return bench, upper


def _copy(bench: Bench, upper: str, number: int) -> tuple[Bench, str]:
    place = bench.tmp / f"n{number}"
    place.mkdir()
    other = Bench(place)
    other.root.rmdir()
    subprocess.run(["cp", "-a", str(bench.root), str(other.root)], check=True)
    return other, f"{other.root}/{os.path.basename(upper)}"


def _one_more(bench: Bench) -> Tree:
    """What there is after another job, which wrote one file; without it. It has to be one level, and nothing else."""
    upper = bench.upper()
    Path(upper, "fs", "more").write_text("x")
    with bench.generations.open(NAME, MAIN) as generation:
        assert bench.kept(generation, upper) == ""
    (level,) = bench.levels()
    assert {path.suffix for path in (bench.root / "caches").iterdir()} == {"", ".json", ".lock"}
    found = tree_of(bench.root / "caches" / level / "fs")
    assert found.pop("more")
    return found


def _both(ready: tuple[Bench, str]) -> tuple[Tree, Tree]:
    """What there is where nothing of it was kept, and where all was."""
    bench, upper = ready
    before, _ = _copy(bench, upper, 1000)
    after, after_upper = _copy(bench, upper, 1001)
    with after.generations.open(NAME, MAIN) as generation:
        assert after.kept(generation, after_upper) == ""
    return _one_more(before), _one_more(after)


def test_kill_at_each_change_loses_that_generation_at_most(ready: tuple[Bench, str]) -> None:
    """Before each rename, and each other call that changes the disk, of keeping and merging: it takes its time."""
    bench, upper = ready
    before, after = _both(ready)
    is_kept = []
    for number in range(200):
        tried, tried_upper = _copy(bench, upper, number)
        pid = os.fork()
        if pid == 0:
            os.fsync = lambda fd: None  # what a kill leaves does not depend on the disk
            _after(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            generation = tried.generations.open(NAME, MAIN)
            tried.generations.keep(generation, tried_upper, MAIN, is_private=False, run="2")
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or status == 0
        found = _one_more(tried)
        assert found in (before, after), number
        is_kept.append(found == after)
        shutil.rmtree(tried.tmp)
        if status == 0:
            break
    assert len(is_kept) in range(30, 200)
    assert is_kept == sorted(is_kept), "once it is kept, it stays kept"
    assert (is_kept[0], is_kept[-1]) == (False, True)


def test_full_disk_at_each_change_leaves_a_generation_whole(
    ready: tuple[Bench, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, upper = ready
    before, after = _both(ready)
    for number in range(0, 200, 3):
        tried, tried_upper = _copy(bench, upper, number)
        hit: list[int] = []

        def fail(hit: list[int] = hit) -> None:
            hit.append(1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched, tried.generations.open(NAME, MAIN) as generation:
            for name in _CALLS:
                patched.setattr(os, name, getattr(os, name))
            _after(number, fail)
            with contextlib.suppress(StorageFullError):
                tried.generations.keep(generation, tried_upper, MAIN, is_private=False, run="2")
        assert _one_more(tried) in (before, after), number
        shutil.rmtree(tried.tmp)
        if not hit:
            break
    assert number in range(30, 200)


def test_merge_that_has_no_room_waits_and_the_job_goes_on_without(
    ready: tuple[Bench, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, upper = ready

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, bench.generations.open(NAME, MAIN) as generation:
        patched.setattr("images.cachefiles.merge", full)
        assert bench.kept(generation, upper) == ""
        with bench.generations.open(NAME, MAIN) as second:
            assert second.begins == "begins empty, and is not kept: no space left on the disk"
            assert bench.write(second, put(a="lost")) == "no space left on the disk"
    assert bench.files()["a"] == "new"
    assert len(bench.levels()) == 1
