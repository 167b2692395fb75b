"""The API is killed again and again under docker's clients: what is theirs goes on, and who asks again is told."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.toolkit.bounds import Deadline, eventually, stretched
from tests.toolkit.engineapi import Api, Terminal
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

KILLS = int(os.environ.get("SHIPLAP_KILLS", "3"))
MANY = int(os.environ.get("SHIPLAP_STREAM_MB", "24")) << 20

_ECHO = "while read line; do [ $line = end ] && exit 9; echo $line; done"
_FILE = f"""
name: killed
services:
  one: {{image: {BUSYBOX_NAME}, command: sleep 1000, stop_signal: SIGKILL}}
  two: {{image: {BUSYBOX_NAME}, command: sleep 1000, stop_signal: SIGKILL, depends_on: [one]}}
"""


def test_what_clients_have_goes_on_however_often_the_api_is_killed(api: Api, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(_FILE)

    def compose(*words: str) -> subprocess.Popen[bytes]:
        return api.begin(
            ["compose", "--progress", "quiet", "-f", str(tmp_path / "compose.yaml"), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )

    def composed(*words: str) -> bytes:
        with compose(*words) as ran:
            out, err = ran.communicate(timeout=stretched(120))
        assert ran.returncode == 0, err
        return out

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = api.begin(["run", "-i", "--rm", "--name", "echoes", BUSYBOX_NAME, "sh", "-c", _ECHO], **pipes)
    assert running.stdin is not None
    assert running.stdout is not None
    eventually(lambda: api.docker("inspect", "-f", "{{.State.Status}}", "echoes").stdout == "running\n")
    terminal = Terminal(api, "exec", "-it", "echoes", "sh")
    terminal.until(b"#")
    followed = api.begin(["logs", "-f", "echoes"], stdout=subprocess.PIPE)
    assert followed.stdout is not None
    dice = random.Random(7)
    for number in range(KILLS):
        watched = api.begin(
            ["stats", "--format", "{{.Name}}", "echoes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        up = compose(*("up", "-d") if number % 2 == 0 else ("down", "-t", "0"))
        time.sleep(dice.random())
        api.kill()
        line = b"line-%d\n" % number
        running.stdin.write(line)
        running.stdin.flush()
        assert running.stdout.readline() == followed.stdout.readline() == line
        terminal.type(b"echo still-$((%d+1))\r" % number)
        terminal.until(b"still-%d" % (number + 1))
        watched.kill()  # docker's client asks a stream that has gone for ever, of dockerd, too
        for client in (watched, up):
            client.communicate(timeout=stretched(60))
        api.start()
        assert api.docker("stats", "--no-stream", "--format", "{{.Name}}", "echoes").stdout == "echoes\n"
    composed("up", "-d")
    found = [json.loads(each) for each in composed("ps", "-a", "--format", "json").splitlines()]
    assert sorted((each["Name"], each["State"]) for each in found) == [
        ("killed-one-1", "running"),
        ("killed-two-1", "running"),
    ]
    composed("down", "-t", "0")
    terminal.type(b"exit 5\r")
    assert terminal.code() == 5
    api.kill()
    running.stdin.write(b"end\n")
    running.stdin.close()
    with running, followed:
        assert running.stdout.read() == followed.stdout.read() == b""
    assert (running.returncode, followed.returncode) == (9, 0)
    api.start()
    eventually(lambda: api.docker("ps", "-aq").stdout == "")


def test_a_stream_both_ways_is_whole_although_the_api_was_killed_amidst(api: Api) -> None:
    sent = os.urandom(1 << 20) * (MANY >> 20)
    piped = api.begin(
        ["run", "-i", "--rm", BUSYBOX_NAME, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert piped.stdin is not None
    assert piped.stdout is not None

    def write() -> None:
        assert piped.stdin is not None
        with piped.stdin as pipe:
            rest = memoryview(sent)
            while rest:
                rest = rest[pipe.write(rest[: 1 << 20]) :]

    writer = threading.Thread(target=write)
    writer.start()
    digest, size = hashlib.sha256(), 0
    deadline = Deadline(60, "the stream comes to its end")
    while data := piped.stdout.read(1 << 20):
        deadline.check()
        digest.update(data)
        if size < MANY // 3 <= size + len(data):
            api.kill()
        size += len(data)
    writer.join(stretched(60))
    piped.stdout.close()
    assert piped.wait(stretched(60)) == 0
    assert (size, digest.digest()) == (len(sent), hashlib.sha256(sent).digest())
    api.start()
