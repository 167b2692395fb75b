"""An engine whose root is gone leaves no namespace, no mount and no files for ever."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import abandoned
from engine.engine import Engine
from engine.places import Places
from images.store import Store
from tests.engine.conftest import ended, put_busybox
from tests.engine.test_life import create
from tests.toolkit.bounds import eventually


@pytest.fixture
def leaving(privileged: None, busybox_tar: Path, tmp_path: Path, short_path: Path) -> Iterator[Engine]:
    """An engine that has a switch, of a root that may be removed."""
    places = Places(tmp_path / "root", short_path / "left")
    with Store.open(places.root) as store:
        put_busybox(store, busybox_tar)
    with Engine(places) as engine:
        create(engine, "one", "sleep", "1000", host={"NetworkMode": "bridge"})
        engine.start("one")
        yield engine
        if places.root.exists():
            with ended(engine):
                pass


def pins(places: Places) -> int:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(str(places.run) in line for line in lines)


def end_nursery(engine: Engine) -> None:
    with engine.keepers.nursery() as nursery:
        nursery.ask("end")
    eventually(lambda: not (engine.places.run / "nursery.sock").exists())


def test_the_nursery_ends_what_a_root_that_is_gone_has_left(leaving: Engine) -> None:
    places = leaving.places
    leaving.remove("one", force=True)
    assert pins(places) == 1
    shutil.rmtree(places.root)
    eventually(lambda: not list(places.run.parent.glob(f"{places.run.name}*")), timeout_s=60)
    assert pins(places) == 0


def test_a_prune_of_another_root_ends_what_no_nursery_is_there_to_end(leaving: Engine) -> None:
    places = leaving.places
    other = Places(places.root.with_name("other"), places.run.with_name("other"))
    other.make()
    leaving.remove("one", force=True)
    end_nursery(leaving)
    assert abandoned.end_all(other) == []  # its root is there
    shutil.rmtree(places.root)
    assert abandoned.end_all(other) == [str(places.root)]
    assert not places.run.exists()
    assert pins(places) == 0
    assert abandoned.end_all(other) == []
    assert other.run.exists()


def test_a_root_that_is_away_for_a_moment_keeps_what_its_containers_need(leaving: Engine) -> None:
    """As on a disk that is mounted late: its keeper answers, so nothing is ended."""
    places = leaving.places
    other = Places(places.root.with_name("other"), places.run.with_name("other"))
    other.make()
    end_nursery(leaving)
    places.root.rename(places.root.with_name("away"))
    assert abandoned.end_all(other) == []
    places.root.with_name("away").rename(places.root)
    assert leaving.inspect("one")["State"]["Running"]
    assert pins(places) == 1


def test_whose_root_is_not_known_is_left_alone(tmp_path: Path) -> None:
    places = Places(tmp_path / "root", tmp_path / "run" / "one")
    places.make()
    stranger = tmp_path / "run" / "stranger"
    (stranger / "switch").mkdir(parents=True)
    assert abandoned.end_all(places) == []
    assert (stranger / "switch").exists()
    assert (places.run / "root").read_text() == str(places.root)


def test_what_somebody_was_killed_over_is_removed(tmp_path: Path) -> None:
    places = Places(tmp_path / "root", tmp_path / "run" / "one")
    places.make()
    half = tmp_path / "run" / "other.gone"
    (half / "events").mkdir(parents=True)
    lost = Places(tmp_path / "lost", tmp_path / "run" / "other")
    lost.make()
    shutil.rmtree(lost.root)
    (lost.run.with_name("other.gone") / "k").mkdir()
    assert abandoned.end_if_abandoned(lost.run)
    assert not half.exists()
    (half / "events").mkdir(parents=True)
    assert abandoned.end_all(places) == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["one"]


def test_threads_that_come_first_at_once_all_find_the_places(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            places = Places(tmp_path / "root", tmp_path / "run" / str(number))
            for each in [pool.submit(places.make) for _ in range(16)]:
                each.result()
            assert (places.run / "root").read_text() == str(places.root)
