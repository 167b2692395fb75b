"""Jobs of a pipeline file, executed in this process one after the other, on a store of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ci.conditions import Event
from ci.ends import JobOutcome
from ci.execution.job import execute
from ci.graph import jobs_before
from ci.handover import given_to
from ci.outcome import Given, JobTools, MemoryPins
from ci.parsing import parse_pipeline
from ci.planning import plan
from containers.launcher import Launcher
from core.digests import DiffID
from core.events import BuildPlanned, StepFinished, StepOutput
from core.events import Event as Told
from core.platforms import Platform
from core.references import Reference
from images.archive import import_rootfs
from images.oci import ImageConfig
from images.store import Store
from tests.toolkit.layers import lay


class Seen:
    """A monitor that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Told] = []
        self._lock = threading.Lock()

    def emit(self, event: Told) -> None:
        with self._lock:
            self.events.append(event)

    @property
    def names(self) -> dict[int, str]:
        return {step.id: step.name for event in self.events if isinstance(event, BuildPlanned) for step in event.steps}

    @property
    def steps(self) -> dict[str, tuple[str, str]]:
        """How each step that has ended did so, and what it printed, by name."""
        said: dict[int, bytes] = {}
        found: dict[str, tuple[str, str]] = {}
        for event in self.events:
            if isinstance(event, StepOutput):
                said[event.id] = said.get(event.id, b"") + event.data
        for event in self.events:
            if isinstance(event, StepFinished):
                text = said.get(event.id, b"").decode("utf-8", "backslashreplace")
                found[self.names[event.id]] = (event.outcome, text)
        return found

    @property
    def said(self) -> str:
        """All output."""
        data = b"".join(event.data for event in self.events if isinstance(event, StepOutput))
        return data.decode("utf-8", "backslashreplace")


class JobShop:
    """A store with an image, a launcher, and what came of the jobs that were executed."""

    def __init__(self, root: Path, base: Path, name: str = "base:1") -> None:
        self.root = root
        self.store = Store.open(root)
        self.launcher = Launcher(self.store.tmp)
        self._base = base
        self.bring(base, name, env=("PATH=/bin:/usr/bin:/sbin", "OF_THE_IMAGE=yes"))
        self.seen: dict[str, Seen] = {}
        self.outcomes: dict[str, JobOutcome] = {}
        self.last = Seen()
        self.pins = MemoryPins()

    def bring(
        self, tar: Path, name: str, platform: str = "", env: tuple[str, ...] = (), user: str = "", **more: Any
    ) -> None:
        """Import a root filesystem as an image. more: of its configuration."""
        config = ImageConfig.for_platform(Platform.parse(platform) if platform else Platform.host())
        said = {"env": env, "user": user, "entrypoint": ("/bin/false",), **more}
        config = replace(config, config=replace(config.config, **said))
        with tar.open("rb") as stream:
            import_rootfs(self.store, stream, config, [Reference.parse(name).with_default_tag()])

    def bring_service(self, name: str = "service:1", **more: Any) -> None:
        """An image whose containers run what a service says. more: of its configuration."""
        self.bring(self._base, name, **{"env": ("PATH=/bin:/usr/bin:/sbin",), "entrypoint": (), **more})

    def source(self, files: Mapping[str, str]) -> tuple[DiffID, ...]:
        """A layer of files, as the source has them."""
        return (lay(self.store, files),)

    def run(
        self,
        text: str,
        *,
        files: Mapping[str, str] | None = None,
        facts: Mapping[str, str] | None = None,
        given: Mapping[str, Any] | None = None,
        **tools: Any,
    ) -> JobOutcome:
        """Execute the jobs of a file in its order, whatever becomes of each. Returns the last one's outcome."""
        known = {"SHIPLAP_EVENT": "push", **(facts or {})}
        planned = plan(parse_pipeline(text.encode()), Event("push", facts=known)).jobs
        hold = frozenset(each.name for each in planned if each.job.may_output_secrets)
        common = Given(facts=known, source=self.source(files or {}), secret_jobs=hold, **{"run": "7", **(given or {})})
        used = JobTools(self.store, self.launcher, pins=self.pins, masked=tuple(common.secrets.values()))
        used = used._replace(**tools)
        before = jobs_before(planned)
        self.outcomes, self.seen = {}, {}
        for job in planned:
            self.last = self.seen[job.name] = Seen()
            self.outcomes[job.name] = execute(
                job, given_to(job.name, before, self.outcomes, common), used._replace(monitor=self.last)
            )
        return self.outcomes[planned[-1].name]

    def attempt(self, text: str, seen: Seen, *, files: Mapping[str, str]) -> JobOutcome:
        """Execute the only job of a file, beside others."""
        (job,) = plan(parse_pipeline(text.encode()), Event("push")).jobs
        return execute(job, Given(source=self.source(files)), JobTools(self.store, self.launcher, seen))

    def left(self) -> list[str]:
        """What jobs have left on the disk."""
        kept = {row[0] for row in self.store.database.all("SELECT path FROM snapshots WHERE path IS NOT NULL")}
        return [name for name in os.listdir(self.root / "snapshots") if name not in kept and not name.startswith(".")]

    def close(self) -> None:
        self.launcher.close()
        self.store.close()


@contextmanager
def jobshop(directory: Path, base: Path, name: str = "base:1") -> Iterator[JobShop]:
    made = JobShop(directory / "root", base, name)
    try:
        yield made
    finally:
        made.close()
