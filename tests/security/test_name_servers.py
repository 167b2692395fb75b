"""A container that floods its name server, sends it garbage, or is lied to by somebody else's answers."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.keeper import dnswire, forwarding
from containers.keeper.namefiles import add_names
from tests.containers.lans import lan
from tests.containers.test_names import Scene, code_of, query, records_of
from tests.toolkit.bounds import eventually


@pytest.fixture
def scene(privileged: None, tmp_path: Path) -> Iterator[Scene]:
    with lan(tmp_path) as net, contextlib.closing(Scene(net, tmp_path)) as made:
        yield made


def test_answer_under_another_number_or_to_another_question_is_no_answer(scene: Scene) -> None:
    """Even from the resolver's own address and port, where a forger would have to be first."""
    read = dnswire.read_query(query("example.test", number=4711))
    assert isinstance(read, dnswire.Query)
    wrong_number = dnswire.answer(read, [bytes([6, 6, 6, 6])])
    other = dnswire.read_query(query("bank.test"))
    assert isinstance(other, dnswire.Query)
    numbers = random.Random(1).sample(range(1 << 16), 200)
    scene.resolver.lies = [dnswire.renumbered(wrong_number, number) for number in numbers[:3]]
    scene.resolver.lies += [dnswire.answer(other, [bytes([6, 6, 6, 6])]), b"", b"\0" * 11, os.urandom(40)]
    assert records_of(scene.ask("example.test")) == [bytes([198, 51, 100, 17])]


def test_answer_from_another_port_does_not_arrive(scene: Scene) -> None:
    scene.resolver.silent = True
    with scene.client() as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        client.send(query("example.test"))
        while not scene.resolver.asked:
            pass
        message, peer = scene.resolver.asked[0]
        asked = dnswire.read_query(message)
        assert isinstance(asked, dnswire.Query)
        with contextlib.suppress(ConnectionRefusedError):
            forger.sendto(dnswire.answer(asked, [bytes([6, 6, 6, 6])]), peer)
        scene.resolver.udp.sendto(dnswire.answer(asked, [bytes([198, 51, 100, 1])]), peer)
        assert records_of(client.recv(1000)) == [bytes([198, 51, 100, 1])]


def test_flood_of_questions_is_bounded_and_own_names_are_answered_meanwhile(scene: Scene) -> None:
    scene.resolver.silent = True
    add_names(scene.run, "one", "c1", ["web"], ["10.77.1.2"])
    with scene.client() as client:
        refused = 0
        for number in range(forwarding.MOST_UNDER_WAY + 40):
            client.send(query(f"n{number}.test", number=number))
        for _ in range(40):
            said = client.recv(1000)
            assert code_of(said) == 2
            refused += 1
        assert refused == 40
        assert records_of(scene.ask("web")) == [bytes([10, 77, 1, 2])]
    assert len(scene.forwarder._under_way) == forwarding.MOST_UNDER_WAY


def test_connections_are_bounded(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(scene.machine.open())
            client.settimeout(2)
            client.connect(("127.0.0.11", 53))
        assert code_of(scene.ask("example.test")) == 0
        assert len(scene.names._connections) <= 16


def test_another_container_does_not_reach_it(scene: Scene) -> None:
    ports = [scene.names._udp.getsockname()[1], 53]
    for port in ports:
        with scene.other.open(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for address in ("10.77.1.2", "127.0.0.11"):
                with contextlib.suppress(OSError):
                    client.sendto(query("example.test"), (address, port))
            with pytest.raises((TimeoutError, ConnectionRefusedError)):
                client.recv(1000)
    assert not scene.resolver.asked


def test_garbage_does_not_stop_it(scene: Scene) -> None:
    chance = random.Random(7)
    good = query("example.test")
    with scene.client() as client:
        for _ in range(300):
            data = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            client.send(bytes(data[: chance.randrange(len(data) + 1)]))
        client.send(struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")  # a name that points to itself

    def answers() -> bool:
        """As any resolver does, it asks again: while the queue is full of garbage, the kernel drops what comes."""
        try:
            return records_of(scene.ask("example.test")) == [bytes([198, 51, 100, 17])]
        except TimeoutError:
            return False

    eventually(answers, timeout_s=60)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_an_error_or_nothing(data: bytes) -> None:
    read = dnswire.read_query(data)
    if isinstance(read, dnswire.Query):
        assert len(dnswire.answer(read, [bytes(4)] * 300)) <= 512
        assert not dnswire.answers(data, read.number, read.question)
    elif read is not None:
        assert len(dnswire.failure(data, read)) == 12
