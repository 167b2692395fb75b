"""The build graph: what the frontend plans and the solver executes. Pure data, no I/O.

A vertex is one operation on a root filesystem. It builds on the filesystem of vertex ``input`` (None: nothing below).
It reads from the filesystems of the vertices ``sources`` (``COPY --from``, mounts). Vertices of one stage form a chain.
Chains meet only at ``sources``, and where a stage begins on another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from builder.graph.copyspec import CopySpec
from builder.graph.mounts import RunMount
from core.digests import DiffID
from core.events import StepInfo
from core.platforms import Platform
from images.oci import History, ImageConfig

if TYPE_CHECKING:
    from builder.remotes.giturls import GitReference
    from containers.spec import Network

_KEY_FORMAT = "shiplap-1"
"""Part of every cache key. Change it when an operation's meaning changes; old records are then never found."""

DEFAULT_HOSTNAME: Final = "buildkitsandbox"
"""The host name that a RUN sees where nobody chose another. It is in no cache key."""


class BaseOp(msgspec.Struct, frozen=True):
    """An image's layers as they are; ``scratch`` has none. image: its ID."""

    diff_ids: tuple[DiffID, ...]
    image: str = ""


class RunFile(msgspec.Struct, frozen=True):
    """A file that exists only while a command runs: the body of ``RUN <<EOF`` that starts with ``#!``."""

    path: str
    content: bytes
    mode: int


class RunOp(msgspec.Struct, frozen=True):
    """One command in a container of its own. What it leaves in the filesystem is the layer.

    mounts: outer before inner; they refer to the vertex' sources by number.
    env: as the process sees it.
    untracked_env: proxies, which reach the process but not the cache key.
    insecure: with all capabilities.
    arg_names: names in ``env`` that are ARGs; they have the same effect as the others.
    foreign: the image's platform, when this machine cannot run it without an emulator.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: Network = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    untracked_env: tuple[tuple[str, str], ...] = ()
    files: tuple[RunFile, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    insecure: bool = False
    hostname: str = DEFAULT_HOSTNAME
    arg_names: frozenset[str] = frozenset()
    foreign: str = ""

    def identity(self) -> tuple[object, ...]:
        mounts = [mount.identity() for mount in self.mounts]
        files = [(file.path, file.content, file.mode) for file in self.files]
        security = ("insecure",) if self.insecure else ()
        named = (self.hostname,) if self.hostname != DEFAULT_HOSTNAME else ()
        seen = (self.cwd, self.user, self.network, self.extra_hosts, files, mounts, *security, *named)
        return ("RUN", self.args, sorted(self.env), *seen)


class CopyPart(msgspec.Struct, frozen=True):
    """What one instruction copies from one place.

    source: the number of the vertex' source to copy from; None: the build context, or the named one ``context``.
    """

    spec: CopySpec
    source: int | None = None
    context: str = ""


class CopyOp(msgspec.Struct, frozen=True):
    """COPY and ADD.

    parts: at least one, in order; they differ only in what is copied and from where.
    timestamp: mtime of everything copied, in place of its own (SOURCE_DATE_EPOCH).
    """

    parts: tuple[CopyPart, ...]
    timestamp: int | None = None

    @classmethod
    def of(cls, spec: CopySpec, context: str = "") -> CopyOp:
        """A copy from one build context."""
        return cls((CopyPart(spec, None, context),))

    @property
    def spec(self) -> CopySpec:
        """The instruction, with the first part's sources; the rest of it is the same for all parts."""
        return self.parts[0].spec

    @property
    def is_of_context(self) -> bool:
        """Whether everything is copied from the build context, and nothing from named contexts or other sources."""
        return len(self.parts) == 1 and self.parts[0].source is None and not self.parts[0].context

    @property
    def is_of_contexts(self) -> bool:
        """Whether everything is copied from build contexts, the named ones among them."""
        return all(part.source is None for part in self.parts)

    def identity(self) -> tuple[object, ...]:
        return ("COPY", [repr(part.spec) for part in self.parts], self.timestamp)  # whatever its origin: content counts


class HttpOp(msgspec.Struct, frozen=True):
    """A file by URL, as a filesystem with only this file, called ``name``. checksum: ``sha256:…``, or empty."""

    url: str
    name: str
    checksum: str = ""


class GitOp(msgspec.Struct, frozen=True):
    """The files of a commit, as a filesystem. keep_git_dir: with ``.git``."""

    reference: GitReference
    keep_git_dir: bool = False


class WorkdirOp(msgspec.Struct, frozen=True):
    """Make the missing directories of ``path``, 0755, owned by ``user`` (docker's USER syntax)."""

    path: str
    user: str
    timestamp: int | None = None

    def identity(self) -> tuple[object, ...]:
        return ("WORKDIR", self.path, self.user, self.timestamp)


FetchOp: TypeAlias = HttpOp | GitOp
Op: TypeAlias = BaseOp | FetchOp | RunOp | CopyOp | WorkdirOp
LayerOp: TypeAlias = RunOp | CopyOp | WorkdirOp


class SourceLines(msgspec.Struct, frozen=True):
    """Where in the Dockerfile an instruction stands: 1-based, inclusive. Line 0: it came with the base image."""

    first: int
    last: int


class Vertex(msgspec.Struct, frozen=True, eq=False):
    """One operation. Compared by identity: two equal instructions are two vertices with one cache key."""

    op: Op
    step: StepInfo
    lines: SourceLines
    input: Vertex | None = None
    sources: tuple[Vertex, ...] = ()


class Chain(msgspec.Struct, frozen=True):
    """The vertices of one stage, in order; the first is its base or continues the end of another chain."""

    name: str
    vertices: tuple[Vertex, ...]


class PlannedImage(msgspec.Struct, frozen=True):
    """The image that the target stage becomes: everything but the layers' digests and times.

    result: its filesystem; None when it has no layer.
    history: one entry per instruction, base first; an entry with no ``created`` gets one from its layer.
    platform: what it is built for.
    scanned: other filesystems that the SBOM describes, by name.
    dates_label: whether a label is to get the time when the image was made.
    """

    result: Vertex | None
    config: ImageConfig
    history: tuple[History, ...]
    platform: Platform
    scanned: tuple[tuple[str, Vertex], ...] = ()
    dates_label: bool = False

    @property
    def base_layers(self) -> int:
        """How many of its layers are the base image's."""
        vertex = self.result
        while vertex is not None and vertex.input is not None:
            vertex = vertex.input
        return len(vertex.op.diff_ids) if vertex is not None and isinstance(vertex.op, BaseOp) else 0


class Plan(msgspec.Struct, frozen=True):
    """The plan of a build: the target for each platform, and every chain that it needs.

    A chain stands after the chains that it reads from. Platforms share the vertices that they have in common.
    """

    images: tuple[PlannedImage, ...]
    chains: tuple[Chain, ...]
    steps: tuple[StepInfo, ...]

    @property
    def image(self) -> PlannedImage:
        """The first platform's."""
        return self.images[0]

    def vertices(self) -> Iterator[Vertex]:
        for chain in self.chains:
            yield from chain.vertices


def describe(op: FetchOp) -> str:
    """The address that something is fetched from, for messages: without credentials."""
    from builder.remotes.giturls import redacted

    if isinstance(op, HttpOp):
        return redacted(op.url)
    return redacted(op.reference.remote.url) + (f"#{op.reference.ref}" if op.reference.ref else "")


def op_digest(op: LayerOp, facts: Sequence[tuple[str, ...]] = ()) -> str:
    """Identify an operation, whatever it is applied to. facts: see ``builder.cacheio.classes``."""
    identity = (_KEY_FORMAT, op.identity(), *([facts] if facts else ()))
    return hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()


def cache_key(op: str, chain: str, content: str = "") -> str:
    """The identity of a step's result.

    op: ``op_digest``.
    chain: chain ID of the filesystem it is applied to, empty for none.
    content: digest of the files that it reads from elsewhere, empty for none.
    """
    return hashlib.sha256(f"{_KEY_FORMAT}\0{op}\0{chain}\0{content}".encode()).hexdigest()
