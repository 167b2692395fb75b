"""Mutation fuzzing: a byte changed, a piece cut, doubled, or taken from another input.

Some mutated inputs join the corpus, so that a run walks away from its seeds.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

_INTERESTING = (
    *(b"\0", b"\xff", b"\n", b"\\\n", b"<<EOF", b'"', b"'", b"$", b"${", b"[", b"-", b"/../", b"9999999999"),
    bytes(512),
)


def mutations(corpus: list[bytes], rng: random.Random) -> Iterator[bytes]:
    """Without end: mutated copies of the corpus, which the caller may add to meanwhile."""
    while True:
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(6):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1:
                    data[at:at] = rng.choice(_INTERESTING)
                case 2:
                    del data[at : at + rng.choice((1, 2, 10, 100, 512))]
                case 3:
                    size = rng.choice((1, 10, 100, 512))
                    data[at:at] = data[at : at + size]
                case 4:
                    other = rng.choice(corpus)
                    begin = rng.randrange(len(other) + 1)
                    data[at : at + 512] = other[begin : begin + 512]
                case _ if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
        yield bytes(data[: 1 << 16])


def fuzz(target: Target, *, seed: int, rounds: int | None = None, seconds: float | None = None) -> int:
    """Run until one of the bounds; how many inputs were tried. What the target raises comes out, with the input's name.

    An input that leads to a finding is written to a file whose name is in the error's notes.
    """
    rng = random.Random(seed)
    corpus = target.seeds()
    end = None if seconds is None else time.monotonic() + seconds
    for tried, mutated in enumerate(mutations(corpus, rng)):
        if (rounds is not None and tried >= rounds) or (end is not None and time.monotonic() > end):
            return tried
        data = target.repair(mutated)
        try:
            target.run(data)
        except Exception as error:
            path = Path(f"fuzz-{seed}-{tried}.bin").absolute()
            path.write_bytes(data)
            error.add_note(f"the input is in {path}")
            raise
        if rng.randrange(50) == 0 and len(corpus) < 500:
            corpus.append(data)
    raise AssertionError("mutations have no end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    tried = fuzz(TARGETS[given.target], seed=given.seed, seconds=given.seconds)
    print(f"{given.target}: {tried} inputs, seed {given.seed}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
