"""What keepers read, write and reckon, without a container: DNS, names, logs, states, specs, counters, messages."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from containers import addresses, stepnetwork, wire
from containers.errors import (
    ContainerError,
    KeeperError,
    NetworkError,
    NoAnswerError,
    NotExecutedError,
    StateError,
)
from containers.hierarchies import Hierarchy
from containers.keeper import (
    counters,
    dnswire,
    eventlog,
    logfile,
    namefiles,
    ports,
    protocol,
    records,
    relay,
    restarts,
    specs,
)
from core.packets import MAX_BYTES


def question(name: bytes, kind: int = dnswire.A, flags: int = 0x0100, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".")) if name else b""
    return struct.pack(">HHHHHH", 7, flags, count, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, dnswire.IN)


def test_query_is_read_with_its_name_in_lower_case() -> None:
    message = question(b"Web.Front", dnswire.AAAA)
    query = dnswire.read_query(message)
    assert isinstance(query, dnswire.Query)
    assert (query.number, query.flags, query.name, query.kind) == (7, 0x0100, "web.front", dnswire.AAAA)
    assert query.question == message[12:]


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (question(b"a")[:11], None),
        (question(b"a", flags=0x8100), None),
        (question(b"a", flags=0x0800), dnswire.NOT_IMPLEMENTED),
        (question(b"a", flags=0x4000), dnswire.NOT_IMPLEMENTED),
        (question(b"a", count=0), dnswire.FORMAT_ERROR),
        (question(b"a", count=2), dnswire.FORMAT_ERROR),
        (question(b"a")[:-1], dnswire.FORMAT_ERROR),
        (question(b"a")[:13], dnswire.FORMAT_ERROR),
        (question(b"a")[:12], dnswire.FORMAT_ERROR),
        (question(b"x")[:12] + b"\xc0\x0c\0\1\0\1", dnswire.FORMAT_ERROR),
        (question(b"x")[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", dnswire.FORMAT_ERROR),
        (question(b".".join([b"a" * 63] * 4)), dnswire.FORMAT_ERROR),
    ],
)
def test_message_that_is_no_query(message: bytes, outcome: int | None) -> None:
    assert dnswire.read_query(message) == outcome


def test_longest_names_are_read() -> None:
    for name in (b"a" * 63, b".".join([b"a" * 63] * 3 + [b"a" * 61])):
        query = dnswire.read_query(question(name))
        assert isinstance(query, dnswire.Query)
        assert query.name == name.decode()
    assert dnswire.read_query(question(b".".join([b"a" * 63] * 3 + [b"a" * 62]))) == dnswire.FORMAT_ERROR


def asked(name: bytes = b"web", flags: int = 0x0100) -> dnswire.Query:
    query = dnswire.read_query(question(name, flags=flags))
    assert isinstance(query, dnswire.Query)
    return query


def test_answer_has_the_question_and_the_records() -> None:
    said = dnswire.answer(asked(), [b"\1\2\3\4", b"\5\6\7\x08"])
    assert struct.unpack_from(">HHHHHH", said) == (7, 0x8580, 1, 2, 0, 0)
    body = said[12:]
    assert body.startswith(asked().question)
    assert body[len(asked().question) :] == b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", dnswire.A, dnswire.IN, 600, 4) + address
        for address in (b"\1\2\3\4", b"\5\6\7\x08")
    )
    assert struct.unpack_from(">HH", dnswire.answer(asked(flags=0), [], dnswire.NO_SUCH_NAME)) == (7, 0x8483)


def test_answer_that_does_not_fit_says_so() -> None:
    room = (512 - 12 - len(asked().question)) // 16
    whole = dnswire.answer(asked(), [b"\1\2\3\4"] * room)
    assert (struct.unpack_from(">HHHH", whole)[3], struct.unpack_from(">HH", whole)[1] & 0x0200) == (room, 0)
    cut = dnswire.answer(asked(), [b"\1\2\3\4"] * (room + 1))
    assert (struct.unpack_from(">HHHH", cut)[3], struct.unpack_from(">HH", cut)[1] & 0x0200) == (room, 0x0200)
    exact = len(dnswire.answer(asked(), [b"\1\2\3\4"]))
    assert struct.unpack_from(">HHHH", dnswire.answer(asked(), [b"\1\2\3\4"], most_bytes=exact))[3] == 1
    assert struct.unpack_from(">HHHH", dnswire.answer(asked(), [b"\1\2\3\4"], most_bytes=exact - 1))[3] == 0
    by_tcp = dnswire.answer(asked(), [b"\1\2\3\4"] * 100, most_bytes=65535)
    assert struct.unpack_from(">HHHH", by_tcp)[3] == 100


def test_failure_keeps_number_and_wishes() -> None:
    said = dnswire.failure(question(b"a", flags=0x0900), dnswire.NOT_IMPLEMENTED)
    assert struct.unpack(">HHHHHH", said) == (7, 0x8984, 0, 0, 0, 0)
    assert struct.unpack_from(">HH", dnswire.failure(question(b"a", flags=0), dnswire.SERVER_FAILURE)) == (7, 0x8082)


def test_only_the_answer_to_this_very_question_is_one() -> None:
    said = dnswire.answer(asked(), [b"\1\2\3\4"])
    assert dnswire.answers(said, 7, asked().question)
    assert not dnswire.answers(said, 8, asked().question)
    assert not dnswire.answers(said, 7, asked(b"other").question)
    assert not dnswire.answers(question(b"web"), 7, asked().question)
    assert not dnswire.answers(said[:11], 7, asked().question)
    assert not dnswire.answers(said[:4] + b"\0\2" + said[6:], 7, asked().question)
    assert dnswire.renumbered(said, 0x1234)[:2] == b"\x12\x34"
    assert dnswire.renumbered(said, 9)[2:] == said[2:]


def test_names_on_the_wire() -> None:
    assert dnswire.encode_name("web.front") == b"\3web\5front\0"
    assert dnswire.encode_name("a" * 70) == b"\x3f" + b"a" * 63 + b"\0"


def test_addresses_that_names_ask_for() -> None:
    assert dnswire.reversed_address("5.0.18.172.in-addr.arpa") == b"\xac\x12\0\5"
    digits = ".".join(reversed("20010db8000000000000000000000005"))
    assert dnswire.reversed_address(f"{digits}.ip6.arpa") == socket.inet_pton(socket.AF_INET6, "2001:db8::5")
    for name in ("web", "0.18.172.in-addr.arpa", "1.5.0.18.172.in-addr.arpa", "x.0.18.172.in-addr.arpa", "1.ip6.arpa"):
        assert dnswire.reversed_address(name) is None


@pytest.fixture
def run(tmp_path: Path) -> str:
    (tmp_path / "switch").mkdir()
    return str(tmp_path)


def test_names_lead_to_addresses_and_back(run: str) -> None:
    table = namefiles.NameTable(run, "net")
    assert (table.addresses("web"), table.name(b"\1\2\3\4")) == (None, None)
    namefiles.add_names(run, "net", "one", ["Web", "alias"], ["1.2.3.4", "::1"], called="Front")
    both = [b"\1\2\3\4", b"\0" * 15 + b"\1"]
    for name in ("web", "web.front", "alias", "alias.front"):
        assert table.addresses(name) == both
    assert table.addresses("front") is None
    assert [table.name(address) for address in both] == ["web.front", "web.front"]
    namefiles.add_names(run, "net", "two", ["web"], ["1.2.3.5"])
    assert sorted(table.addresses("web") or []) == sorted([*both, b"\1\2\3\5"])
    assert table.name(b"\1\2\3\5") == "web.front"  # what the network is called stays
    namefiles.drop_names(run, "net", "one")
    assert (table.addresses("web"), table.addresses("alias")) == ([b"\1\2\3\5"], None)
    namefiles.drop_names(run, "net", "one")
    namefiles.add_names(run, "net", "three", ["c"], ["1.2.3.6"])
    namefiles.keep_names(run, "net", ["three"])
    assert (table.addresses("web"), table.addresses("c")) == (None, [b"\1\2\3\6"])
    namefiles.remove_file(run, "net")
    namefiles.remove_file(run, "net")
    assert (table.addresses("c"), table.name(b"\1\2\3\6")) == (None, None)


def test_network_without_a_name_of_its_own(run: str) -> None:
    namefiles.add_names(run, "net", "one", ["web"], ["1.2.3.4"])
    table = namefiles.NameTable(run, "net")
    assert (table.addresses("web"), table.addresses("web."), table.name(b"\1\2\3\4")) == ([b"\1\2\3\4"], None, "web")


@pytest.mark.parametrize("network", ["../x", "a/b", ".x"])
def test_names_of_a_network_do_not_lead_elsewhere(run: str, network: str) -> None:
    with pytest.raises(NetworkError):
        namefiles.add_names(run, network, "one", ["web"], ["1.2.3.4"])


def test_addresses_as_bytes() -> None:
    assert addresses.pack_prefix("172.18.0.5/16") == (b"\xac\x12\0\5", 16)
    assert addresses.pack_prefix("0.0.0.0/0") == (bytes(4), 0)
    assert addresses.pack_prefix("::1/128") == (bytes(15) + b"\1", 128)
    for text in ("172.18.0.5", "172.18.0.5/33", "172.18.0.5/-1", "172.18.0.5/", "::1/129", "x/8"):
        with pytest.raises(NetworkError):
            addresses.pack_prefix(text)
    assert addresses.network_of(b"\xac\x12\5\6", 16) == b"\xac\x12\0\0"
    assert addresses.network_of(b"\xac\x12\5\6", 32) == b"\xac\x12\5\6"
    assert addresses.pack_mac("02:42:ac:12:00:05") == b"\2\x42\xac\x12\0\5"
    for text in (
        "03:42:ac:12:00:05",
        "02:42:ac:12:00",
        "02:42:ac:12:00:05:06",
        "02:42:ac:12:00:zz",
        "02:42:ac:12:00:100",
    ):
        with pytest.raises(NetworkError):
            addresses.pack_mac(text)
    assert addresses.mac_for(b"\xac\x12\0\5") == "02:42:ac:12:00:05"
    assert addresses.unpack(addresses.link_local(b"\2\x42\xac\x12\0\5")) == "fe80::42:acff:fe12:5"
    assert addresses.unpack(b"\xac\x12\0\5") == "172.18.0.5"


def lines(folder: Path, number: int = 1) -> list[tuple[str, str]]:
    text = (folder / f"{number}.json").read_text()
    return [(entry["stream"], entry["log"]) for entry in map(json.loads, text.splitlines())]


def test_lines_are_written_whole_and_in_their_streams(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"a")
    log.write("stderr", b"e\n")
    assert lines(tmp_path) == [("stderr", "e\n")]
    log.write("stdout", b"b\nc\n\nd")
    assert lines(tmp_path) == [("stderr", "e\n"), ("stdout", "ab\n"), ("stdout", "c\n"), ("stdout", "\n")]
    log.write("stderr", b"half")
    log.end()
    assert sorted(lines(tmp_path)[4:]) == [("stderr", "half"), ("stdout", "d")]
    log.end()
    assert len(lines(tmp_path)) == 6
    assert log.size == (tmp_path / "1.json").stat().st_size
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(log.fileno())


def test_long_lines_are_written_in_parts(tmp_path: Path) -> None:
    part = logfile.PART_BYTES
    log = logfile.Log(str(tmp_path), 1 << 30, 2)
    log.write("stdout", b"x" * (part - 1) + b"\n")
    assert [len(text) for _, text in lines(tmp_path)] == [part]
    log.write("stdout", b"y" * part + b"\n")
    assert [text for _, text in lines(tmp_path)[1:]] == ["y" * part, "\n"]
    log.write("stdout", b"z" * part)  # without an end, and yet full
    assert [text for _, text in lines(tmp_path)[3:]] == ["z" * part]
    log.write("stdout", b"z\n")
    assert [text for _, text in lines(tmp_path)[4:]] == ["z\n"]
    log.write("stdout", b"w" * (2 * part + 1))
    assert [len(text) for _, text in lines(tmp_path)[5:]] == [part, part]
    log.end()
    assert [text for _, text in lines(tmp_path)[7:]] == ["w"]
    log.close()


def test_times_rise_within_a_log_though_the_clock_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_999_999_998)
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"a\n")
    log.write("stdout", b"b\nc\nd\n")
    log.write("stderr", b"e\n")
    log.close()
    moments = [json.loads(line)["time"] for line in (tmp_path / "1.json").read_text().splitlines()]
    assert moments == sorted(set(moments))
    assert moments[0] == "1970-01-01T00:00:01.999999998Z"
    assert all(len(moment) == len(moments[0]) for moment in moments)


def test_bytes_that_are_no_text_come_back(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"\xff\xc3\n")
    log.close()
    [(_, text)] = lines(tmp_path)
    assert text.encode("utf-8", "surrogateescape") == b"\xff\xc3\n"


def test_full_file_is_followed_by_the_next_and_the_oldest_makes_room(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 120, 2)
    for letter in b"abcd":
        log.write("stdout", bytes([letter]) + b"\n")  # a file has room for one
    assert log.number == 4
    assert logfile.numbers(str(tmp_path)) == [3, 4]
    assert [lines(tmp_path, 3), lines(tmp_path, 4)] == [[("stdout", "c\n")], [("stdout", "d\n")]]
    log.close()


def test_file_is_filled_to_its_last_byte(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"a\n")
    size = log.size
    log.close()
    log = logfile.Log(str(tmp_path), 2 * size, 2)
    assert (log.number, log.size) == (1, size)
    log.write("stdout", b"b\n")
    assert (log.number, log.size) == (1, 2 * size)
    log.write("stdout", b"c\n")
    assert (log.number, log.size) == (2, size)
    log.close()


def test_line_larger_than_a_file_is_kept_all_the_same(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 10, 0)
    log.write("stdout", b"a\n")
    assert (log.number, lines(tmp_path)) == (1, [("stdout", "a\n")])
    log.write("stdout", b"b\n")
    assert logfile.numbers(str(tmp_path)) == [2]
    log.close()


def test_half_a_line_that_a_kill_left_is_cut_off(tmp_path: Path) -> None:
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"a\n")
    log.close()
    whole = log.size
    with (tmp_path / "1.json").open("ab") as file:
        file.write(b'{"log":"half')
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    assert log.size == whole
    log.write("stdout", b"b\n")
    log.close()
    assert lines(tmp_path) == [("stdout", "a\n"), ("stdout", "b\n")]
    (tmp_path / "1.json").write_bytes(b'{"lo')
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    assert (log.size, (tmp_path / "1.json").read_bytes()) == (0, b"")
    log.close()


def test_full_disk_loses_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logfile.Log(str(tmp_path), 1 << 20, 2)
    log.write("stdout", b"a\n")
    real = os.write

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "write", full)
    log.write("stdout", b"lost\n")
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:5]))
    log.write("stdout", b"cut\n")

    def broken(_fd: int, _data: bytes) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="broken"):
        log.write("stdout", b"x\n")
    monkeypatch.setattr(os, "write", real)
    log.write("stdout", b"b\n")
    log.close()
    assert lines(tmp_path) == [("stdout", "a\n"), ("stdout", "b\n")]


def test_log_that_is_not_wanted_and_sizes_that_are_docker_s(tmp_path: Path) -> None:
    none = logfile.opened(str(tmp_path), {"driver": "none"})
    none.write("stdout", b"a\n")
    none.end()
    none.close()
    assert (none.number, none.size, list(tmp_path.iterdir())) == (0, 0, [])
    log = logfile.opened(str(tmp_path), {})
    assert isinstance(log, logfile.Log)
    assert (log._most_bytes, log._most_files) == (20 << 20, 5)
    log.close()
    own = logfile.opened(str(tmp_path), {"driver": "json-file", "max_size": 5, "max_file": 1})
    assert isinstance(own, logfile.Log)
    assert (own._most_bytes, own._most_files) == (5, 1)
    own.close()
    assert logfile.numbers(str(tmp_path / "nowhere")) == []
    (tmp_path / "log" / "x.json").touch()
    (tmp_path / "log" / "10.json").touch()
    (tmp_path / "log" / "9.jsonx").touch()
    assert logfile.numbers(str(tmp_path / "log")) == [1, 10]


def test_state_is_what_was_written_last(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert records.read_state(folder) == records.new_state()
    assert records.new_state() == {
        "format": 1, "status": "created", "pid": 0, "started": records.NEVER, "finished": records.NEVER,
        "exit_code": 0, "oom": False, "error": "", "restarts": 0, "stopped_by_hand": False, "health": None,
        "execs": {}, "range": 0, "ports": [],
    }  # fmt: skip
    for durable in (True, False):
        records.write_state(folder, {"status": "exited", "exit_code": 3}, durable=durable)
        assert records.read_state(folder) == {**records.new_state(), "status": "exited", "exit_code": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\n"])
def test_state_that_the_disk_never_had_was_running(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert records.read_state(str(tmp_path))["status"] == "running"


def test_state_is_written_over_the_old_one_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.write_state(str(tmp_path), {"status": "running", "error": "x" * 100}, durable=True)
    real = os.open

    def full(path: Any, *rest: Any) -> int:
        if str(path).endswith(".new"):
            raise OSError(errno.ENOSPC, "no space")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", full)
    records.write_state(str(tmp_path), {"status": "exited"}, durable=True)
    assert records.read_state(str(tmp_path)) == {**records.new_state(), "status": "exited"}

    def broken(_path: Any, *_rest: Any) -> int:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(OSError, match="read-only"):
        records.write_state(str(tmp_path), {"status": "dead"}, durable=True)
    monkeypatch.setattr(os, "open", real)
    assert records.read_state(str(tmp_path))["status"] == "exited"


def test_moments_and_sockets() -> None:
    assert records.moment(0) == "1970-01-01T00:00:00.000000000Z"
    assert records.moment(1_000_000_001) == "1970-01-01T00:00:01.000000001Z"
    assert records.socket_path("/run", "0123456789abcdef" * 4) == "/run/k/0123456789abcdef.sock"


SPEC: dict[str, Any] = {
    "layers": [["/base"]],
    "upper": "/up",
    "process": {"args": ["a"], "env": [["A", "1"]], "capabilities": ["CAP_KILL", "CAP_CHOWN"]},
}


def test_least_spec_has_defaults() -> None:
    wire = specs.to_wire(SPEC)
    assert wire == {
        "layers": [("/base",)], "upper": "/up", "args": ("a",), "env": (("A", "1"),), "cwd": "/", "user": "",
        "hostname": "", "network": "default", "mounts": [], "extra_hosts": (), "terminal": False,
        "terminal_size": (24, 80), "terminal_input": True, "capabilities": ["CAP_CHOWN", "CAP_KILL"],
        "filtered": True, "limits": specs.LIMITS, "limited": False, "shm_bytes": 64 << 20, "ulimits": [],
        "init": False, "reaper": False, "durable": True, "no_new_privileges": False,
        "extras": {"marks": ("/.dockerenv",)}, "segment": "", "group": None,
    }  # fmt: skip


def test_spec_with_everything() -> None:
    process = {
        **SPEC["process"], "cwd": "/w", "user": "u", "terminal": True, "terminal_size": [1, 2], "filtered": False,
        "ulimits": [["nofile", 1, 2], {"name": "core", "soft": 0, "hard": -1}], "no_new_privileges": True, "init": True,
    }  # fmt: skip
    wire = specs.to_wire(
        {
            **SPEC, "process": process, "read_only": True, "hostname": "h", "network": "none", "shm_bytes": 5,
            "extra_hosts": [["a", "1.2.3.4"]], "limits": {"pids": 3},
            "mounts": [
                {"kind": "bind", "target": "/b", "source": "/s"},
                {"kind": "bind", "target": "/b", "source": "/s", "readonly": True, "idmapped": False, "subpath": "p",
                 "flat": True, "shallow": False},
                {"kind": "tmpfs", "target": "/t"},
                {"kind": "tmpfs", "target": "/t", "size_bytes": 7, "mode": 0o700, "flags": 5, "options": ["uid=1"]},
                {"kind": "tree", "target": "/x", "layers": [["/l"]]},
                {"kind": "tree", "target": "/x", "layers": [], "source": "/s", "upper": "/u", "owner": [1, 2]},
                {"kind": "device", "target": "/d", "source": "/dev/fuse"},
            ],
        }
    )  # fmt: skip
    assert wire["upper"] is None
    assert (wire["cwd"], wire["user"], wire["hostname"], wire["network"]) == ("/w", "u", "h", "none")
    assert (wire["terminal"], wire["terminal_size"], wire["filtered"]) == (True, (1, 2), False)
    assert wire["ulimits"] == [("nofile", 1, 2), ("core", 0, -1)]
    assert (wire["no_new_privileges"], wire["reaper"], wire["shm_bytes"]) == (True, True, 5)
    assert (wire["limits"]["pids"], wire["limited"]) == (4, True)  # one is the reaper's
    assert wire["extra_hosts"] == (("a", "1.2.3.4"),)
    assert wire["mounts"] == [
        ("bind", "/b", "/s", False, True, {}), ("bind", "/b", "/s", True, False, {"subpath": "p", "flat": True}),
        ("tmpfs", "/t", 0, 0o1777, None, ()),
        ("tmpfs", "/t", 7, 0o700, 5, ("uid=1",)), ("tree", "/x", [("/l",)], "/", None, (0, 0)),
        ("tree", "/x", [], "/s", "/u", (1, 2)),
        ("device", "/d", "/dev/fuse"),
    ]  # fmt: skip


def test_spec_of_another_release_is_refused() -> None:
    assert specs.to_wire({**SPEC, "network": {"x": 1}})["network"] == specs.SWITCH
    for change in ({"network": "cloud"}, {"mounts": [{"kind": "cloud", "target": "/d"}]}):
        with pytest.raises(ContainerError, match="this keeper has no"):
            specs.to_wire({**SPEC, **change})
    assert specs.limits_of({**SPEC, "process": {"init": True}})["pids"] == 0


def test_process_that_joins_has_the_containers_place_and_its_own_wishes() -> None:
    process = {**SPEC["process"], "user": "u", "cwd": "/w", "init": True, "filtered": True}
    spec = {**SPEC, "process": process}
    plain = specs.exec_to_wire(spec, {"args": ["b"]}, ["CAP_ALL"])
    assert (plain["args"], plain["env"], plain["user"], plain["cwd"]) == (("b",), (("A", "1"),), "u", "/w")
    assert (plain["terminal"], plain["terminal_size"], plain["filtered"], plain["reaper"]) == (
        False, (24, 80), True, False,
    )  # fmt: skip
    assert plain["capabilities"] == ["CAP_CHOWN", "CAP_KILL"]
    asked = {
        "args": ["b"], "env": [["B", "2"], ["A", "3"]], "user": "v", "cwd": "/x", "terminal": True,
        "terminal_size": [5, 6], "privileged": True,
    }  # fmt: skip
    own = specs.exec_to_wire(spec, asked, ["CAP_ALL"])
    assert (own["env"], own["user"], own["cwd"]) == ((("A", "3"), ("B", "2")), "v", "/x")
    assert (own["terminal"], own["terminal_size"], own["capabilities"], own["filtered"]) == (
        True, (5, 6), ["CAP_ALL"], False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "code", "times", "by_hand", "wanted"),
    [
        ({}, 1, 0, False, False),
        ({"policy": "always"}, 0, 9, False, True),
        ({"policy": "always"}, 0, 0, True, False),
        ({"policy": "unless-stopped"}, 0, 0, False, True),
        ({"policy": "on-failure"}, 0, 0, False, False),
        ({"policy": "on-failure"}, 1, 99, False, True),
        ({"policy": "on-failure", "maximum": 3}, 1, 2, False, True),
        ({"policy": "on-failure", "maximum": 3}, 1, 3, False, False),
    ],
)
def test_policy_wants_it_again_or_not(policy: Any, code: int, times: int, by_hand: bool, wanted: bool) -> None:
    assert restarts.wanted(policy, code, times, stopped_by_hand=by_hand) is wanted


def test_counters_of_version_2(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods x\n", "memory.current": "100\n",
        "memory.max": "max\n", "memory.stat": "anon 1\ninactive_file 30\n", "pids.current": "3\n", "pids.max": "9\n",
        "io.stat": "8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=7 wbytes=8\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = counters.read([(Hierarchy("/x", 2, ("cpu", "memory", "pids", "io")), str(tmp_path))], os.getpid())
    expected = {
        "cpu_ns": 10_000, "cpu_user_ns": 6000, "cpu_system_ns": 4000, "memory_bytes": 100, "memory_limit_bytes": 0,
        "memory_inactive_file_bytes": 30, "pids": 3, "pids_limit": 9, "read_bytes": 12, "written_bytes": 14,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert found["cores"] == len(os.sched_getaffinity(0)) or found["cores"] == os.cpu_count()
    assert found["system_ns"] > found["cores"] * 1_000_000_000
    assert "lo" not in found["networks"]


@pytest.mark.parametrize(("limit", "shown"), [(500, 500), ((1 << 62) - 1, (1 << 62) - 1), (1 << 62, 0)])
def test_counters_of_version_1(tmp_path: Path, limit: int, shown: int) -> None:
    files = {
        "cpuacct.usage": "10", "cpuacct.usage_user": "6", "cpuacct.usage_sys": "4", "memory.usage_in_bytes": "100",
        "memory.limit_in_bytes": str(limit), "memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
        "pids.current": "3",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    found = counters.read([(Hierarchy("/x", 1, ("cpu", "memory")), str(tmp_path))], os.getpid())
    expected = {
        "cpu_ns": 10, "cpu_user_ns": 6, "cpu_system_ns": 4, "memory_bytes": 100, "memory_limit_bytes": shown,
        "memory_inactive_file_bytes": 30, "pids": 0, "pids_limit": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_counters_of_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Inter-|\n face |\n    lo: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    monkeypatch.setattr(counters, "_text", lambda _path: text)
    assert counters._networks(1) == {
        "eth0": {
            "rx_bytes": 1, "rx_packets": 2, "rx_errors": 3, "rx_dropped": 4, "tx_bytes": 9, "tx_packets": 10,
            "tx_errors": 11, "tx_dropped": 12,
        }
    }  # fmt: skip


def test_events_are_written_in_the_order_of_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = str(tmp_path)
    assert (eventlog.numbers(run), list(eventlog.read(run))) == ([], [])
    monkeypatch.setattr("time.time_ns", lambda: 1000)
    assert [eventlog.append(run, "container", action, "id", {"a": "b"}) for action in ("x", "y")] == [1000, 1001]
    assert list(eventlog.read(run)) == [
        {"time_ns": 1000, "type": "container", "action": "x", "id": "id", "attributes": {"a": "b"}},
        {"time_ns": 1001, "type": "container", "action": "y", "id": "id", "attributes": {"a": "b"}},
    ]


def test_last_files_of_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = str(tmp_path)
    eventlog.append(run, "c", "a0", "id", {})
    size = os.stat(eventlog.path(run, 1)).st_size
    monkeypatch.setattr(eventlog, "MOST_BYTES", size * 2)
    eventlog.append(run, "c", "a1", "id", {})
    assert eventlog.numbers(run) == [1]
    for number in range(2, 7):
        eventlog.append(run, "c", f"a{number}", "id", {})
    assert eventlog.numbers(run) == [3, 4]
    assert [event["action"] for event in eventlog.read(run)] == ["a4", "a5", "a6"]
    with open(eventlog.path(run, 4), "ab") as file:
        file.write(b'{"half')
    assert len(list(eventlog.read(run))) == 3


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_messages_with_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reading, writing = os.pipe()
    protocol.send(ours, {"verb": "x"}, [writing])
    received = protocol.receive(theirs)
    assert received is not None
    message, fds = received
    assert (message, len(fds)) == ({"verb": "x"}, 1)
    os.write(fds[0], b"hi")
    assert os.read(reading, 9) == b"hi"
    for fd in (reading, writing, *fds):
        os.close(fd)
    ours.close()
    assert protocol.receive(theirs) is None


def test_large_message_goes_by_memory(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    for size in (MAX_BYTES - 9, MAX_BYTES - 8, 1 << 20):  # {"x": ""} is nine bytes
        before = len(os.listdir("/proc/self/fd"))
        protocol.send(ours, {"x": "a" * size})
        received = protocol.receive(theirs)
        assert received is not None
        assert (len(received[0]["x"]), received[1]) == (size, [])
        assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_message_is_an_error_and_its_descriptors_are_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"[1]", b"{", b'"x"'):
        socket.send_fds(ours, [data], [0])
        with pytest.raises(ValueError, match=r".+"):
            protocol.receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_errors_travel_by_their_names() -> None:
    for error in (StateError("s", hint="h"), KeeperError("k")):
        again = protocol.as_error(protocol.error_fields(error)["error"])
        assert (type(again), again.message, again.hint) == (type(error), error.message, error.hint)
    failed = NotExecutedError("n")
    failed.code = 126
    again = protocol.as_error(protocol.error_fields(failed)["error"])
    assert isinstance(again, NotExecutedError)
    assert again.code == 126
    assert type(protocol.as_error({"kind": "OfTomorrow", "text": "t"})) is ContainerError


def test_who_does_not_answer_is_told_apart_from_who_is_gone() -> None:
    ours, theirs = wire.socket_pair()
    with (
        protocol.Conversation(ours, "") as conversation,
        pytest.raises(NoAnswerError, match="not answered for") as told,
    ):
        conversation.ask("status", timeout_s=0.01)
    assert isinstance(told.value, TimeoutError)
    assert not isinstance(told.value, KeeperError)
    theirs.close()


def test_ports_lead_back_only_to_clients_that_are_far() -> None:
    target = ports.Target("172.18.0.2", "fd00::2", ["172.18.0.0/16", "fd00::/64"])
    near = ["127.0.0.1", "127.255.0.1", "172.18.255.1", "::1", "fe80::1", "fd00::9"]
    far = ["172.19.0.1", "126.0.0.1", "::2", "fd00:0:0:1::9", "2001:db8::1"]
    for client in near + far:
        address = "fd00::2" if ":" in client else "172.18.0.2"
        assert target.way(addresses.pack(client)) == (address, client in far)
    assert ports.Target("172.18.0.2", None).way(addresses.pack("2001:db8::1")) == ("172.18.0.2", False)
    assert ports.Target(None, "fd00::2").way(addresses.pack("1.2.3.4")) == ("fd00::2", False)
    assert ports.Target(None, None).way(addresses.pack("1.2.3.4")) is None
    assert ports.Target("1.1.1.1", None, transparent=False).way(addresses.pack("9.9.9.9")) == ("1.1.1.1", False)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EADDRINUSE, "cannot listen at 1.2.3.4:80/tcp: port is already allocated"),
        (errno.EACCES, "cannot listen at 1.2.3.4:80/tcp: permission denied"),
        (errno.EPERM, "cannot listen at 1.2.3.4:80/tcp: permission denied"),
        (errno.EADDRNOTAVAIL, "cannot listen at 1.2.3.4:80/tcp: this host has no such address"),
        (errno.EIO, "cannot listen at 1.2.3.4:80/tcp: Input/output error"),
    ],
)
def test_port_that_cannot_be_listened_at_says_why(number: int, message: str) -> None:
    asked = ports.Asked(("1.2.3.4",), "tcp", 80, 80)
    assert ports._refused("1.2.3.4", asked, 80, OSError(number, os.strerror(number))).message == message
    assert "[::1]:80" in ports._refused("::1", asked, 80, OSError(number, "x")).message


def test_ports_are_bound_everywhere_or_nowhere() -> None:
    asked, sockets = ports._bound(ports.Asked(("127.0.0.1", "127.0.0.2"), "tcp", 0, 80))
    try:
        assert asked.port > 0
        assert [each.getsockname() for each in sockets] == [("127.0.0.1", asked.port), ("127.0.0.2", asked.port)]
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(NetworkError, match="port is already allocated"):
            ports._bound(ports.Asked(("127.0.0.3", "127.0.0.2"), "tcp", asked.port, 80))
        assert len(os.listdir("/proc/self/fd")) == before
        udp, [listener] = ports._bound(ports.Asked(("127.0.0.1",), "udp", asked.port, 53))
        listener.close()
        assert (udp.port, udp.to_port, udp.protocol) == (asked.port, 53, "udp")
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,b", b"ab"),
        ("ctrl-@,ctrl-_", b"\0\x1f"),
        ("ctrl-Z", b"\x1a"),
    ],
)
def test_keys_that_detach(text: str, keys: bytes) -> None:
    assert relay.parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-pp", "ctrl-1", "ä", "a,", "ctrl-ä"])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="unknown character"):
        relay.parse_keys(text)


def test_pieces_are_told_apart_by_their_framing() -> None:
    raw = relay.Framing("raw", has_one=False)
    assert (raw.framed("stderr", b"ab"), raw.end()) == (b"ab", b"")
    heads = relay.Framing("multiplexed", has_one=False)
    assert (heads.framed("stderr", b"ab"), heads.end()) == (b"\2\0\0\0\0\0\0\2ab", b"")
    assert heads.framed("stdout", b"ab")[0] == 1
    assert relay.Framing("multiplexed", has_one=True).framed("stdout", b"ab") == b"ab"
    chunks = relay.Framing("chunked", has_one=False)
    assert chunks.framed("stdout", b"ab") == b"a\r\n\1\0\0\0\0\0\0\2ab\r\n"
    assert chunks.end() == b"0\r\n\r\n"
    terminal = relay.Framing("chunked", has_one=True)
    assert (terminal.framed("stdout", b"x" * 16), terminal.framed("stdout", b"")) == (
        b"10\r\n" + b"x" * 16 + b"\r\n", b"",
    )  # fmt: skip
    with pytest.raises(ValueError, match="unknown framing 'x'"):
        relay.Framing("x", has_one=False)


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (NetworkError("no pasta", hint="install it"), "no pasta", "install it"),
        (NetworkError("no way"), "no way", None),
        (OSError(errno.EPERM, "not permitted"), "cannot make the network of a step: [Errno 1] not permitted", None),
    ],
)
def test_why_there_is_no_network_of_a_step_comes_back(
    privileged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, hint: str | None
) -> None:
    """In a process of its own: what it enters cannot be left again."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:

            def fail(*_arguments: object) -> None:
                raise error

            monkeypatch.setattr(stepnetwork, "_enter", fail)
            stepnetwork.in_step_network(tmp_path, (), lambda: b"")
        except NetworkError as told:
            os.write(writing, json.dumps([told.message, told.hint]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        said = json.load(file)
    os.waitpid(pid, 0)
    assert said == [message, hint]


class _Inner:
    """A socket on its way to a container."""

    def __init__(self, outcome: int | OSError) -> None:
        self.outcome = outcome
        self.told: list[object] = []

    def setsockopt(self, *words: object) -> None:
        self.told.append(words)

    def bind(self, place: object) -> None:
        self.told.append(place)

    def connect_ex(self, place: object) -> int:
        self.told.append(place)
        if isinstance(self.outcome, OSError):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.told.append("closed")


def test_way_into_a_container_is_the_clients_own_and_leaves_no_socket_behind() -> None:
    def connected(outcome: int | OSError, client: str = "9.9.9.9", kind: int = socket.SOCK_STREAM) -> _Inner:
        inner = _Inner(outcome)
        published = ports.Ports(None, lambda _version, _kind: inner)  # type: ignore[arg-type, return-value]
        assert published._connect(client, kind, 80) is None
        published.open(ports.Target("172.18.0.2", "fd00::2", ["172.18.0.0/16"]))
        if isinstance(outcome, OSError):
            with pytest.raises(OSError, match="none"):
                published._connect(client, kind, 80)
        else:
            found: Any = published._connect(client, kind, 80)
            assert (found is inner) is (outcome in (0, errno.EINPROGRESS))
        return inner

    few_attempts, transparent, no_port = (socket.IPPROTO_TCP, socket.TCP_SYNCNT, 4), (0, 19, 1), (0, 24, 1)
    for outcome in (0, errno.EINPROGRESS):
        told = connected(outcome).told
        assert told == [few_attempts, transparent, no_port, ("9.9.9.9", 0), ("172.18.0.2", 80)]
    assert connected(errno.ECONNREFUSED).told[-1] == "closed"
    assert connected(OSError(errno.EADDRINUSE, "none")).told[-1] == "closed"
    assert connected(0, "172.18.0.9").told == [few_attempts, ("172.18.0.2", 80)]
    assert connected(0, "2001:db8::1").told[:2] == [few_attempts, (41, 75, 1)]
    assert connected(0, kind=socket.SOCK_DGRAM).told == [transparent, ("9.9.9.9", 0), ("172.18.0.2", 80)]
