"""The lineage of a build: the steps, stage by stage, of the last build of the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.explaining.details import StepDetail
    from images.store import Store

_KIND: Final = "lineage"
_PRINT: Final = "lineage-print"


class Lineage:
    """The builds that are versions of one another, and the steps of the last one.

    identity: the same for all builds that are versions of one another; empty for a build without other versions.
    """

    def __init__(self, store: Store, identity: str) -> None:
        self._store = store
        self._key = ascii(identity) if identity else ""  # paths may be undecodable

    def read(self) -> dict[str, list[StepDetail]]:
        """The steps of each stage, in the last build that had the stage."""
        data = self._store.cache.memo_get(_KIND, self._key) if self._key else None
        if data is None:
            return {}
        import msgspec

        from builder.explaining.details import StepDetail

        try:
            return msgspec.msgpack.decode(data, type=dict[str, list[StepDetail]])
        except msgspec.MsgspecError:  # of another version
            return {}

    def is_current(self, keys: Mapping[str, Sequence[str]]) -> bool:
        """Whether the last build had exactly these stages, with steps of these keys. Then nothing needs writing."""
        return not self._key or self.fingerprint() == _fingerprint(keys)

    def fingerprint(self) -> bytes | None:
        """A value that changes with every build that differs from the last one; None before the first build."""
        return self._store.cache.memo_get(_PRINT, self._key) if self._key else None

    def write(self, stages: Mapping[str, Sequence[StepDetail]], keys: Mapping[str, Sequence[str]]) -> None:
        """Replace the steps of these stages. Other stages, which another target has, stay."""
        if self._key:
            import msgspec

            data = msgspec.msgpack.encode({**self.read(), **stages}, enc_hook=str)  # digests
            self._store.cache.memo_put(_KIND, self._key, data)
            self._store.cache.memo_put(_PRINT, self._key, _fingerprint(keys))


def _fingerprint(keys: Mapping[str, Sequence[str]]) -> bytes:
    import hashlib

    text = "\n".join(f"{stage} {' '.join(of)}" for stage, of in sorted(keys.items()))
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def matching(old: Sequence[StepDetail], texts: Sequence[str]) -> list[StepDetail | None]:
    """For each instruction of a stage, the earlier step that it was; None for a new instruction.

    Equal instructions match each other, in order. Where as many were removed as were added, they count as changed.
    """
    from difflib import SequenceMatcher

    found: list[StepDetail | None] = [None] * len(texts)
    matcher = SequenceMatcher(None, [detail.text for detail in old], texts, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and i2 - i1 == j2 - j1):
            for before, now in zip(range(i1, i2), range(j1, j2), strict=True):
                if _verb(old[before].text) == _verb(texts[now]):
                    found[now] = old[before]
    return found


def _verb(text: str) -> str:
    return text.partition(" ")[0].upper()
