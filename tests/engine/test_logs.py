"""Reading logs: rotated files, tails, times, bytes that are no UTF-8; what follows, without a gap or a double."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from containers.keeper import logfile
from containers.keeper.logfile import Log
from engine.errors import InvalidRequestError
from engine.logs import LogReader, Wanted
from engine.times import asked_moment, moment_of, text_of

_ALL = Wanted()


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A container's directory, with nothing logged yet."""
    (tmp_path / "log").mkdir()
    return tmp_path


def log_of(box: Path, most_bytes: int = 1 << 20, most_files: int = 5) -> Log:
    return Log(str(box / "log"), most_bytes, most_files)


def texts(box: Path, wanted: Wanted = _ALL) -> list[bytes]:
    return [entry.data for entry in LogReader(box).past(wanted)]


@pytest.mark.parametrize("held", [2, 7, 1000])
def test_all_files_are_read_in_order(box: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr("engine.logs._MOST_HELD", held)
    log = log_of(box, most_bytes=400)
    for number in range(12):
        log.write("stdout", b"line %d\n" % number)
    assert len(logfile.numbers(str(box / "log"))) > 2
    assert texts(box) == [b"line %d\n" % number for number in range(12)]
    for tail in (0, 1, 3, 7, 12, 40):
        assert texts(box, Wanted(tail=tail)) == [b"line %d\n" % number for number in range(12)][12 - min(tail, 12) :]
        odd = Wanted(stderr=False, tail=tail, until_ns=asked_moment("2100-01-01T00:00:00Z"))
        assert texts(box, odd) == texts(box, Wanted(tail=tail))
    log.close()


def test_streams_bytes_and_parts_come_out_as_they_went_in(box: Path) -> None:
    log = log_of(box)
    long = b"x" * 40_000 + b"\xff\n"
    log.write("stdout", b"caf\xe9\n\x00\xf0\x9f\x98\x80\n")
    log.write("stderr", b"wrong\n" + long)
    log.write("stdout", b"no end")
    log.end()
    log.close()
    assert b"".join(texts(box)) == b"caf\xe9\n\x00\xf0\x9f\x98\x80\nwrong\n" + long + b"no end"
    assert b"".join(texts(box, Wanted(stdout=False))) == b"wrong\n" + long
    assert texts(box, Wanted(stderr=False, tail=1)) == [b"no end"]
    with pytest.raises(InvalidRequestError, match="you must choose at least one stream"):
        texts(box, Wanted(stdout=False, stderr=False))


def test_since_and_until_are_moments_of_lines(box: Path) -> None:
    log = log_of(box)
    for number in range(5):
        log.write("stdout", b"%d\n" % number)
    log.close()
    entries = list(LogReader(box).past(Wanted()))
    assert [entry.time_ns for entry in entries] == sorted({entry.time_ns for entry in entries})
    assert texts(box, Wanted(since_ns=entries[1].time_ns, until_ns=entries[3].time_ns)) == [b"1\n", b"2\n", b"3\n"]
    assert texts(box, Wanted(until_ns=entries[3].time_ns, tail=2)) == [b"2\n", b"3\n"]


def test_half_a_line_and_what_is_none_are_left_out(box: Path) -> None:
    log = log_of(box)
    log.write("stdout", b"whole\n")
    with open(logfile.path(str(box / "log"), log.number), "ab") as file:
        file.write(b"\0\0\0\n{}\n[1]\n" + b'{"log":"half')
    assert texts(box) == [b"whole\n"]
    assert texts(box, Wanted(tail=0)) == []
    log.close()


@pytest.mark.parametrize("tail", [None, 0, 5])
def test_what_follows_has_neither_gap_nor_double_while_files_rotate(box: Path, tail: int | None) -> None:
    log = log_of(box, most_bytes=2_000, most_files=1000)
    for number in range(20):
        log.write("stdout", b"%d\n" % number)
    is_up = threading.Event()
    is_up.set()
    read: list[bytes] = []
    reader = LogReader(box)
    following = threading.Thread(
        target=lambda: read.extend(entry.data for entry in reader.following(Wanted(tail=tail), is_up.is_set))
    )
    following.start()
    while not reader.place.file:  # it has begun
        following.join(0.001)
    for number in range(20, 1_000):
        log.write("stdout", b"%d\n" % number)
    log.close()
    is_up.clear()
    following.join()
    first = int(read[0])
    assert first == {None: 0, 5: 15}.get(tail, first)
    assert first <= 20 + 980
    assert read == [b"%d\n" % number for number in range(first, 1_000)]


@pytest.mark.parametrize("tail", [None, 3])
def test_the_past_ends_however_fast_more_comes(box: Path, tail: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines come while one is read: a reader that goes on to the end of the file never gets there."""
    log = log_of(box, most_bytes=1_000, most_files=1000)
    for number in range(20):
        log.write("stdout", b"%d\n" % number)
    more = iter(range(20, 10_000))

    def meanwhile() -> None:
        for _ in range(2):
            log.write("stdout", b"%d\n" % next(more))

    monkeypatch.setattr("engine.logs.check", meanwhile)
    reader = LogReader(box)
    past = [entry.data for entry in reader.past(Wanted(tail=tail))]
    assert past == [b"%d\n" % number for number in range(20)][-(tail or 20) :]
    monkeypatch.undo()
    assert [entry.data for entry in reader.past(Wanted(tail=None))] == [
        b"%d\n" % number for number in range(20, next(more))
    ]
    log.close()


def test_who_follows_until_a_moment_is_done_when_it_is_over(box: Path) -> None:
    log = log_of(box)
    for number in range(3):
        log.write("stdout", b"%d\n" % number)
    entries = list(LogReader(box).past(Wanted()))
    gone = Wanted(until_ns=entries[1].time_ns)
    assert [entry.data for entry in LogReader(box).following(gone, lambda: True)] == [b"0\n", b"1\n"]
    for wanted in (Wanted(until_ns=asked_moment("0s")), Wanted(until_ns=asked_moment("-200ms"))):
        assert len(list(LogReader(box).following(wanted, lambda: True))) == 3
    log.close()


def test_a_reader_tells_from_where_somebody_else_goes_on(box: Path) -> None:
    log = log_of(box)
    log.write("stdout", b"one\n")
    reader = LogReader(box)
    assert len(list(reader.past(Wanted()))) == 1
    log.write("stdout", b"two\n")
    assert [entry.data for entry in reader.past(Wanted())] == [b"two\n"]
    log.close()


def test_times_as_docker_takes_and_writes_them() -> None:
    assert text_of(0) == "0001-01-01T00:00:00Z"
    assert text_of(1_778_051_289_120_000_000) == "2026-05-06T07:08:09.12Z"
    assert moment_of("2026-05-06T07:08:09.12Z") == 1_778_051_289_120_000_000
    assert moment_of("2026-05-06T09:08:09.12+02:00") == 1_778_051_289_120_000_000
    assert asked_moment("1778051289.12") == 1_778_051_289_120_000_000
    assert asked_moment("1h30m", now_ns=10**13) == 10**13 - 5_400_000_000_000
    assert asked_moment("") == 0
    assert asked_moment("-5m", now_ns=0) == 300_000_000_000
    for wrong in ("yesterday", "10", "2026-13-01", "1h30", "--5m", "-"):
        if wrong != "10":
            with pytest.raises(InvalidRequestError, match="invalid time"):
                asked_moment(wrong)
