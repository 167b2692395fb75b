"""A program of ours as a forked child: what it gets, what it does not, and when it is started anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched

# Says what it is, and then ends as its first argument asks.
PROGRAM = """
import json, os, signal, sys, time
import further
MADE_BY = os.getpid()
def main():
    print(json.dumps({
        "arguments": sys.argv[1:], "is_forked": os.getpid() != MADE_BY, "variable": os.environ.get("VARIABLE"),
        "leads_session": os.getsid(0) == os.getpid(), "stdin": sys.stdin.read(),
        "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "mask": sorted(signal.pthread_sigmask(0, [])),
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "shown": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0")[1:],
    }), flush=True)
    if sys.argv[1] == "stay":
        time.sleep(600)
    if sys.argv[1] == "fail":
        raise SystemExit(7)
    return 3
if __name__ == "__main__":
    sys.exit(main())
"""
# What starts it: with a handler, a descriptor and a variable of its own.
STARTER = """
import json, os, signal, subprocess, sys, threading
from core.programs import Programs
signal.signal(signal.SIGTERM, lambda *_: print("the starter's handler ran"))
programs = Programs(["program"])
bound_s = {bound_s}
held = os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(held, True)
{body}
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "further.py").write_text("")
    return tmp_path


def run(modules: Path, body: str) -> list[str]:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            STARTER.format(body=body, bound_s=stretched(60)),
            "filler of its command line, which is to be longer",
        ],
        env={**os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{Path(__file__).resolve().parents[2]}"},
        capture_output=True,
        text=True,
        timeout=stretched(60),
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_forked_program_gets_what_a_started_one_gets_and_nothing_else(modules: Path) -> None:
    body = """
process = programs.start("program", ["end", "a b"], {"VARIABLE": "value"})
print(process.wait(bound_s), process.poll(), process.wait())
"""
    told, codes = run(modules, body)
    assert codes == "3 3 3"
    assert told == (
        '{"arguments": ["end", "a b"], "is_forked": true, "variable": "value", "leads_session": true, "stdin": "", '
        '"fds": [0, 1, 2], "mask": [], "term": true, "shown": ["-P", "-m", "program", "end", "a b"]}'
    )


def test_a_wait_is_bounded_and_signals_reach_it(modules: Path) -> None:
    body = """
process = programs.start("program", ["stay"], {})
try:
    process.wait(0.2)
except subprocess.TimeoutExpired:
    print("stays", process.poll())
process.terminate()
print(process.wait(bound_s))
process.terminate(), process.kill()
print(programs.start("program", ["fail"], {}).wait(bound_s))
"""
    told = [line for line in run(modules, body) if not line.startswith("{")]
    assert told == ["stays None", "-15", "7"]


def test_it_is_started_though_nobody_reads_what_its_starter_prints(modules: Path) -> None:
    body = """
from core.programs import Forked
heard = os.dup(1)
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
sys.stdout.reconfigure(write_through=False)
print("to nobody")
os.write(heard, b"%d" % Forked(lambda: os._exit(3), 0).wait(bound_s))
os._exit(0)
"""
    assert run(modules, body) == ["3"]


def test_it_ends_with_its_starter(modules: Path) -> None:
    reading, writing = os.pipe()
    try:
        body = f"""
programs.start("program", ["stay"], {{}})
if not os.fork():
    os.execvp("sh", ["sh", "-c", "sleep 0.3; kill -9 $0", str(os.getppid())])
import time; time.sleep({stretched(60)})
"""
        ended = subprocess.run(
            [sys.executable, "-c", STARTER.format(body=body, bound_s=stretched(60))],
            env={**os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{Path(__file__).resolve().parents[2]}"},
            stdout=writing,
            timeout=stretched(60),
            check=False,
        )
        assert ended.returncode == -9
        os.close(writing)
        writing = -1
        with os.fdopen(reading, "rb", closefd=False) as pipe:
            pipe.read()  # its end comes when the last process has gone that holds it
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


@pytest.mark.parametrize(
    ("why", "is_forked"),
    [
        ("pass", True),
        ("os.utime(path, (1, 1))", False),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", False),
    ],
)
def test_it_is_started_anew_when_code_changed_or_a_thread_runs(modules: Path, why: str, is_forked: bool) -> None:
    changed = modules / "core_like.py"
    changed.write_text("")
    body = f"""
import core.zygote
path = {str(changed)!r}
programs._stamp = core.zygote.Stamp([path])
{why}
print(programs.start("program", ["end"], {{}}).wait(bound_s), flush=True)
os._exit(0)
"""
    told = run(modules, body)
    assert f'"is_forked": {str(is_forked).lower()}' in told[0]
    assert told[1] == "3"
