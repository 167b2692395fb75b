"""Containers of one segment reach each other by name, and are joined and asked while they run; all others are apart."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import segment
from containers.errors import StateError
from containers.handles import Container
from containers.joiners import is_listening
from containers.spec import ExitStatus
from tests.containers.running import Runner, Traces, descendants, eventually
from tests.containers.segments import ASK, DB, Pair


@pytest.fixture
def pair(run: Runner) -> Iterator[Pair]:
    made = Pair(run)
    yield made
    made.close()


def test_the_others_of_a_segment_are_reached_by_name(pair: Pair) -> None:
    assert eventually(lambda: pair.service.listens(7000))
    assert pair.ask(ASK) == (ExitStatus(0), "hello\n")


def test_a_segment_is_beside_the_way_out(run: Runner) -> None:
    """With a network of its own, eth0 is what it always was."""
    pair = Pair(run, network="default")
    assert eventually(lambda: pair.service.listens(7000))
    status, said = pair.ask(f"{ASK} && ip -o -4 addr show eth0 | grep -c inet && ip route | grep -c default")
    pair.close()
    assert (status, said) == (ExitStatus(0), "hello\n1\n1\n")


def test_the_own_name_is_that_of_the_place_in_the_segment(pair: Pair) -> None:
    assert pair.executed("sh", "-c", "grep -c db /etc/hosts; hostname -i") == (ExitStatus(0), f"1\n{DB}\n")


def test_segments_know_nothing_of_each_other(pair: Pair, run: Runner) -> None:
    """The same addresses, and another service behind them: nobody."""
    other = Pair(run)
    other.service.kill()
    other.service.wait()
    assert eventually(lambda: pair.service.listens(7000))
    status, said = other.ask(ASK)
    other.close()
    assert status.code != 0
    assert "hello" not in said


def test_only_what_others_reach_listens() -> None:
    """Nothing is connected for it: the kernel's own table says so."""

    def asked(kind: socket.SocketKind, family: socket.AddressFamily, address: str) -> tuple[bool, bool]:
        with socket.socket(family, kind) as server:
            server.bind((address, 0))
            if kind is socket.SOCK_STREAM:
                server.listen()
            port = server.getsockname()[1]
            return is_listening(os.getpid(), "tcp", port), is_listening(os.getpid(), "udp", port)

    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    assert asked(stream, socket.AF_INET, "0.0.0.0") == (True, False)
    assert asked(stream, socket.AF_INET6, "::") == (True, False)
    assert asked(datagram, socket.AF_INET, "0.0.0.0") == (False, True)
    assert asked(stream, socket.AF_INET, "127.0.0.1") == (False, False)
    assert asked(stream, socket.AF_INET6, "::1") == (False, False)
    with socket.socket() as silent:  # bound, and nobody listens
        silent.bind(("0.0.0.0", 0))
        assert not is_listening(os.getpid(), "tcp", silent.getsockname()[1])


def test_a_process_joins_with_its_own_variables_and_code(pair: Pair) -> None:
    assert pair.executed("sh", "-c", "echo $A; exit 3") == (ExitStatus(3), "b\n")
    status, _said = pair.executed("no-such-program")
    assert (status.code, "not found" in status.message) == (127, True)


def test_a_process_that_joined_is_killed_alone(pair: Pair) -> None:
    with open(os.devnull, "r+b") as null:
        fd = null.fileno()
        joined = pair.service.execute(pair.service_spec("sleep", "1000"), stdin=fd, stdout=fd, stderr=fd)
        joined.kill()
        assert joined.wait().code == 137
    assert not pair.service.ended()


def test_a_container_that_has_ended_says_so(pair: Pair) -> None:
    pair.service.kill()
    assert eventually(pair.service.ended)
    with pytest.raises(StateError, match="has ended"):
        pair.service.listens(7000)
    with pytest.raises(StateError, match="has ended"):
        pair.executed("true")
    pair.service.wait()
    with pytest.raises(StateError, match="has ended"):
        pair.service.listens(7000)


def test_who_joins_a_container_that_ends_meanwhile_is_told_so(run: Runner) -> None:
    """Whatever of it is there no more: its namespaces, its process, its control groups."""
    spec = run.spec("true")
    with open(os.devnull, "r+b") as null:
        fd = null.fileno()
        for _ in range(6):
            container = run.start("sleep", "0.02")

            def join_for_ever(container: Container = container) -> None:
                while True:
                    container.execute(spec, stdin=fd, stdout=fd, stderr=fd).close()

            with container, pytest.raises(StateError, match="ended"):
                join_for_ever()


def test_what_joined_ends_with_the_container(pair: Pair) -> None:
    with open(os.devnull, "r+b") as null:
        fd = null.fileno()
        joined = pair.service.execute(pair.service_spec("sleep", "1000"), stdin=fd, stdout=fd, stderr=fd)
        pair.service.kill()
        assert joined.wait().code == 137


def test_nothing_is_left_of_a_killed_launcher(pair: Pair) -> None:
    """Nobody takes the segment apart: its namespace goes with the last descriptor, and bridge and veth with that."""
    assert eventually(lambda: pair.service.listens(7000))
    traces = Traces.of(pair.run.launcher.pid)
    before = set(descendants(pair.run.launcher.pid))
    os.kill(pair.run.launcher.pid, 9)
    assert eventually(lambda: not traces.left(), 5), traces.left()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before - {pair.run.launcher.pid}), 5)
    assert eventually(lambda: _links(pair.fd) == {"lo", "b"}, 5), "only this process still has the descriptor"


def _links(netns: int) -> set[str]:
    """The interfaces of a namespace."""
    listed = subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{netns}", "ip", "-o", "link"],
        pass_fds=[netns], check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return {line.split(": ")[1].partition("@")[0] for line in listed.splitlines()}


def test_the_host_is_not_in_a_segment(pair: Pair) -> None:
    """No address answers that is nobody's: not the bridge's, not the host's, not the metadata service's."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        for address in (segment.address_of(100), "198.51.100.254", "127.0.0.1", "169.254.169.254"):
            status, said = pair.ask(f"nc -w 1 {address} {port} </dev/null")
            assert status.code != 0, (address, said)
    assert pair.ask("ip -6 addr show eth1 | grep -c fe80")[1] == "0\n"
