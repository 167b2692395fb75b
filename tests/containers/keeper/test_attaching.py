"""The streams of a container: its log, who is attached, who follows."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containers.errors import ContainerError
from containers.keeper import logfile, protocol, relay
from containers.keeper.protocol import Conversation
from tests.containers.keeper.home import Box, Home
from tests.toolkit.bounds import eventually, stretched


def test_a_log_has_dockers_lines_and_gives_every_byte_back(tmp_path: Path) -> None:
    data = b"plain\n" + bytes(range(256)) + b"\n" + "grün".encode() + b"\n" + b"x" * 40000 + b"\nno end"
    log = logfile.Log(str(tmp_path / "log"), 1 << 20, 5)
    for start in range(0, len(data), 1000):
        log.write("stdout", data[start : start + 1000])
    log.end()
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log" / "1.json").read_text().splitlines()]
    assert "".join(line["log"] for line in lines).encode("utf-8", "surrogateescape") == data
    assert all(len(line["log"].encode("utf-8", "surrogateescape")) <= logfile.PART_BYTES for line in lines)
    times = [line["time"] for line in lines]
    assert times == sorted(set(times))
    assert lines[0] == {"log": "plain\n", "stream": "stdout", "time": times[0]}


def test_files_of_a_log_are_bounded_and_go_on_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    log = logfile.Log(str(folder), 1000, 3)
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    numbers = logfile.numbers(str(folder))
    assert len(numbers) == 3
    with open(folder / f"{numbers[-1]}.json", "ab") as file:
        file.write(b'{"log":"half')  # as a kill would leave it
    log = logfile.Log(str(folder), 1000, 3)
    log.write("stderr", b"after\n")
    log.close()
    lines = [
        line for number in logfile.numbers(str(folder)) for line in (folder / f"{number}.json").read_text().splitlines()
    ]
    assert [json.loads(line)["log"] for line in lines[-2:]] == ["line 99\n", "after\n"]


@pytest.mark.parametrize(
    ("text", "keys"), [("", b"\x10\x11"), ("ctrl-a", b"\x01"), ("a,b", b"ab"), ("ctrl-@,ctrl-[", b"\0\x1b")]
)
def test_detach_keys_are_dockers(text: str, keys: bytes) -> None:
    assert relay.parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-aa", "ctrl-1", "ab", "ä", "a,,b"])
def test_other_words_are_no_keys(text: str) -> None:
    with pytest.raises(ValueError, match="unknown character"):
        relay.parse_keys(text)


@contextmanager
def _attached(box: Box, **fields: Any) -> Iterator[tuple[Conversation, socket.socket]]:
    """Attached by a socket, before anything else: output cannot have been missed when it was not started."""
    ours, theirs = socket.socketpair()
    with box.keeper() as keeper, ours:
        keeper.ask("attach", {"stdin": True, **fields}, [theirs.fileno()])
        theirs.close()
        yield keeper, ours


def _all(sock: socket.socket) -> bytes:
    sock.settimeout(stretched(30))
    said = b""
    while piece := sock.recv(1 << 16):
        said += piece
    return said


def test_who_attaches_before_the_start_misses_nothing(home: Home) -> None:
    box = home.create(
        "sh", "-c", "echo out; echo err >&2; cat; exit 6", process={"stdin_open": True, "stdin_once": True}
    )
    with _attached(box) as (keeper, sock):
        box.start()
        sock.sendall(b"typed\n")
        sock.shutdown(socket.SHUT_WR)
        assert sorted(_all(sock).splitlines()) == [b"err", b"out", b"typed"]
        assert keeper.receive(timeout_s=stretched(30))[0] == {"ended": "exit"}
    assert box.state()["exit_code"] == 6
    assert b"typed" in box.output()


def test_streams_are_told_apart_as_docker_does(home: Home) -> None:
    box = home.create("sh", "-c", "echo out; sleep 0.2; echo err >&2")
    with _attached(box, framing="multiplexed") as (_keeper, sock):
        box.start()
        said = _all(sock)
    assert said == struct.pack(">B3xI", 1, 4) + b"out\n" + struct.pack(">B3xI", 2, 4) + b"err\n"


def test_chunks_are_https(home: Home) -> None:
    box = home.create("echo", "out")
    with _attached(box, framing="chunked") as (_keeper, sock):
        box.start()
        said = _all(sock)
    assert said == b"c\r\n" + struct.pack(">B3xI", 1, 4) + b"out\n\r\n0\r\n\r\n"


def test_what_was_read_too_much_comes_first(home: Home) -> None:
    box = home.create("cat", process={"stdin_open": True, "stdin_once": True})
    with _attached(box, read="Zmlyc3Qg") as (_keeper, sock):
        box.start()
        sock.sendall(b"second\n")
        sock.shutdown(socket.SHUT_WR)
        assert _all(sock) == b"first second\n"


def test_nobody_started_and_all_gone_leaves_no_trace(home: Home) -> None:
    box = home.create("true")
    with _attached(box):
        assert box.is_kept()
    eventually(lambda: not box.is_kept())
    assert not (box.folder / "state.json").exists()


def test_detach_keys_leave_a_terminal_behind_and_sizes_arrive(home: Home) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do read line && echo got-$line; done"
    box = home.create("sh", "-c", script, process={"terminal": True, "stdin_open": True, "terminal_size": [30, 100]})
    with _attached(box, detach_keys="ctrl-x,y") as (keeper, sock):
        sock.settimeout(stretched(30))
        box.start()
        _until(sock, b"30 100\r\n")
        sock.sendall(b"one\n")
        _until(sock, b"got-one\r\n")
        box.ask("resize", {"rows": 40, "columns": 120})
        _until(sock, b"40 120\r\n")
        sock.sendall(b"\x18y")
        assert keeper.receive(timeout_s=stretched(30))[0] == {"ended": "detached"}
    assert box.state()["status"] == "running"
    with _attached(box) as (_keeper, sock):
        sock.settimeout(stretched(30))
        sock.sendall(b"two\n")
        _until(sock, b"got-two\r\n")


def _until(sock: socket.socket, text: bytes) -> None:
    said = b""
    while text not in said:
        piece = sock.recv(1 << 16)
        assert piece, said
        said += piece


def test_a_slow_viewer_gets_everything(home: Home) -> None:
    box = home.create("sh", "-c", "seq 1 400000")
    with _attached(box) as (_keeper, sock):
        box.start()
        lines = _all(sock).splitlines()
    assert len(lines) == 400000
    assert lines[-1] == b"400000"


def test_a_viewer_that_takes_nothing_is_cut_off_and_the_container_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = home.create("sh", "-c", "seq 1 1000000; echo done > /done")
    with _attached(box) as (keeper, _sock):
        box.start()
        assert keeper.receive(timeout_s=stretched(60))[0] == {"ended": "gone"}
        box.until("exited")
    assert (box.folder / "upper" / "fs" / "done").exists()


def test_who_follows_from_a_place_misses_nothing_and_sees_nothing_twice(home: Home) -> None:
    script = "for i in $(seq 1 300); do echo line $i; done; sleep 0.3; for i in $(seq 301 600); do echo line $i; done"
    box = home.create("sh", "-c", script, log={"driver": "json-file", "max_size": 20000, "max_file": 9})
    with box.keeper() as keeper:
        keeper.ask("start")
        eventually(lambda: len(box.lines()) >= 10)
        first = (box.folder / "log" / "1.json").read_bytes()[:4000]
        offset = first.rfind(b"\n") + 1
        past = [json.loads(line)["log"] for line in first[:offset].splitlines()]
        read, write = os.pipe()
        keeper.ask("follow", {"file": 1, "offset": offset}, [write])
        os.close(write)
        with open(read, "rb") as file:
            rest = file.read().decode()
    assert "".join(past) + rest == "".join(f"line {number}\n" for number in range(1, 601))


def test_a_long_log_is_followed_from_its_beginning(home: Home) -> None:
    box = home.create("sh", "-c", "seq 1 300000")
    assert box.run() == 0
    with box.keeper() as keeper:
        read, write = os.pipe()
        keeper.ask("follow", {"file": 1, "offset": 0}, [write])
        os.close(write)
        with open(read, "rb") as file:
            for number in range(1, 300001):
                assert file.readline() == b"%d\n" % number


def test_much_input_before_the_start_is_not_lost(home: Home) -> None:
    box = home.create("wc", "-c", process={"stdin_open": True, "stdin_once": True})
    with _attached(box) as (_keeper, sock):
        sent = threading.Thread(target=_send, args=(sock, 3_000_000))
        sent.start()
        time.sleep(0.3)
        box.start()
        assert _all(sock) == b"3000000\n"
        sent.join()


def _send(sock: socket.socket, count: int) -> None:
    sock.sendall(b"x" * count)
    sock.shutdown(socket.SHUT_WR)


def test_followers_of_one_stream_with_times(home: Home) -> None:
    box = home.create("sh", "-c", "echo out; echo err >&2")
    ours, theirs = socket.socketpair()
    with box.keeper() as keeper, ours:
        keeper.ask("follow", {"stdout": False, "timestamps": True}, [theirs.fileno()])
        theirs.close()
        keeper.ask("start")
        said = _all(ours).decode()
    assert said.endswith("Z err\n")
    assert said.count("\n") == 1


def test_a_request_that_makes_no_sense_ends_nothing(home: Home) -> None:
    box = home.create("sleep", "1000")
    box.start()
    with box.keeper() as keeper:
        keeper.socket.send(b"no JSON")
        eventually(lambda: not keeper.socket.recv(1 << 16))
    for fields in (
        {"verb": "exec"},
        {"verb": "signal", "number": "x"},
        {"verb": "nonsense"},
        {"verb": "attach", "framing": "x"},
    ):
        with box.keeper() as keeper:
            protocol.send(keeper.socket, fields)
            with pytest.raises(ContainerError):
                keeper.receive(timeout_s=stretched(30))
    assert box.state()["status"] == "running"
    assert box.execute("echo", "fine") == (0, b"fine\n")
