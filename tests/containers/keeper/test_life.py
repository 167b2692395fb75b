"""A container's life by its keeper: start, end, stop, and what is written down."""

from __future__ import annotations

import pytest

from containers.errors import NotExecutedError, StateError
from tests.containers.keeper.home import Home


def test_a_command_runs_and_its_end_is_written_down(home: Home) -> None:
    box = home.create("sh", "-c", "echo out; echo err >&2; exit 3")
    assert box.run() == 3
    state = box.state()
    assert (state["status"], state["exit_code"], state["pid"]) == ("exited", 3, 0)
    assert box.output() == b"out\n"
    assert box.output("stderr") == b"err\n"
    assert not box.is_kept()


def test_what_it_changed_is_there_at_the_next_start(home: Home) -> None:
    box = home.create("sh", "-c", "cat /count || true; echo again >> /count")
    assert [box.run(), box.run(), box.run()] == [0, 0, 0]
    assert box.output() == b"again\nagain\nagain\n"


def test_a_command_that_is_not_there_is_told_as_docker_does(home: Home) -> None:
    box = home.create("no-such-program")
    with pytest.raises(NotExecutedError, match="executable file not found") as caught:
        box.start()
    assert caught.value.code == 127
    assert box.state()["status"] == "created"


def test_a_running_one_is_not_started_again(home: Home) -> None:
    box = home.create("sleep", "1000")
    box.start()
    with pytest.raises(StateError):
        box.start()
    assert box.state()["status"] == "running"
    assert box.stop(timeout_s=0) == {"ok": True}
    assert box.state()["exit_code"] == 137
