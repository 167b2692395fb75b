"""What the hook of a bare repository takes for the service's own answer, and what it says while there is none."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import cast

import pytest

from pipelines.bare import post_receive
from pipelines.bare.post_receive import follow, is_final
from pipelines.forges.events import Push
from pipelines.forges.plain import Plain
from tests.toolkit.scripted import Held, scripted

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n-\n"
END = b"end Run 7: succeeded\n"


class Clock:
    """Time that passes by pauses only. said: what was said, and when, in seconds from the start."""

    START = 1000.0

    def __init__(self) -> None:
        self.now = self.START
        self.said: list[tuple[float, str]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def say(self, text: str) -> None:
        self.said.append((self.now - self.START, text))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(post_receive, "time", clock)
    monkeypatch.setattr(post_receive, "say", clock.say)
    return clock


def following(url: str) -> str:
    """What comes of following run 7 there."""
    return follow({"HOOK_URL": f"{url}/hooks/app", "HOOK_SECRET": "s"}, "delivery", 7)


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def test_absence_is_told_after_three_seconds_and_given_up_after_sixty(clock: Clock) -> None:
    assert following(nobody()) == "Connection refused"
    away = "Shiplap is away (Connection refused): trying again for 60 s. Run 7 goes on."
    assert [(round(at, 6), text) for at, text in clock.said] == [(3.0, away)]
    assert clock.now - clock.START == pytest.approx(60.0)


@pytest.mark.parametrize("absence", [b"", refusal(b"502 Bad Gateway"), STREAM], ids=["hangs up", "proxy", "greets"])
def test_log_goes_on_behind_the_last_line_once_the_service_is_back(clock: Clock, absence: bytes) -> None:
    with scripted(STREAM + b"1 one\n2 two\n", *[absence] * 9, STREAM + b"3 three\n" + END) as there:
        assert following(there.url) == ""
    said = [text for _, text in clock.said]
    assert [text for text in said if not text.startswith("Shiplap ")] == ["one", "two", "three", "Run 7: succeeded"]
    assert clock.said[2][0] == pytest.approx(3.0)
    assert said[2].startswith("Shiplap is away (")
    assert said[-3] == "Shiplap answers again. Run 7 goes on:"
    assert b'"after": 2' in there.asked[-1]


def test_short_breaks_are_told_to_nobody(clock: Clock) -> None:
    with scripted(*(STREAM + b"%d line\n" % number for number in range(1, 40)), STREAM + END) as there:
        assert following(there.url) == ""
    assert [text for _, text in clock.said] == ["line"] * 39 + ["Run 7: succeeded"]


def test_service_that_greets_and_hangs_up_is_given_up(clock: Clock) -> None:
    with scripted(STREAM) as there:
        assert following(there.url) == "it ended the connection"
    assert clock.now - clock.START == pytest.approx(60.0)


def test_refusal_is_no_absence(clock: Clock) -> None:
    with scripted(refusal(b"404 Not Found")) as there:
        assert following(there.url).endswith("answered 404")
        assert len(there.asked) == 1
    assert clock.said == []


@pytest.mark.parametrize("before", [(), (STREAM + b"1 one\n",)], ids=["from the start", "after a line"])
def test_service_that_accepts_and_says_nothing_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(post_receive, "TOLD_AFTER_S", 0.3)
    monkeypatch.setattr(post_receive, "AWAY_S", 1.0)
    monkeypatch.setattr(post_receive, "ANSWER_S", 0.3)
    with scripted(*before, Held()) as there:
        assert following(there.url) == "timed out"
    assert capsys.readouterr().out.count("Shiplap is away (timed out): trying again") == 1


def test_stream_that_falls_silent_is_away(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(post_receive, "SILENCE_S", 0.2)
    monkeypatch.setattr(post_receive, "AWAY_S", 4.0)
    with scripted(Held(STREAM + b"1 one\n"), b"") as there:
        following(there.url)
    assert "one\nShiplap is away (it has been silent for 0 s): trying again" in capsys.readouterr().out


@pytest.mark.parametrize("status", [400, 401, 403, 411, 413])
def test_refusal_by_the_service_is_final(status: int) -> None:
    assert is_final(status, '{"error": {"code": "denied"}}')
    assert not is_final(status, "<html>a proxy's page</html>")
    assert not is_final(status, '["error"]')
    assert not is_final(status, '{"outcome": "built"}')


@pytest.mark.parametrize("status", [404, 408, 412, 429, 500, 502, 503])
def test_what_may_pass_is_told_again(status: int) -> None:
    assert not is_final(status, '{"error": {"code": "unavailable"}}')


def test_only_a_page_of_the_service_s_own_takes_a_push() -> None:
    assert is_final(202, '{"outcome": "built"}')
    assert not is_final(200, "{}")
    assert not is_final(200, "welcome")


@pytest.mark.parametrize(
    ("head", "branch"),
    [
        ("ref: refs/heads/main\n", "main"),
        ("ref: refs/heads/a/b\n", "a/b"),
        ("ref: refs/heads/.invalid\n", ""),  # as git writes it where refs are in a table
        ("1" * 40 + "\n", ""),
        ("ref: refs/heads/" + "x" * 300 + "\n", ""),
        (None, ""),
    ],
)
def test_default_branch_is_what_the_repository_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str | None, branch: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if head is not None:
        (tmp_path / "HEAD").write_text(head)
    settings = {"REPOSITORY": "file:///r", "HOOK_URL": "http://localhost/hooks/a", "HOOK_SECRET": "s"}
    told = post_receive.delivery(settings, "0" * 40, "0" * 40, "refs/heads/x")
    headers = {str(name).lower(): str(value) for name, value in cast("dict[str, str]", told["headers"]).items()}
    body = str(told["body"]).replace(f'"after": "{"0" * 40}"', f'"after": "{"1" * 40}"')
    (push,) = Plain().parse(headers, body.encode()).events
    assert isinstance(push, Push)
    assert (push.branch, push.default_branch) == ("x", branch)
