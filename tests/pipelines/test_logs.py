"""Logs: numbered without a gap, followed without a seam between live and stored, masked before anybody sees them."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from core.events import BuildPlanned, Event, StepFinished, StepInfo, StepOutput, StepProgress, StepStarted, Warned
from core.masking import MASK, Masker
from pipelines.errors import QueueUnreachableError
from pipelines.logs.lines import LineMaker, decode_line, encode_line, to_event
from pipelines.logs.live import LiveLogs
from pipelines.logs.store import Line, line_near
from pipelines.model import Claim, ContextSource, RunRequest, RunResult
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import eventually, numbers

SOURCE = ContextSource("sha256:" + "0" * 64)
STEPS = (StepInfo(0, "[1/2] FROM base", "stage-0", 1), StepInfo(1, "[2/2] RUN make", "stage-0", 2))


def claimed(service: Service) -> Claim:
    service.runs.submit(RunRequest(SOURCE))
    claim = service.claims.take("w", ())
    assert claim is not None
    return claim


def writer_of(service: Service, claim: Claim, *secrets: bytes, lost: threading.Event | None = None) -> LogWriter:
    told = lost or threading.Event()
    return LogWriter(claim, service.database, service.live, Masker(secrets), lost=told.set)


def finish(service: Service, claim: Claim, writer: LogWriter) -> None:
    writer.close()
    writer.add_last("succeeded")
    service.claims.finish(claim, "succeeded", "", RunResult(), store=writer.store)
    writer.end()


def followed(service: Service, number: int, after: int = 0) -> Iterator[Line]:
    for batch in service.logs.follow(number, after):
        yield from batch


def texts(lines: list[Line], kind: str = "output") -> list[str]:
    return [line.text for line in (decode_line(data) for _, data in lines) if line.kind == kind]


def test_log_tells_the_build_as_it_was(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    events: list[Event] = [
        BuildPlanned(STEPS),
        StepStarted(1, 5.0),
        StepOutput(1, 1, b"one\ntwo\n", 6.0),
        StepOutput(1, 2, b"err\n", 6.5),
        Warned("careful", 3, "Rule"),
        StepFinished(1, "done", 2.5, 7.5, "not built before"),
    ]
    for event in events:
        writer.emit(event)
    finish(service, claim, writer)
    lines = list(followed(service, claim.number))
    assert numbers(lines) == list(range(1, 9))
    told = [to_event(decode_line(data)) for _, data in lines]
    assert told[0] == events[0]
    assert told[2] == StepOutput(1, 1, b"one\n", 6.0)
    assert told[3] == StepOutput(1, 1, b"two\n", 6.0)
    assert told[4:7] == events[3:]
    assert told[7] is None
    step = service.runs.steps(claim.run.number)[1]
    assert (step.state, step.duration_s, step.reason) == ("done", 2.5, "not built before")
    assert (step.first_line, step.last_line) == (2, 7)


def test_followers_that_join_at_any_time_get_every_line_once(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    seen: list[list[Line]] = [[] for _ in range(4)]

    def follow(index: int) -> None:
        seen[index].extend(followed(service, claim.number))

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(4)]
    for index in range(4):
        threads[index].start()
        for part in range(25):
            data = b"".join(b"%d %s\n" % (index * 2500 + part * 100 + n, b"x" * 300) for n in range(100))
            writer.emit(StepOutput(1, 1, data, 1.0))
            time.sleep(0.005)
    finish(service, claim, writer)
    for thread in threads:
        thread.join()
    for lines in seen:
        assert numbers(lines) == list(range(1, 10_002))
        assert [int(text.split()[0]) for text in texts(lines)] == list(range(10_000))


def test_whoever_waits_for_several_logs_is_woken_by_the_first_line(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    asked = {(claim.number, claim.attempt): 0, (claim.number + 1, 1): 0}
    assert not service.logs.wait(asked, 0.05)
    assert not service.logs.wait({}, 0.05)
    begun: list[float] = []

    def say() -> None:
        time.sleep(0.2)
        begun.append(time.monotonic())
        writer.status("here")

    teller = threading.Thread(target=say)
    teller.start()
    eventually(lambda: service.logs.wait(asked, 1.0), timeout_s=20)
    teller.join()
    assert begun
    assert not service.logs.wait({(claim.number, claim.attempt): 1}, 0.05)
    writer.emit(StepOutput(1, 1, b"a prompt, without its end", 6.0))
    eventually(lambda: bool(service.live.read(claim.number, claim.attempt, 1, wait_s=0.1)), timeout_s=20)
    assert not service.logs.wait({(claim.number, claim.attempt): 1}, 0.05)
    finish(service, claim, writer)


def test_follower_resumes_exactly_after_any_line(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    for number in range(2500):
        writer.emit(StepOutput(1, 1, b"line %d\n" % number, 1.0))
    for after in (0, 1, 999, 1000, 1001, 2400):
        first = next(followed(service, claim.number, after))
        assert first[0] == after + 1
    finish(service, claim, writer)
    for after in (0, 1, 999, 1000, 2499, 2501):
        assert numbers(list(followed(service, claim.number, after))) == list(range(after + 1, 2502))
    assert numbers(service.logs.read(claim.number, 1200, 5)) == [1200, 1201, 1202, 1203, 1204]
    assert service.logs.read(claim.number, 9999) == []


def test_follower_sees_a_line_while_the_step_still_runs(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    writer.emit(StepOutput(1, 1, b"early\n", 1.0))
    assert texts([next(followed(service, claim.number))]) == ["early"]
    assert texts(service.logs.read(claim.number)) == ["early"]
    finish(service, claim, writer)


def test_of_several_lines_that_grow_each_is_shown_in_its_turn() -> None:
    maker = LineMaker(1, Masker(), lambda: 0.0)
    last = []
    for round_ in range(6):
        for step in range(3):
            maker.lines(StepOutput(step, 1, b"\r%d" % round_, 0.0))
        shown = maker.partials()
        assert sorted(line.step for line in shown) == [0, 1, 2]
        last.append(shown[-1].step)
    assert sorted(last[:3]) == sorted(last[3:]) == [0, 1, 2]


def test_transfer_is_one_line_whose_bytes_are_shown_as_they_move() -> None:
    maker = LineMaker(1, Masker([b"hunter2-hunter2"]), lambda: 0.0)
    told = [
        line for at in range(0, 100, 10) for line in maker.lines(StepProgress(0, "layers of hunter2-hunter2", at, 90))
    ]
    assert [(line.n, line.text, line.current_bytes, line.total_bytes) for line in told] == [(1, "layers of ***", 0, 90)]
    (shown,) = maker.partials()
    assert (shown.n, shown.kind, shown.text, shown.current_bytes) == (0, "progress", "layers of ***", 90)
    assert maker.partials() == []
    maker.lines(StepProgress(0, "layers of hunter2-hunter2", 90, 90))
    maker.lines(StepFinished(0, "done", 1.0, 0.0))
    assert maker.partials() == []


def test_line_without_an_end_is_shown_while_it_grows(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim, b"hunter22")
    shown: list[str] = []
    lines: list[Line] = []

    def follow() -> None:
        for batch in service.logs.follow(
            claim.number, partial=lambda data: shown.append(f"{decode_line(data).step}: {decode_line(data).text}")
        ):
            lines.extend(batch)

    thread = threading.Thread(target=follow)
    thread.start()
    writer.emit(StepOutput(1, 1, b"early\nPassword: ", 1.0))
    eventually(lambda: shown[-1:] == ["1: Password: "])
    writer.emit(StepOutput(1, 1, b"hunt", 1.0))  # may become a secret
    writer.emit(StepOutput(2, 1, b"10 %\r20 %\r", 1.0))
    eventually(lambda: shown[-1:] == ["2: 20 %"])
    writer.emit(StepOutput(1, 1, b"er22 is", 1.0))
    eventually(lambda: shown[-1:] == ["1: Password: *** is"])
    finish(service, claim, writer)
    thread.join()
    assert texts(lines) == ["early", "Password: *** is", "10 %\r20 %\r"]
    assert shown.count("1: Password: ") == 1


def test_lines_reach_followers_through_the_database_when_redis_forgets(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    lines: list[Line] = []
    thread = threading.Thread(target=lambda: lines.extend(followed(service, claim.number)))
    thread.start()
    for part in range(10):
        writer.emit(StepOutput(1, 1, b"%d\n" % part, 1.0))
        eventually(lambda part=part: len(lines) > part)  # type: ignore[misc]  # a default binds it
        service.live._redis.flushall()
    finish(service, claim, writer)
    thread.join()
    assert texts(lines) == [str(part) for part in range(10)]
    assert numbers(lines) == list(range(1, 12))


def test_log_is_whole_without_redis(service: Service) -> None:
    import redis

    nowhere = LiveLogs(redis.Redis(unix_socket_path="/nonexistent/redis.sock"))
    claim = claimed(service)
    writer = LogWriter(claim, service.database, nowhere, Masker(), lost=lambda: None)
    writer.emit(StepOutput(1, 1, b"one\ntwo\n", 1.0))
    eventually(lambda: len(service.logs.read(claim.number)) == 2, why="lines are stored")
    finish(service, claim, writer)
    assert texts(list(followed(service, claim.number))) == ["one", "two"]


def test_log_is_whole_when_the_memory_of_redis_is_full(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    service.live._redis.config_set("maxmemory", 1)
    try:
        writer.emit(StepOutput(1, 1, b"one\ntwo\n", 1.0))
        finish(service, claim, writer)
        with pytest.raises(QueueUnreachableError, match="maxmemory"):
            service.queue.send(claim.number)
    finally:
        service.live._redis.config_set("maxmemory", 0)
    assert texts(list(followed(service, claim.number))) == ["one", "two"]


def test_second_attempt_goes_on_where_the_first_was_lost(service: Service) -> None:
    claim = claimed(service)
    lines: list[Line] = []
    thread = threading.Thread(target=lambda: lines.extend(followed(service, claim.number)))
    thread.start()
    lost = threading.Event()
    first = writer_of(service, claim, lost=lost)
    for number in range(50):
        first.emit(StepOutput(1, 1, b"first %d\n" % number, 1.0))
    eventually(lambda: len(lines) >= 20)
    service.claims.release(claim.number, claim.attempt, "its worker died")
    first.emit(StepOutput(1, 1, b"from beyond\n", 1.0))
    assert lost.wait(stretched(10))
    first.close()
    again = service.claims.take("other", ())
    assert again is not None
    second = writer_of(service, again)
    second.emit(StepOutput(1, 1, b"second\n", 1.0))
    finish(service, again, second)
    thread.join()
    assert numbers(lines) == list(range(1, len(lines) + 1))
    assert [text for text in texts(lines) if not text.startswith("first")] == ["second"]
    assert lines == service.logs.read(claim.number, 1, 1000)


def test_search_finds_lines_by_text_whatever_the_case(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    for number in range(3000):
        writer.emit(StepOutput(1, 1, b"ERROR here\n" if number % 1000 == 7 else b"fine\n", 1.0))
    finish(service, claim, writer)
    assert numbers(service.logs.search(claim.number, "error")) == [8, 1008, 2008]
    assert numbers(service.logs.search(claim.number, "error", limit=1)) == [8]
    assert numbers(service.logs.search(claim.number, "error", first=9, limit=1)) == [1008]
    assert service.logs.search(claim.number, '"kind"') == []


def test_fifty_thousand_lines_are_stored_in_bounded_chunks(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    for _ in range(500):
        writer.emit(StepOutput(1, 1, b"a line of the usual length, more or less, of a compiler\n" * 100, 1.0))
    finish(service, claim, writer)
    run = service.runs.get(claim.run.number)
    assert run.lines == 50_001
    assert run.log_bytes == 50_000 * 56 + len("succeeded\n")
    assert numbers(service.logs.read(claim.number, 49_990, 100)) == list(range(49_990, 50_002))


def test_long_lines_come_a_few_at_a_time(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    for _ in range(20):
        writer.emit(StepOutput(1, 1, (b"x" * 60_000 + b"\n") * 10, 1.0))
    finish(service, claim, writer)
    first = service.logs.read(claim.number, 1, 1000)
    assert 100 < len(first) < 150
    assert first + service.logs.read(claim.number, len(first) + 1, 1000) == list(followed(service, claim.number))


def test_any_bytes_of_the_log_can_be_had(service: Service) -> None:
    claim = claimed(service)
    writer = writer_of(service, claim)
    writer.emit(StepOutput(1, 1, "".join(f"{'ä€x'[n % 3] * (n % 70)} {n}\n" for n in range(5000)).encode(), 1.0))
    finish(service, claim, writer)
    whole = b"".join(service.logs.text(claim.number))
    assert len(whole) == service.runs.get(claim.run.number).log_bytes
    randomness = random.Random(3)
    for _ in range(20):
        offset, limit = randomness.randrange(len(whole) + 10), randomness.randrange(1, 200_000)
        assert b"".join(service.logs.text(claim.number, offset, limit)) == whole[offset : offset + limit]
    with service.database.read() as connection:
        for offset in range(0, len(whole), 50_000):
            line, begins = line_near(connection, claim.number, offset)
            assert whole[:begins].count(b"\n") == line - 1
            assert 0 <= offset - begins < 300_000


SECRET = 'pa55/word+with=stuff&"quotes"'
MULTILINE = "-----BEGIN KEY-----\n" + "\n".join(f"MIIEow{n:06}IBAAKCAQEA" for n in range(9)) + "\n-----END KEY-----\n"


def forms(secret: str) -> list[str]:
    """What tools print of a secret."""
    encoded = [base64.b64encode(b"x" * lead + secret.encode() + b"tail").decode() for lead in range(3)]
    wrapped = base64.encodebytes(secret.encode()).decode()
    return [
        secret, *encoded, wrapped, quote(secret, safe=""), json.dumps({"k": secret}), secret.encode().hex(),
        base64.urlsafe_b64encode(secret.encode()).decode(),
    ]  # fmt: skip


def is_masked(text: str, secret: str) -> bool:
    """No line of the secret, and no decodable part of it, is left."""
    parts = [part for part in secret.split("\n") if len(part) >= 8]
    return MASK in text and not any(part in text for part in parts)


@pytest.mark.parametrize("secret", [SECRET, MULTILINE])
def test_secrets_are_masked_in_every_form_and_however_the_output_is_cut(secret: str) -> None:
    randomness = random.Random(7)
    for form in forms(secret):
        data = f"before\nthe key is {form} and that is all\nafter\n".encode()
        for _ in range(20):
            maker = LineMaker(1, Masker([secret.encode()]), lambda: 1.0)
            cuts = sorted(randomness.sample(range(1, len(data)), 3))
            pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            lines = [line.text for piece in pieces for line in maker.lines(StepOutput(0, 1, piece, 1.0))]
            assert is_masked("\n".join(lines), secret), (form, lines)
            assert lines[0] == "before"
            assert lines[-1] == "after"


def test_secret_across_the_cut_of_an_endless_line_is_masked() -> None:
    secret = b"correct-horse-battery-staple"
    for shift in range(0, 60, 7):
        maker = LineMaker(1, Masker([secret]), lambda: 1.0)
        data = b"x" * (64 * 1024 - shift) + secret + b"y" * 70_000
        lines = []
        for start in range(0, len(data), 1000):
            lines += [line.text for line in maker.lines(StepOutput(0, 1, data[start : start + 1000], 1.0))]
        lines += [line.text for line in maker.close()]
        assert "".join(lines) == "x" * (64 * 1024 - shift) + MASK + "y" * 70_000
        assert max(map(len, lines)) <= 64 * 1024


def test_names_warnings_and_reasons_are_masked_too() -> None:
    maker = LineMaker(1, Masker([b"hunter22"]), lambda: 1.0)
    events: list[Event] = [
        BuildPlanned((StepInfo(0, "RUN echo hunter22"),)),
        Warned("hunter22 is old"),
        StepProgress(0, "fetching hunter22", 0, 0),
        StepFinished(0, "failed", 1.0, 1.0, "echo hunter22 failed"),
    ]
    for event in events:
        for line in maker.lines(event):
            assert b"hunter22" not in encode_line(line)


def test_steps_keep_their_names_when_the_build_announces_more() -> None:
    maker = LineMaker(1, Masker(), lambda: 1.0)
    for plan in (StepInfo(0, "RUN make"), StepInfo(1, "export the cache")):
        maker.lines(BuildPlanned((plan,)))
    told = [line.text for step in (0, 1) for line in maker.lines(StepFinished(step, "done", 1.0, 1.0))]
    assert told == ["RUN make: done", "export the cache: done"]


def test_characters_cut_in_two_and_bytes_that_are_none_are_read() -> None:
    maker = LineMaker(1, Masker(), lambda: 1.0)
    data = "päck €\r\n".encode() + b"\xff\n" + b"no end"
    lines = [line for byte in data for line in maker.lines(StepOutput(0, 1, bytes([byte]), 1.0))]
    lines += maker.lines(StepFinished(0, "done", 1.0, 1.0))
    assert [line.text for line in lines][:3] == ["päck €", "�", "no end"]


def test_writer_without_database_holds_the_build_back_and_loses_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.errors import DatabaseUnreachableError

    claim = claimed(service)
    writer = writer_of(service, claim)
    write = service.database.write
    away = threading.Event()
    away.set()

    @contextlib.contextmanager
    def failing() -> Iterator[object]:
        if away.is_set():
            raise DatabaseUnreachableError("away")
        with write() as connection:
            yield connection

    monkeypatch.setattr(service.database, "write", failing)
    for _ in range(100):
        writer.emit(StepOutput(1, 1, b"line\n" * 50, 1.0))
    away.clear()
    finish(service, claim, writer)
    assert len(texts(list(followed(service, claim.number)))) == 5000
