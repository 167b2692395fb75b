"""A container's life by its keeper: start, end, stop, and what is written down."""

from __future__ import annotations

import pytest

from containers import spec
from containers.errors import NotExecutedError, StateError
from containers.keeper import specs
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


def test_one_with_the_default_network_has_an_interface_and_a_resolver(home: Home) -> None:
    box = home.create("sh", "-c", "ip -4 addr show eth0; cat /etc/hosts; ip route", network="default")
    assert box.run() == 0
    said = box.output().decode()
    assert "inet 198.1" in said
    assert "default via" in said
    assert box.identity[:12] in said


def test_a_restart_by_policy_keeps_the_network(home: Home) -> None:
    box = home.create(
        "sh",
        "-c",
        "ip route | grep -c default; exit 1",
        network="default",
        restart={"policy": "on-failure", "maximum": 2},
    )
    box.start()
    box.until("exited")
    assert box.output() == b"1\n1\n1\n"


def test_limits_ulimits_and_privileges_reach_the_command(home: Home) -> None:
    script = "ulimit -n; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; touch /x"
    box = home.create(
        "sh",
        "-c",
        script,
        process={"ulimits": [["nofile", 77, 88]], "no_new_privileges": True},
        read_only=True,
        limits={"memory_bytes": 32 << 20},
    )
    assert box.run() == 1  # of touch: the root is read-only
    assert box.output().decode().split() == ["77", "NoNewPrivs:", "1", "0"]


def test_the_spec_on_the_wire_has_what_set_up_needs(home: Home) -> None:
    """Two writers of one form: the launcher's client and a keeper."""
    by_keeper = specs.to_wire(home.create("true").spec())
    by_client = spec.to_wire(spec.ContainerSpec(layers=(), upper=None, args=("true",)))
    assert by_keeper.keys() == by_client.keys()
