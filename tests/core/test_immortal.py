"""Objects whose references are counted no more. In a process of its own: it does not go back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core import immortal

_PROGRAM = """
import gc, json, sys
sys.path.insert(0, sys.argv[1])
from core import immortal

blocks = sys.getallocatedblocks()
count = immortal.make()
assert sys.getallocatedblocks() - blocks < 5000, "what it needed for its own work is gone"
gc.collect()
gc.freeze()
before = [sys.getrefcount(each) for each in (json.loads, json.loads.__code__, json.__dict__)]
held = [json.loads, json.loads.__code__, json.__dict__] * 1000
after = [sys.getrefcount(each) for each in (json.loads, json.loads.__code__, json.__dict__)]
json.added = object()  # what lives for ever may change all the same
del held, json.added
gc.collect()
print(count > 1000, [now - then for now, then in zip(after, before)], json.loads("[1]"))
"""


def test_references_are_counted_no_more_where_the_interpreter_has_that() -> None:
    checkout = str(Path(immortal.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", _PROGRAM, checkout], capture_output=True, text=True, check=True)
    expected = "True [0, 0, 0] [1]" if immortal.can_make() else "False [1000, 1000, 1000] [1]"
    assert (done.stdout.strip(), done.stderr) == (expected, "")
