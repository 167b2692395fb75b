"""What came of a job, as data: between whoever did it, its run, and the database of a service."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from ci.reports.model import Reports
from core.digests import DiffID

Failure: TypeAlias = Literal["", "failure", "timeout", "limit"]
"""How a job failed: by itself, by its time-out, by one of its limits; empty: it did not, or never began."""

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Published(Struct, frozen=True):
    """An output for people.

    layer: has its files, and nothing else.
    count: how many files and links; size: bytes of these files.
    keep_s: how long it is kept, from the job's end.
    preview: whether a mark at the commit opens it.
    """

    name: str
    layer: DiffID
    count: int
    size: int
    keep_s: float
    preview: bool = False


class JobOutcome(Struct, frozen=True, omit_defaults=True):
    """What came of a job. Travels as data.

    message: why it failed, a sentence with the next step.
    failure: what ``retry`` asks for.
    exit_code: of its command, as a shell gives it; None: none was run.
    outputs: the layer of what it output; None: it has none.
    exports: what it wrote to SHIPLAP_EXPORTS; of a ``build``, IMAGE and DIGEST.
    image: of a ``build``, the ID of the image.
    reused_from: the run whose result this is.
    published: its outputs for people, by name.
    reports: what it reported; None: nothing. The only member that may be large.
    """

    state: Literal["succeeded", "reused", "failed"]
    message: str = ""
    failure: Failure = ""
    exit_code: int | None = None
    outputs: DiffID | None = None
    exports: Mapping[str, str] = _NOTHING
    image: str = ""
    reused_from: str = ""
    published: tuple[Published, ...] = ()
    reports: Reports | None = None

    def to_json(self) -> str:
        return msgspec.json.encode(self, enc_hook=_plain).decode()

    @classmethod
    def from_json(cls, text: str) -> JobOutcome:
        return _outcomes.decode(text)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)  # digests


def _digest(kind: type, value: str) -> DiffID:
    assert kind is DiffID, "an outcome has nothing else that is no plain value"
    return DiffID.parse(value)


_outcomes: Final = msgspec.json.Decoder(JobOutcome, dec_hook=_digest)
