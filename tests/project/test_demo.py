"""``make demo``, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.toolkit.bounds import Deadline

_CHECKOUT = Path(__file__).resolve().parents[2]


def _processes_that_name(directory: str) -> list[str]:
    """The commands of the processes whose command, environment or mounts name a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = [(process / name).read_text(errors="replace") for name in ("cmdline", "environ", "mountinfo")]
        except OSError:  # it has ended
            continue
        if any(directory in text for text in told):
            found.append(told[0].replace("\0", " "))
    return found


def test_demo_runs_to_its_end_and_leaves_nothing_behind(privileged: None, debian_tar: Path) -> None:
    before = set(Path("/var/tmp").glob("shiplap-demo-*"))
    result = subprocess.run(
        [_CHECKOUT / "scripts" / "demo"],
        env={**os.environ, "VENV": os.path.relpath(Path(sys.prefix), _CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "hello, reader" in result.stdout
    assert "ahoy, reader" in result.stdout
    assert "hello, from the registry" in result.stdout
    assert "10 jobs: 10 succeeded, " in result.stderr
    assert "keep | 2 lines, 5 words, 36 bytes" in result.stderr  # what the Redis beside the job gave back
    assert "10 jobs: 8 succeeded, 2 reused, " in result.stderr
    assert "keep | 3 lines, 9 words, 54 bytes" in result.stderr
    assert len(re.findall(r"^test \(.*\) +succeeded .* tests/words.txt changed$", result.stderr, re.MULTILINE)) == 4
    assert "is tested; its program has" in result.stdout
    assert set(Path("/var/tmp").glob("shiplap-demo-*")) <= before
    found = re.search(r"/var/tmp/shiplap-demo-\w+", result.stdout)
    assert found
    deadline = Deadline(30)  # a nursery looks every ten seconds whether its root is still there
    while (left := _processes_that_name(found[0])) and deadline:
        time.sleep(0.5)
    assert left == []
