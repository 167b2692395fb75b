"""A COPY of which little has changed: the rest is not opened again, and the layer is what it would have been."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.request.request import BuildRequest
from core.events import Warned
from core.trust import Domain, of_branch, of_fork, protected
from images.erofs import Indexer
from images.verify import verify
from tests.builder.copying_tools import make_tree, note_opened
from tests.builder.test_build import Workshop, built, workshop
from tests.toolkit.damage import flip_byte

__all__ = ["workshop"]  # a fixture
pytestmark = pytest.mark.usefixtures("privileged")

COPY = "FROM base\nCOPY . /home/\nRUN cat /home/* > /all\n"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files of trees have been opened."""
    return note_opened(monkeypatch)


def at_rest(context: Path, files: dict[str, bytes]) -> None:
    """Write files, and wait until what is known of them may be trusted."""
    for name, content in files.items():
        path = context / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    time.sleep(0.12)  # more than the tick that the stat cache waits for


def layer_without_cache(workshop: Workshop, text: str) -> object:
    return built(workshop.build(text, no_cache=True)).diff_ids[1]


def test_only_the_changed_file_is_opened(workshop: Workshop, opened: list[str]) -> None:
    at_rest(workshop.context, {f"d{n % 3}/f{n}": os.urandom(n * 700) for n in range(30)} | {"top": b"top"})
    text = "FROM base\nCOPY . /home/\nRUN cat /home/*/* > /all\n"
    workshop.build(text)
    workshop.build(text + "RUN true\n")
    at_rest(workshop.context, {"d1/f7": b"changed"})
    opened.clear()
    image = built(workshop.build(text))
    assert set(opened) == {"d1/f7"}
    assert workshop.read(image, "home/d1/f7") == "changed"
    assert image.diff_ids[1] == layer_without_cache(workshop, text)


def test_a_run_finds_the_last_layer_by_its_domain_alone(workshop: Workshop, opened: list[str], tmp_path: Path) -> None:
    """Each run has its files in a directory of its own, as a worker makes it of what was uploaded."""
    text = b"FROM base\nCOPY . /home/\n"
    files = {f"d{n % 3}/f{n}": os.urandom(n * 700) for n in range(30)}

    def opened_by_run_of(domain: Domain, number: int) -> set[str]:
        directory = make_tree(tmp_path / f"run-{number}", files | {"d1/f7": b"changed in %d" % number})
        contents = {name: hashlib.sha256((directory / name).read_bytes()).digest() for name in files}
        opened.clear()
        with Context.open_private(str(directory), "c", contents) as context:
            request = BuildRequest(text, "Dockerfile", context, domain=domain)
            image = built(build(request, BuildTools(workshop.store, workshop.launcher, workshop.seen)))
        assert workshop.read(image, "home/d1/f7") == f"changed in {number}"
        return set(opened)

    project = (protected("p"), of_branch("p", "b"), of_fork("p", 7), protected("q"))
    assert [opened_by_run_of(domain, number) for number, domain in enumerate(project)] == [set(files)] * 4
    assert [opened_by_run_of(domain, number) for number, domain in enumerate(project, 4)] == [{"d1/f7"}] * 4


def test_files_that_come_go_move_and_get_other_modes(workshop: Workshop, opened: list[str]) -> None:
    text = COPY
    contents = {f"f{n:02}": os.urandom(5000 + n) for n in range(20)}
    at_rest(workshop.context, contents)
    workshop.build(text)
    (workshop.context / "f03").unlink()
    (workshop.context / "f04").rename(workshop.context / "moved")
    (workshop.context / "f05").chmod(0o755)
    os.utime(workshop.context / "f06", (1, 1))
    (workshop.context / "f07").write_bytes(contents["f08"])
    (workshop.context / "f09").unlink()
    (workshop.context / "f09").symlink_to("f10")
    at_rest(workshop.context, {"new": b"new", "f11": b""})
    opened.clear()
    image = built(workshop.build(text.replace("RUN cat /home/*", "RUN ls /home")))
    assert not {"f00", "f08", "f19"} & set(opened)
    assert image.diff_ids[1] == layer_without_cache(workshop, text)


def test_another_owner_mode_or_place_is_no_layer_of_before(workshop: Workshop) -> None:
    at_rest(workshop.context, {"a": b"a" * 4000, "b": b"b"})
    workshop.build(COPY)
    for copy in ("COPY --chown=5:6 . /home/", "COPY --chmod=600 . /home/", "COPY . /root/"):
        text = f"FROM base\n{copy}\nRUN true\n"
        assert built(workshop.build(text)).diff_ids[1] == layer_without_cache(workshop, text)


def test_a_layer_that_was_pruned_is_not_missed(workshop: Workshop, opened: list[str]) -> None:
    at_rest(workshop.context, {f"f{n}": os.urandom(3000) for n in range(5)})
    first = built(workshop.build(COPY)).diff_ids[1]
    workshop.store.layers.path(first).unlink()
    at_rest(workshop.context, {"f2": b"changed"})
    opened.clear()
    image = built(workshop.build(COPY))
    assert set(opened) == {f"f{n}" for n in range(5)}
    assert workshop.read(image, "home/f2") == "changed"


def test_a_flipped_byte_is_not_copied_on(workshop: Workshop, opened: list[str]) -> None:
    files = {f"f{n}": os.urandom(100_000) for n in range(20)}
    at_rest(workshop.context, files)
    text = "FROM base\nCOPY . /home/\n"
    first = built(workshop.build(text)).diff_ids[1]
    tar = workshop.store.layers.path(first)
    flip_byte(tar, tar.read_bytes().index(files["f3"]) + 50_000)
    at_rest(workshop.context, {"f2": b"changed"})
    opened.clear()
    image = built(workshop.build(text))
    (warned,) = [event.message for event in workshop.seen.events if isinstance(event, Warned)]
    assert set(opened) == set(files)
    assert image.diff_ids[1] == layer_without_cache(workshop, text)
    assert first in warned
    assert "damaged" in warned


def test_the_step_of_a_damaged_layer_runs_again_and_repairs_it(workshop: Workshop) -> None:
    at_rest(workshop.context, {"f": os.urandom(100_000)})
    text = "FROM base\nCOPY . /home/\n"
    layer = built(workshop.build(text)).diff_ids[1]
    flip_byte(workshop.store.layers.path(layer))
    assert len(verify(workshop.store)) == 1
    assert built(workshop.build(text)).diff_ids[1] == layer
    assert verify(workshop.store) == []


def test_little_of_a_large_layer_is_rather_read_from_its_files(workshop: Workshop, opened: list[str]) -> None:
    at_rest(workshop.context, {"large": os.urandom(500_000), "small": b"small"})
    workshop.build("FROM base\nCOPY . /home/\n")
    (workshop.context / "large").unlink()
    opened.clear()
    workshop.build("FROM base\nCOPY . /home/\n")
    assert opened == ["small"]


def test_without_cache_every_file_is_read(workshop: Workshop, opened: list[str]) -> None:
    at_rest(workshop.context, {"a": b"a", "b": b"b"})
    workshop.build(COPY)
    opened.clear()
    workshop.build(COPY, no_cache=True)
    assert set(opened) == {"a", "b"}


@pytest.fixture
def indexers(monkeypatch: pytest.MonkeyPatch) -> list[Indexer]:
    """Those that have been started."""
    started: list[Indexer] = []
    begin = Indexer.__init__

    def noted(self: Indexer, tar: str, image: str, *, fed_by: int | None = None) -> None:
        begin(self, tar, image, fed_by=fed_by)
        started.append(self)

    monkeypatch.setattr(Indexer, "__init__", noted)
    return started


def test_an_index_is_made_once_and_only_for_a_run(workshop: Workshop, indexers: list[Indexer]) -> None:
    at_rest(workshop.context, {"a": b"a" * 10_000})
    workshop.build("FROM base\nCOPY . /home/\n")
    indexers.clear()  # the base's
    (workshop.context / "a").write_text("other")
    workshop.build("FROM base\nCOPY . /home/\n")
    assert not indexers
    (workshop.context / "a").write_text("another")
    image = built(workshop.build("FROM base\nCOPY . /home/\nRUN cat /home/a > /b\n"))
    assert len(indexers) == 1
    assert workshop.read(image, "b") == "another"


def test_an_index_that_nobody_asked_for_ends_with_the_store(workshop: Workshop, indexers: list[Indexer]) -> None:
    at_rest(workshop.context, {"a": b"a" * 10_000})
    image = built(workshop.build("FROM base\nCOPY . /home/\n"))
    indexers.clear()
    for _ in range(2):
        workshop.store.snapshots.begin(image.diff_ids[1])
    assert len(indexers) == 1
    workshop.store.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(indexers[0]._pid, 0)
