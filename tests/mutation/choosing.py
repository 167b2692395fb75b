"""Which test files a mutant is shown to: those that run its line, by coverage; and while that is unknown, its room's.

``python -m tests.mutation.choosing [TEST FILE]...`` notes what test files run (all of them, if none is named), in
.mutation/reach.jsonl, a line for each: whoever is interrupted goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
REACH = ROOT / ".mutation" / "reach.jsonl"


def test_files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py"))


def choose(mutant: Mutant, reach: dict[str, dict[str, Any]]) -> list[str]:
    """Test files, the quickest first; of those that nobody has looked at yet the ones that import the module."""
    known = [
        (entry["seconds"], file) for file, entry in reach.items() if mutant.line in entry["ran"].get(mutant.path, ())
    ]
    module = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    others = [
        file
        for file in test_files()
        if file not in reach and _imports((ROOT / file).read_text(encoding="utf-8"), module)
    ]
    return [file for _, file in sorted(known)] + others


def room_of(mutant: Mutant) -> str:
    """The directory of the tests of a mutant's room."""
    return f"tests/{mutant.path.partition('/')[0]}"


def read_reach() -> dict[str, dict[str, Any]]:
    """What each test file that was looked at ran: ``seconds`` it took, ``ran`` by path the numbers of lines."""
    if not REACH.exists():
        return {}
    entries = [json.loads(line) for line in REACH.read_text().splitlines()]
    return {entry.pop("file"): entry for entry in entries}


def _imports(text: str, module: str) -> bool:
    parent, _, name = module.rpartition(".")
    return f"from {module} import" in text or f"import {module}\n" in text or f"from {parent} import {name}\n" in text


def _note(files: Iterable[str]) -> None:
    REACH.parent.mkdir(exist_ok=True)
    for file in files:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            ran = _ran(file, Path(folder))
        entry = {"file": file, "seconds": round(time.monotonic() - began, 1), "ran": ran}
        with REACH.open("a") as reach:
            reach.write(json.dumps(entry) + "\n")
        print(f"{entry['seconds']:7.1f} s  {len(ran):4} files  {file}", flush=True)


def _ran(file: str, folder: Path) -> dict[str, list[int]]:
    import coverage

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(folder / "data")}
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-q", file]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    measured = coverage.Coverage(data_file=str(folder / "data"), config_file=str(ROOT / "pyproject.toml"))
    measured.combine()
    data = measured.get_data()
    return {
        str(Path(path).relative_to(ROOT)): sorted(data.lines(path) or ())
        for path in data.measured_files()
        if Path(path).is_relative_to(ROOT)
    }


if __name__ == "__main__":
    _note(sys.argv[1:] or [file for file in test_files() if file not in read_reach()])
