"""Process 1 of an engine's host: runs the commands that the bench asks for, one at a time, and times them.

It reads a JSON line {"args", "env", "timeout_s"}, and answers one: {"code", "output", "seconds"}. Times are taken here,
so that nobody pays for coming in. What its commands leave running is its child when they end; it ends with its input,
and all that is left in its namespaces with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

_KEPT_BYTES = 1 << 20


def main() -> None:
    """Serve until the input ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        answer = _run(json.loads(line))
        _reap()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            asked["args"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=asked["env"],
            timeout=asked["timeout_s"],
        )
    except subprocess.TimeoutExpired as error:
        return {"code": -1, "output": f"no end after {error.timeout:g} s", "seconds": error.timeout}
    except OSError as error:
        return {"code": -1, "output": str(error), "seconds": 0.0}
    seconds = time.perf_counter() - begin
    return {
        "code": done.returncode,
        "output": done.stdout[-_KEPT_BYTES:].decode(errors="replace").strip(),
        "seconds": seconds,
    }


def _reap() -> None:
    """What ended, and was a grandchild's."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
