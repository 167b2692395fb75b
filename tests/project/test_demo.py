"""``make demo``, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


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
    assert "9 jobs: 9 succeeded, " in result.stderr
    assert "keep | 2 lines, 5 words, 36 bytes" in result.stderr  # what the Redis beside the job gave back
    assert "9 jobs: 7 succeeded, 2 reused, " in result.stderr
    assert "keep | 3 lines, 9 words, 54 bytes" in result.stderr
    assert len(re.findall(r"^test \(.*\) +succeeded .* tests/words.txt changed$", result.stderr, re.MULTILINE)) == 4
    assert "is tested; its program has" in result.stdout
    assert set(Path("/var/tmp").glob("shiplap-demo-*")) <= before
