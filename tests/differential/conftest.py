"""Both builders, started once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.trees import remove_tree
from tests.differential.builders import BuildKit, Ours
from tests.differential.casefile import Case
from tests.differential.context import write_base, write_context
from tests.differential.outcomes import Outcome
from tests.differential.servers import serving_places

_PARALLEL = 3


class Bench:
    """Builds cases with both. BuildKit's builds begin at once, in the background, while Shiplap's follow the tests."""

    def __init__(self, directory: Path, busybox_tar: Path, cases: list[Case]) -> None:
        self._directory = directory
        base = directory / "base.tar"
        write_base(busybox_tar, base)
        self._shared = write_context(directory / "context")
        key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a key", "-f", key], check=True)
        self._base: list[str] | None = None
        self._ours = Ours(directory / "root", base, key)
        self._buildkit = BuildKit(directory, base, key)
        self._serving = ExitStack()
        self._places = self._serving.enter_context(serving_places(directory / "served"))
        self._threads = ThreadPoolExecutor(_PARALLEL)
        self._theirs: dict[tuple[str, str], Future[tuple[Outcome, Path]]] = {}
        for number, case in enumerate(cases):
            self._theirs[case.theme, case.name] = self._threads.submit(self._build_theirs, case, f"case-{number}")

    def words(self, text: str) -> str:
        """What the words of a case stand for, put in their place."""
        return self._places.put_into(text)

    def gained(self, ours: Outcome) -> list[str]:
        """The lines of Shiplap's image that its ``base`` has not."""
        if self._base is None:
            case = Case("", "base", dockerfile="FROM base\n")
            file = self._directory / "base.Dockerfile"
            file.write_text(case.dockerfile)
            self._base = self._ours.build(case, self._shared, file, self._places).image
        assert self._base is not None
        assert ours.image is not None
        return [line for line in ours.image if line not in self._base]

    def both(self, case: Case) -> tuple[Outcome, Outcome]:
        """BuildKit's outcome, and Shiplap's."""
        theirs, context = self._theirs[case.theme, case.name].result()
        return theirs, self._ours.build(case, context, self._dockerfile(case), self._places)

    def _build_theirs(self, case: Case, name: str) -> tuple[Outcome, Path]:
        context = write_context(self._directory / f"context-{name}", case) if case.changes_context else self._shared
        dockerfile = self._dockerfile(case)
        dockerfile.parent.mkdir(exist_ok=True)
        dockerfile.write_text(self._places.put_into(case.dockerfile))
        return self._buildkit.build(case, context, dockerfile, name, self._places), context

    def _dockerfile(self, case: Case) -> Path:
        return self._directory / case.theme / f"{case.name.replace('/', '_')}.Dockerfile"

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._buildkit.close()
        self._serving.close()
        self._ours.close()


@pytest.fixture(scope="session")
def both_builders(privileged: None, busybox_tar: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    cases = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "case" in item.callspec.params
    ]
    directory = Path(tempfile.mkdtemp(prefix="shiplap-differential-", dir="/tmp"))  # short: dockerd's sockets are below
    bench = None
    try:
        bench = Bench(directory, busybox_tar, [case for case in cases if isinstance(case, Case)])
        yield bench
    finally:
        if bench is not None:
            bench.close()
        remove_tree(str(directory))  # some builds make paths that are too deep for shutil
