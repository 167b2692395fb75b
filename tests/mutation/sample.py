"""Show a random sample of mutants to the tests, and say which ones no test notices.

    python -m tests.mutation.sample [--count 80] [--seed 1] [--least 90] [--near]

Works in a copy of the checkout. .mutation/sample-SEED.jsonl has a line for each mutant that is done: whoever is
interrupted goes on where it was. A mutant is shown to the tests of ``choosing`` first, and when it lives to all of its
room's. Exit status 1 when fewer than LEAST percent were noticed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.choosing import ROOT, choose, read_reach, room_of
from tests.mutation.mutants import Mutant, mutants_of
from tests.toolkit.bounds import slowness, stretched

_LONGEST_TEST_S, _LONGEST_S = 60.0, 1800.0
_FIRST = 10
"""Test files of the first round: what notices a mutant is mostly the nearest."""


class Workshop:
    """A copy of the checkout, in which one file at a time is damaged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.splitlines()):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def try_one(self, mutant: Mutant, places: Sequence[str]) -> str:
        """``noticed by TEST``, ``hangs``, ``lives``; or ``unclear``: the test fails without the mutant, too."""
        path = self._folder / mutant.path
        whole = path.read_bytes()
        path.write_bytes(mutant.applied(whole))
        try:
            code, said = self._pytest(*places)
        finally:
            path.write_bytes(whole)
        if code in (0, 5):
            return "lives"
        if code is None:
            return "hangs"
        if code < 0:
            return f"unclear: somebody ended the tests by signal {-code}"
        named = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - |$)", said, re.MULTILINE)
        if named is None:
            return f"noticed: nothing can be imported ({code})"
        return f"noticed by {named[1]}" if self._pytest(named[1])[0] == 0 else f"unclear: {named[1]}"

    def _pytest(self, *places: str) -> tuple[int | None, str]:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += [f"--timeout={_LONGEST_TEST_S * min(slowness(), 3):.0f}", *places]
        environment = {**os.environ, "PYTHONPATH": str(self._folder)}
        with (
            tempfile.TemporaryFile("w+") as output,
            subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=output, stderr=output, start_new_session=True
            ) as process,
        ):
            try:
                code: int | None = process.wait(stretched(_LONGEST_S))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                code = None
            output.seek(0)
            return code, output.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=90.0, help="percent that have to be noticed")
    parser.add_argument("--near", action="store_true", help="leave out the second round: all tests of a room")
    options = parser.parse_args()
    log = ROOT / ".mutation" / f"sample-{options.seed}.jsonl"
    log.parent.mkdir(exist_ok=True)
    done = _read(log)
    chosen = random.Random(options.seed).sample(mutants_of(ROOT), options.count)
    reach = read_reach()
    with tempfile.TemporaryDirectory(prefix="shiplap-mutation-") as folder:
        workshop = Workshop(Path(folder))
        for mutant in chosen:
            if str(mutant) not in done:
                done[str(mutant)] = verdict = _try(workshop, mutant, choose(mutant, reach), near=options.near)
                with log.open("a") as file:
                    file.write(json.dumps({"mutant": str(mutant), "verdict": verdict, **_place(mutant)}) + "\n")
                print(f"{verdict[:100]:100}  {mutant}", flush=True)
    living = [str(mutant) for mutant in chosen if done[str(mutant)] == "lives"]
    unclear = [str(mutant) for mutant in chosen if done[str(mutant)].startswith("unclear")]
    share = 100 * (len(chosen) - len(living) - len(unclear)) / len(chosen)
    print("\n".join([f"{share:.0f} % of {len(chosen)} mutants noticed; not:", *living, *unclear]))
    return int(share < options.least)


def _try(workshop: Workshop, mutant: Mutant, files: Sequence[str], *, near: bool) -> str:
    verdict = workshop.try_one(mutant, files[:_FIRST]) if files else "lives"
    if verdict != "lives" or (near and files):
        return verdict
    return workshop.try_one(mutant, sorted({room_of(mutant), *files}))


def _place(mutant: Mutant) -> dict[str, object]:
    return {key: value for key, value in dataclasses.asdict(mutant).items() if key in ("path", "line")}


def _read(log: Path) -> dict[str, str]:
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {entry["mutant"]: entry["verdict"] for entry in entries if not entry["verdict"].startswith("unclear")}


if __name__ == "__main__":
    sys.exit(main())
