"""What a job that failed leaves for a shell in it: its container as data, but for what it got of secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from ci.model import Limits
from core.digests import DiffID

SHELL_S: Final = 3600.0
"""How long it is kept, from the job's end."""


class SecretPlace(Struct, frozen=True):
    """How the job got a secret: as a variable, or as a file. The other is empty."""

    name: str
    variable: str = ""
    file: str = ""


class CachePlace(Struct, frozen=True):
    """A cache of the job. path: in its container. owner, name: as ``images.generations.CacheName`` has them.

    limit: of what is seen, in bytes.
    """

    path: str
    owner: str
    name: str
    limit: int


class GitPlace(Struct, frozen=True):
    """What ``.git`` of a job's workspace was made of: a commit of a mirror, see ``ci.source.gitview.GitView``.

    project, url: of the mirror. fork: that borrows from it; empty: none.
    has_large: whether the workspace has what Git LFS has, in place of pointers.
    """

    project: str
    url: str
    fork: str
    commit: str
    branch: str
    history: int | None
    origin: str
    has_large: bool


class FailedFiles(Struct, frozen=True):
    """The container of a job that failed. Travels as data.

    root, workspace: layers of its root filesystem and of ``/work``, base first, with what the job wrote on top.
    env: its variables but those of secrets, in order.
    owner: the user and group to whom belongs what is root's on disk, see ``containers.spec.Tree``.
    secrets: those that it got.
    had_secrets: it, a service beside it, or perhaps a job whose outputs it got had some: they may be in its files.
    caches: that it had.
    git: None: it had no ``.git``.
    services: the names of those beside it.
    """

    root: tuple[DiffID, ...]
    workspace: tuple[DiffID, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    owner: tuple[int, int]
    has_network: bool
    limits: Limits
    secrets: tuple[SecretPlace, ...] = ()
    had_secrets: bool = False
    caches: tuple[CachePlace, ...] = ()
    git: GitPlace | None = None
    services: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[DiffID, ...]:
        """All that has to be in the store."""
        return (*self.root, *self.workspace)

    def to_json(self) -> str:
        return msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def from_json(cls, text: str) -> FailedFiles:
        return _decoder.decode(text)


class NewFiles(NamedTuple):
    """Files of a failed job that were written just now. size_bytes: of what the job itself wrote."""

    files: FailedFiles
    size_bytes: int


Keep: TypeAlias = Callable[[NewFiles], str]
"""Keeps what a failed job left, before its session ends. Returns why it does not, for people; empty: it is kept."""


class Entrance(Protocol):
    """Lets people into the container of a job that runs.

    What they do there takes part in what comes of the job, and nobody knows what it was: the result is not kept for
    reuse, nor what its caches hold.
    """

    def close(self) -> bool:
        """Let nobody in any more: the job's command has ended. Returns whether somebody was in."""


def _digest(kind: type, value: str) -> DiffID:
    assert kind is DiffID, "there is nothing else that is no plain value"
    return DiffID.parse(value)


_decoder: Final = msgspec.json.Decoder(FailedFiles, dec_hook=_digest)
