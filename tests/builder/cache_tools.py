"""Several machines, each with a store of its own, that share nothing but what ``--cache-to`` writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.build import BuildTools, build
from builder.cacheio.options import parse_cache_from, parse_cache_to
from builder.contexts.context import Context
from builder.request.request import BuildRequest, Output
from builder.result import BuildResult
from core.events import BuildPlanned, StepFinished, Warned
from registry.client import Client, ClientConfig, RetryPolicy
from tests.builder.test_build import NAME, Recorder, Workshop
from tests.toolkit.faulty import Relay, relay
from tests.toolkit.registries import DebianRegistry, debian_registry

Machines = Callable[..., "Machine"]

TWO = (
    "FROM base AS build\nRUN echo tools > /tools\nCOPY f /f\nRUN cat /tools /f > /out\n"
    "FROM base\nRUN mkdir /app\nCOPY --from=build /out /app/out\nRUN cat /app/out\n"
)


class Machine(Workshop):
    """A workshop that can speak to registries and takes ``--cache-from`` and ``--cache-to`` as they are written."""

    docker_config: Path

    def run(
        self,
        text: str,
        *,
        cache_from: tuple[str, ...] = (),
        cache_to: tuple[str, ...] = (),
        connect: Callable[[], Client] | None = None,
        **options: Any,
    ) -> BuildResult:
        self.seen = Recorder()
        with Context.open_directory(str(self.context)) as context:
            request = BuildRequest(
                text.encode(),
                "Dockerfile",
                context,
                cache_from=tuple(map(parse_cache_from, cache_from)),
                cache_to=tuple(map(parse_cache_to, cache_to)),
                **{"outputs": (Output("image", "", (NAME,)),), **options},
            )
            tools = BuildTools(self.store, self.launcher, self.seen, connect=connect or self.connect)
            return build(request, tools)

    def outcomes_of(self, text: str, **options: Any) -> tuple[int, int]:
        """Steps that ran, and steps that a cache answered."""
        result = self.run(text, **options)
        return result.executed, result.cached

    def connect(self) -> Client:
        return Client(ClientConfig(self.docker_config), policy=RetryPolicy(base_s=0.001, cap_s=0.002, tries=2))

    def warnings(self) -> list[str]:
        return [event.message for event in self.seen.events if isinstance(event, Warned)]

    def internal_steps(self) -> list[str]:
        """Names of what was done besides the Dockerfile's steps, in the order of their ends."""
        names = {s.id: s.name for event in self.seen.events if isinstance(event, BuildPlanned) for s in event.steps}
        ended = [names[event.id] for event in self.seen.events if isinstance(event, StepFinished)]
        return [name.removeprefix("[internal] ") for name in ended if name.startswith("[internal]")]


@contextlib.contextmanager
def machines(tmp_path: Path, base: Path) -> Iterator[Machines]:
    """``make(name)`` starts a machine whose context directory is that of all of them."""
    context = tmp_path / "context"
    docker_config = tmp_path / "docker"
    docker_config.mkdir()
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Machine:
            made = Machine(tmp_path / name, tmp_path / f"{name}-context", base)
            made.context = context
            made.docker_config = docker_config
            stack.callback(made.close)
            return made

        context.mkdir()
        yield make


@pytest.fixture
def make(tmp_path: Path, busybox_tar: Path) -> Iterator[Machines]:
    with machines(tmp_path, busybox_tar) as maker:
        (tmp_path / "context" / "f").write_text("file\n")
        yield maker


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def watched(registry: DebianRegistry) -> Iterator[Relay]:
    """The registry, behind a relay that sees every request."""
    with relay(registry.host) as started:
        yield started
