"""Registries for the tests of the server: in-process, and in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from images.store import Store
from registry.server.app import application
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.registry.server.serving import InProcess, Server, serving
from tests.toolkit.passwords import cheap_hashes as cheap_hashes


@dataclass
class Clock:
    """Time that stands still until a test moves it. now: seconds since the epoch."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A registry in-process with everything around it."""

    store: Store
    registry: Registry
    clock: Clock
    client: InProcess
    extras: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_bench(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Bench]]:
    """Makes registries on one store with settings of the caller's."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store.open(tmp_path / "root"))

        def make(settings: ServerSettings | None = None, **options: Any) -> Bench:
            registry = Registry(store, settings or ServerSettings(access="open"), clock=clock, **options)
            stack.callback(registry.close)
            return Bench(store, registry, clock, InProcess(application(registry).test_client()))

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """An open registry with the default rules."""
    return make_bench()


@pytest.fixture
def client(bench: Bench) -> InProcess:
    return bench.client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own for one test."""
    with serving(tmp_path / "root") as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share: each uses repositories of its own."""
    with serving(tmp_path_factory.mktemp("registry") / "root") as running:
        yield running
