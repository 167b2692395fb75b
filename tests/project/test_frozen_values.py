"""What flows through the rooms is frozen: nobody who was handed a value finds it changed by somebody else."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import msgspec

from tests.mutation.mutants import ROOMS

STATEFUL = {
    "builder.attesting.packages.npm._Manifest",
    "cli.remote.manifest.Manifest",
    "cli.remote.servers.Contexts",
    "cli.service.supervisor.Child",
    "dockerfile_grammar.mounts._Draft",
    "images.cachestate.CacheLane",
    "images.cachestate.CacheLevel",
    "images.cachestate.CacheState",
    "images.collect._Plan",
    "images.found.Documents",
    "images.rebuild.Rebuilt",
    "pipelines.logs.marks._StepOnly",
    "registry.server.background._Task",
    "registry.server.browse._SpdxDocument",
    "registry.server.browse._SpdxPackage",
    "registry.server.browse._Statement",
    "registry.server.uploads._Open",
}
"""Those that are filled while they are made, or are somebody's state, and are handed to nobody."""


def _classes() -> Iterator[tuple[str, type]]:
    for room in ROOMS:
        for found in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}."):
            if not found.name.endswith("__main__") and ".migrations." not in found.name:
                module = importlib.import_module(found.name)
                for name, value in vars(module).items():
                    if isinstance(value, type) and value.__module__ == found.name:
                        yield f"{found.name}.{name}", value


def test_values_are_frozen_but_for_those_that_are_named() -> None:
    mutable = set()
    for name, each in _classes():
        if issubclass(each, msgspec.Struct):
            is_frozen = each.__struct_config__.frozen
        elif dataclasses.is_dataclass(each):
            is_frozen = each.__dataclass_params__.frozen  # type: ignore[attr-defined]
        else:
            continue
        if not is_frozen:
            mutable.add(name)
    assert mutable == STATEFUL
