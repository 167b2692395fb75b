"""Stacks of layers as lists of diff IDs: the chain ID of each height, and which of equal layers count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from core.digests import ChainID, DiffID, chain_on


def topmost_of_each(diff_ids: Sequence[DiffID]) -> tuple[DiffID, ...]:
    """The layers, base first, of equal ones the topmost alone: they make the same filesystem as all of them.

    overlayfs refuses the same directory twice, and nobody wants a layer unpacked a thousand times. Why the others do
    not count: let layer A stand at i and, above it, at j. A name is looked up from the top, layer by layer, in those
    that have its directory and are not cut off by something above.

    - Wherever the look-up gets to A's copy at i, it has come past the one at j in the same directory. That holds for
      the root; and a directory of i is reached only through j's, which has the same entry and, since the look-up goes
      on below it, is not opaque there.
    - So when i is asked for a name, j has been asked before. A file, link, whiteout or opaque directory ends the
      look-up at j. What j does not have, i does not have. A directory that both have gets its owner and mode from
      above i, and its contents are a look-up of the same kind, one level further down.
    - Whatever i hides of the layers below it, j hides as well, and that of the layers between too.

    What a layer between only implies (``images.parents``) is looked up in the layers below it, i among them. It shows
    only where A has the directory neither as an entry nor hidden, and there i has nothing to say of it.

    A layer is taken for what it has itself. One between with a hard link to a file of A, which none but hand-made ones
    have, finds that file no more; images.apply says so.
    """
    return tuple(dict.fromkeys(reversed(diff_ids)))[::-1]


def chains_of(diff_ids: Iterable[DiffID]) -> Iterator[ChainID]:
    """The chain ID up to and with each layer."""
    chain: ChainID | None = None
    for diff_id in diff_ids:
        chain = ChainID(diff_id) if chain is None else chain_on(chain, diff_id)
        yield chain
