"""For whom what a step leaves counts: known before it runs, and part of the key under which it is remembered.

A step is *common* when its key names all that takes part in it. It is its *project's* when a stored secret, an SSH
agent, a deploy key or a credential takes part, and its *domain's* when something does that came with the request, or
that earlier steps left in a cache mount; here, or in a step below or one that it reads from. What takes part and is not
in the operation is a *fact*, which joins the operation's digest: that a mount had no value, too. ``docs/trust.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from builder.graph.mounts import CacheMount, SecretMount, SshMount
from builder.graph.vertices import BaseOp, CopyOp, LayerOp, RunOp, Vertex
from builder.request.request import GIVEN, BuildRequest
from core.trust import Privacy, Scope, scoped

_MISSING: Final = "missing"


class StepClass(NamedTuple):
    """Where a step's record is looked for, and where it is put.

    facts: what takes part beside the operation.
    writes: the scope of what it leaves.
    asks: the scopes under which that may be already, the likeliest first.
    own: the scope of the domain alone.
    owner: the project scope, for what is told of the step.
    """

    facts: tuple[tuple[str, ...], ...]
    writes: Scope
    asks: tuple[Scope, ...]
    own: Scope
    owner: Scope

    def key(self, key: str) -> str:
        """Under which what the step leaves is put."""
        return scoped(key, self.writes)


class StepClasses:
    """The classes of one build's steps. Every vertex is asked or told after those that it builds on, and once."""

    def __init__(self, request: BuildRequest, of_base: Callable[[str], Privacy]) -> None:
        """Begin a build without any.

        of_base: how far goes what is built on an image, by its ID.
        """
        self._request = request
        self._of_base = of_base
        self._domain = request.domain
        self._privacies: dict[Vertex, Privacy] = {}

    def bring_base(self, vertex: Vertex, op: BaseOp) -> None:
        """Say that the vertex is a base image."""
        self._privacies[vertex] = self._of_base(op.image)

    def bring(self, vertex: Vertex, privacy: Privacy) -> None:
        """Say how far something fetched may go."""
        self._privacies[vertex] = privacy

    def of(self, vertex: Vertex, op: LayerOp) -> StepClass:
        """The class of a step, all of whose inputs are known."""
        own, facts = part_takers(op, self._request)
        below = (vertex.input, *vertex.sources) if vertex.input is not None else vertex.sources
        privacy = max(own, *(self._privacies[it] for it in below)) if below else own
        self._privacies[vertex] = privacy
        domain = self._domain
        return StepClass(facts, domain.writes(privacy), domain.asks(privacy), domain.scope, domain.project_scope)


def part_takers(op: LayerOp, request: BuildRequest) -> tuple[Privacy, tuple[tuple[str, ...], ...]]:
    """What takes part in a step by itself and is not in its operation: how private that is, and its facts."""
    if isinstance(op, CopyOp) and any(part.source is None and not part.context for part in op.parts):
        return request.context_privacy, ()  # which files there are is in the key
    if not isinstance(op, RunOp) or not (op.mounts or op.untracked_env):
        return Privacy.COMMON, ()
    found: list[tuple[Privacy, tuple[str, ...]]] = []
    if op.untracked_env:
        value = repr(op.untracked_env).encode("utf-8", "surrogateescape")
        found.append((Privacy.DOMAIN, ("proxies", request.counted(value))))
    for mount in op.mounts:
        match mount:
            case CacheMount():
                found.append((Privacy.DOMAIN, ("cache", mount.id)))
            case SecretMount(id=name):
                secret = request.secrets.get(name)
                privacy = Privacy.DOMAIN if name in request.own_secrets else Privacy.PROJECT
                fact = ("secret", name, _MISSING if secret is None else request.counted(secret))
                found.append((Privacy.COMMON if secret is None else privacy, fact))
            case SshMount(id=name):
                given = name in request.access.ssh
                fact = ("ssh", name, GIVEN if given else _MISSING)
                found.append((Privacy.PROJECT if given else Privacy.COMMON, fact))
    return max((privacy for privacy, _ in found), default=Privacy.COMMON), tuple(fact for _, fact in found)
