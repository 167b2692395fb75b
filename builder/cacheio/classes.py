"""The class of a step: who may use its result. Known before the step runs, and part of the result's key.

A step is *common* when its key names everything that takes part in it. It is its *project's* when a stored secret, an
SSH agent, a deploy key or a credential takes part. It is its *domain's* when something takes part that came with the
request, or that earlier steps left in a cache mount. What takes part in the steps below it, or in those that it reads
from, counts as well. What takes part without being in the operation is a *fact*, and so is a mount that had no value.
Facts join the operation's digest. See ``docs/trust.md``.
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

    facts: what takes part, other than the operation.
    writes: the scope in which its result is put.
    asks: the scopes in which a result may be found, the likeliest first.
    own: the scope of the domain alone.
    owner: the project's scope, for what users see of the step.
    """

    facts: tuple[tuple[str, ...], ...]
    writes: Scope
    asks: tuple[Scope, ...]
    own: Scope
    owner: Scope

    def key(self, key: str) -> str:
        """The key under which the step's result is put."""
        return scoped(key, self.writes)


class StepClasses:
    """The classes of one build's steps. Call one method for each vertex, once, after those that it builds on."""

    def __init__(self, request: BuildRequest, of_base: Callable[[str], Privacy]) -> None:
        """Begin a build without any steps.

        of_base: says how far results may go that are built on an image, by the image's ID.
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
    """What takes part in the step itself without being in its operation: how private that is, and the facts."""
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
