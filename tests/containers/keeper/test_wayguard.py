"""The nursery's eye on the switch: what happened is told to ``ensure_way``, once for a crowd of changes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import netlink, switchway
from containers.endpoints import Network
from containers.errors import NetworkError
from containers.keeper.loop import Loop
from containers.keeper.wayguard import WayGuard
from containers.netspaces import inside
from containers.switch import Switch, open_switch, remove_switch
from tests.toolkit.bounds import Deadline


@pytest.fixture
def run(privileged: None, short_path: Path) -> Iterator[str]:
    place = short_path / "run"
    place.mkdir()
    yield str(place)
    remove_switch(str(place))


class _Mending:
    """Takes the place of ``ensure_way``. refusals: how often it fails before it does not."""

    def __init__(self) -> None:
        self.times = 0
        self.refusals = 0

    def __call__(self, _run: str, _switch: Switch) -> str:
        self.times += 1
        if self.refusals:
            self.refusals -= 1
            raise NetworkError("not now")
        return "kernel"


@pytest.fixture
def mending(monkeypatch: pytest.MonkeyPatch) -> _Mending:
    mending = _Mending()
    monkeypatch.setattr(switchway, "ensure_way", mending)
    return mending


def _until(loop: Loop, mending: _Mending, times: int) -> None:
    deadline = Deadline(30, f"{mending.times} of {times}")
    while mending.times < times:
        deadline.check()
        loop.later(0.05, lambda: None)
        loop.step()


def _calm(loop: Loop) -> None:
    """Let what was noticed be done with."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        loop.later(0.02, lambda: None)
        loop.step()


def test_lost_interfaces_are_noticed_and_a_refusal_is_tried_again(run: str, mending: _Mending) -> None:
    loop = Loop()
    guard = WayGuard(loop, run)
    guard.look()  # there is no switch yet
    with open_switch(run) as switch:
        Path(run, "switch", "way").write_text("kernel")
        guard.look()
        _calm(loop)
        before = mending.times
        mending.refusals = 1
        switch.add_network(Network("f" * 64, "172.28.0.0/24", "172.28.0.1"))
        _until(loop, mending, before + 2)
        _calm(loop)
        before = mending.times
        inside(switch.netns, _make_and_remove_links)
        _until(loop, mending, before + 1)
        _calm(loop)
        assert mending.times - before < 10  # of a hundred changes
    guard.close()


def _make_and_remove_links() -> list[int]:
    link = netlink.Netlink()
    for _ in range(25):
        link.change(netlink.new_bridge("short", b"\x02short"))
        found = link.link("short")
        assert found is not None
        link.change(netlink.delete_link(found[0]))
    link.close()
    return []


def test_a_switch_that_was_removed_is_let_go(run: str, mending: _Mending) -> None:
    loop = Loop()
    guard = WayGuard(loop, run)
    open_switch(run).close()
    Path(run, "switch", "way").write_text("kernel")
    descriptors = len(os.listdir("/proc/self/fd"))
    guard.look()
    remove_switch(run)
    guard._mend()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert mending.times == 0
