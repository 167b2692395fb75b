"""Ranges of IDs: each holder has another, none of an account or of build steps, and a killed one gives its back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from containers import idmap
from containers.errors import NamespaceError
from containers.keeper import ranges
from core import ofdlocks


@pytest.fixture
def run(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return str(tmp_path / "run")


def _few(monkeypatch: pytest.MonkeyPatch, taken: set[int]) -> list[int]:
    first = idmap.FALLBACK // idmap.SIZE
    blocks = range(first, first + 4)
    monkeypatch.setattr(idmap, "host_blocks", lambda: (blocks, taken))
    return [number * idmap.SIZE for number in blocks]


def test_each_has_another_until_none_is_left(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = _few(monkeypatch, {idmap.FALLBACK // idmap.SIZE})
    held = [ranges.take(run) for _ in range(3)]
    assert sorted(each.first[0] for each in held) == starts[1:]
    with pytest.raises(NamespaceError, match="in use"):
        ranges.take(run)
    gone = held.pop()
    first = gone.first
    gone.close()
    again = ranges.take(run)
    assert again.first == first
    for each in (*held, again):
        each.close()


def test_a_killed_holder_gives_its_range_back(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _few(monkeypatch, set(range(idmap.FALLBACK // idmap.SIZE, idmap.FALLBACK // idmap.SIZE + 3)))
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        ranges.take(run)
        os.write(tells, b"1")
        signal.pause()
    os.read(told, 1)
    with pytest.raises(NamespaceError):
        ranges.take(run)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    ranges.take(run).close()
    os.close(told)
    os.close(tells)


def test_who_joins_shares_it_and_nobody_takes_it_meanwhile(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _few(monkeypatch, set(range(idmap.FALLBACK // idmap.SIZE, idmap.FALLBACK // idmap.SIZE + 3)))
    held = ranges.take(run)
    with open(Path(run).parent / "ids", "r+b") as other:
        assert ofdlocks.share_lock(other.fileno(), held.first[0] // idmap.SIZE)
        held.close()
        with pytest.raises(NamespaceError):
            ranges.take(run)
    ranges.take(run).close()


def test_blocks_of_accounts_and_of_builds_are_left_out() -> None:
    account = idmap.FALLBACK + 5 * idmap.SIZE + 7
    builds = idmap.FALLBACK + 9 * idmap.SIZE + 1  # an entry of /etc/subuid need not begin where a block does
    taken = idmap.taken_blocks((f"joe:x:{account}:1::/:", f"staff:x:{account + idmap.SIZE}:"), (builds, builds))
    numbers = {number - idmap.FALLBACK // idmap.SIZE for number in taken}
    assert {0, 5, 6, 9, 10} <= numbers
    assert 1 not in numbers
