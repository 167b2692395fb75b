"""Builds in this process, on a root of their own, for tests of what comes out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.build import BuildTools, build
from builder.contexts.context import Context
from builder.request.request import BuildRequest
from builder.result import BuildResult
from containers.launcher import Launcher
from core.events import Event
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig
from images.store import Store
from registry.client import Client


class Steps:
    """A monitor that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Workshop:
    """A store with the image ``base``, a launcher, and a context directory."""

    def __init__(self, root: Path, context: Path, base: Path) -> None:
        self.context = context
        self.store = Store.open(root)
        self.launcher = Launcher(self.store.tmp)
        self.seen = Steps()
        self.bring(base, "base")

    def bring(self, tar: Path, name: str, platform: Platform | None = None) -> None:
        """Import a root filesystem."""
        with tar.open("rb") as stream:
            config = ImageConfig.for_platform(platform or Platform.host())
            import_rootfs(self.store, stream, config, [Reference.parse(name).with_default_tag()])

    def build(
        self, text: str, *outputs: Any, connect: Callable[[], Client] | None = None, **options: Any
    ) -> BuildResult:
        self.seen = Steps()
        with Context.open_directory(str(self.context)) as context:
            request = BuildRequest(text.encode(), "Dockerfile", context, outputs=outputs, **options)
            return build(request, BuildTools(self.store, self.launcher, self.seen, connect=connect))

    def close(self) -> None:
        self.launcher.close()
        self.store.close()


@contextmanager
def workshop(directory: Path, base: Path) -> Iterator[Workshop]:
    """A workshop below ``directory``, whose context has the file ``f``."""
    context = directory / "context"
    context.mkdir()
    (context / "f").write_text("from the context\n" * 1000)
    made = Workshop(directory / "root", context, base)
    try:
        yield made
    finally:
        made.close()


class Layout:
    """An OCI layout in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def index(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.directory / "index.json").read_text())
        return document

    def root(self) -> dict[str, Any]:
        """The only descriptor of the index file."""
        (descriptor,) = self.index()["manifests"]
        assert isinstance(descriptor, dict)
        return descriptor

    def read(self, descriptor: dict[str, Any]) -> bytes:
        return (self.directory / "blobs" / str(descriptor["digest"]).replace(":", "/")).read_bytes()

    def document(self, descriptor: dict[str, Any]) -> Any:
        return json.loads(self.read(descriptor))
